"""Fault 29: records, failures and missing runs always add up to what was asked."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_replication.record import Record
from tests import report_records as made

STUDY = made.make_study()
RECORDS = made.make_records(made.make_workspace(STUDY))
FATES = ("ok", "diverged", "failed", "timeout", "killed", "lost")
DONE = ("ok", "diverged")


def after(fates: list[str]) -> list[Record]:
    """The records that are left when each met its fate."""
    left = []
    for fate, record in zip(fates, RECORDS, strict=True):
        if fate == "ok":
            left.append(record)
        elif fate == "diverged":
            left.append(made.diverged(record))
        elif fate != "lost":
            left.append(made.altered(record, status=fate, train=None, val=None, test=None))
    return left


@pytest.mark.fault(29)
@pytest.mark.goal("property", "conservation")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(FATES), min_size=len(RECORDS), max_size=len(RECORDS)))
def test_done_failed_and_missing_add_up(tmp_path_factory, fates):
    results = made.results_of(STUDY, after(fates), tmp_path_factory.mktemp("fates"))
    met = list(zip(fates, RECORDS, strict=True))
    for role in ("method", "cell"):
        mine = [fate for fate, record in met if record.asked.role == role]
        done = sum(fate in DONE for fate in mine)
        assert sum(run.is_done for run in results.runs if run.role == role) == done
        assert sum(one.role == role for one in results.missing) == len(mine) - done
        assert results.asked_by_role[role] == len(mine)
    done = sum(run.is_done for run in results.runs)
    assert done + len(results.missing) == results.runs_asked
    cells = [fate for fate, record in met if record.asked.role == "cell"]
    whole = all(fate in DONE for fate in cells) and "ok" in cells
    assert (results.grid.winner_by_validation is not None) == whole
