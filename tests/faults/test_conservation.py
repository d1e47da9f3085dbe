"""Fault 29: records, failures and missing runs always add up to what was asked."""

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_replication.errors import IncompleteError
from lora_replication.record import Record
from lora_replication.report.build import build_report, read_results
from tests.report_records import (
    altered,
    diverged,
    make_predictions,
    make_records,
    make_study,
    make_workspace,
    results_of,
    write_study,
)

STUDY = make_study()
RECORDS = make_records(make_workspace(STUDY))
FATES = ("ok", "diverged", "failed", "timeout", "killed", "lost")
DONE = ("ok", "diverged")


def after(fates: list[str]) -> list[Record]:
    """The records that are left when each met its fate."""
    left = []
    for fate, record in zip(fates, RECORDS, strict=True):
        if fate == "ok":
            left.append(record)
        elif fate == "diverged":
            left.append(diverged(record))
        elif fate != "lost":
            left.append(altered(record, status=fate, train=None, val=None, test=None))
    return left


@pytest.mark.fault(29)
@pytest.mark.goal("property", "conservation")
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.sampled_from(FATES), min_size=len(RECORDS), max_size=len(RECORDS)))
def test_done_failed_and_missing_add_up(tmp_path_factory, fates):
    results = results_of(STUDY, after(fates), tmp_path_factory.mktemp("fates"))
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


@pytest.mark.fault(29)
def test_deleted_records_are_counted_and_named_and_name_no_winner(tmp_path: Path):
    workspace = make_workspace(STUDY, tmp_path)
    write_study(workspace, RECORDS, make_predictions(RECORDS))
    lost = [record.asked for record in RECORDS if record.asked.role == "cell"][:6]
    for run in lost:
        shutil.rmtree(workspace.folder(run))
    folder = tmp_path / "report"
    with pytest.raises(IncompleteError) as problem:
        build_report(workspace, folder)
    assert problem.value.exit_code == 5
    assert not folder.exists()
    build_report(workspace, folder, allow_partial=True)
    text = (folder / "report.md").read_text("utf-8")
    assert all(run.name in text for run in lost)
    results = read_results(folder)
    assert (results.grid.done, results.grid.asked) == (2, 8)
    assert results.grid.winner_by_validation is None
