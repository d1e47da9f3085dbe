"""Cost and machine."""

from report_records import make_records, make_study

from lora_replication.report.machine_section import cost_statement, machine_table
from lora_replication.report.summary import summarise


def test_each_machine_once_with_its_runs() -> None:
    records = make_records(make_study())
    dirty = records[0].where.model_copy(
        update={"git_dirty": True, "gpu": "NVIDIA A10G", "started": "2027-01-01T00:00:00+00:00"}
    )
    records[0] = records[0].model_copy(update={"where": dirty})
    rows = machine_table(records).rows
    assert [row[0].text for row in rows] == ["22", "1"]
    assert [cell.text for cell in rows[0][1:7]] == [
        "0123456789ab",
        "Example CPU @ 2.50GHz",
        "none",
        "2",
        "8.00 GiB",
        "Linux 6.1 x86_64",
    ]
    assert (rows[1][1].note, rows[1][1].alert, rows[1][3].text) == (
        "with local changes",
        True,
        "NVIDIA A10G",
    )
    assert rows[0][7].text == "python 3.11.7, torch 2.13.0, transformers 5.23.0"


def test_cost_adds_up() -> None:
    study = make_study(run={"methods": ["full"], "seeds": [8]})
    # One run of 34.5 + 8 / 8 + 6.25 s, eight of 34.5 + 1 / 8 + 6.25 s, and no winner: 41.75 + 327
    # s.
    said = cost_statement(summarise(study, make_records(study)[:9]))
    assert (
        said
        == "Training and evaluation took 6 min 09 s in all: 41.8 s for methods (1 run), 5 min 27 s for the grid (8 runs)."
    )
    assert cost_statement(summarise(study, [])) == "No run has been made yet."
