"""Conservation and fault 29: records, failures and missing runs always add up to what was asked,
whatever became of the records.
"""

import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lora_replication.report.export import results_json, table_csv

from lora_replication.errors import IncompleteError
from lora_replication.record import read_records, run_folder, write_record
from lora_replication.report.build import build_report
from lora_replication.report.comparisons import view
from lora_replication.report.summary import summarise
from tests.report_records import (
    altered,
    diverged,
    make_answers,
    make_manifest,
    make_records,
    make_study,
)

STUDY = make_study()
RECORDS = make_records(STUDY)
CELLS = [record for record in RECORDS if record.asked.role == "cell"]
METHODS = [record for record in RECORDS if record.asked.role == "method"]
FATES = st.lists(
    st.sampled_from(["ok", "diverged", "failed", "timeout", "killed", "lost"]),
    min_size=len(RECORDS),
    max_size=len(RECORDS),
)


def after(fates: list[str]) -> list:
    """The records that are left when each met its fate."""
    changed = {"ok": lambda record: record, "diverged": diverged}
    return [
        changed.get(
            fate,
            lambda record, fate=fate: altered(
                record, status=fate, error="some", train=None, val=None, test=None
            ),
        )(record)
        for record, fate in zip(RECORDS, fates, strict=True)
        if fate != "lost"
    ]


@pytest.mark.fault(29)
@pytest.mark.goal("property", "conservation")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(FATES)
def test_done_failed_and_missing_add_up(fates):
    records = after(fates)
    summary = summarise(STUDY, records, 0)
    for asked, role in ((CELLS, "cell"), (METHODS, "method")):
        kinds = [
            fate for fate, record in zip(fates, RECORDS, strict=True) if record.asked.role == role
        ]
        missing = [one for one in summary.missing if one.role == role]
        assert len(kinds) - sum(kind in ("ok", "diverged") for kind in kinds) == len(missing)
        assert {(one.name, one.seed) for one in missing} <= {
            (record.asked.name, record.asked.seed) for record in asked
        }
    cells = [
        fate for fate, record in zip(fates, RECORDS, strict=True) if record.asked.role == "cell"
    ]
    done, unfinished = (
        sum(fate in kinds for fate in cells)
        for kinds in (("ok", "diverged"), ("failed", "timeout", "killed"))
    )
    assert (len(summary.grid.cells), len(summary.grid.unfinished)) == (done, unfinished)
    if done < len(CELLS):
        assert not summary.grid.complete


def tables(records: list) -> tuple:
    summary = summarise(STUDY, records, 0)
    return table_csv(summary), results_json(
        summary, make_manifest().model_dump(mode="json"), view(summary, make_answers(RECORDS))
    )


@pytest.fixture(scope="module")
def in_order():
    return tables(RECORDS)


@pytest.mark.goal("property", "order of completion")
@settings(max_examples=20, deadline=None)
@given(st.permutations(RECORDS))
def test_the_table_does_not_depend_on_the_order_in_which_runs_ended(in_order, shuffled):
    assert tables(shuffled) == in_order


@pytest.mark.fault(29)
def test_six_deleted_records_are_counted_and_named_and_name_no_winner(tmp_path):
    for record in RECORDS:
        write_record(
            record,
            run_folder(
                STUDY.study,
                record.asked.role,
                record.asked.name,
                record.asked.seed,
                tmp_path / "runs",
            ),
        )
    lost = CELLS[:6]
    for record in lost:
        shutil.rmtree(
            run_folder(STUDY.study, "cell", record.asked.name, record.asked.seed, tmp_path / "runs")
        )
    left = [
        record
        for _, record in read_records(STUDY.study, tmp_path / "runs")
        if record.asked.role != "winner"
    ]
    with pytest.raises(IncompleteError) as told:
        build_report(STUDY, left, make_manifest(), tmp_path / "report")
    assert told.value.exit_code == 5
    assert not (tmp_path / "report").exists()
    build_report(STUDY, left, make_manifest(), tmp_path / "report", allow_partial=True)
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    assert all(record.asked.name in text for record in lost)
    assert "2 of 8 configurations done" in text
    assert "No winner is named" in text
    assert json.loads((tmp_path / "report" / "results.json").read_text())["complete"] is False
