"""The tables of methods and runs."""

from report_records import altered, diverged, make_records, make_study

from lora_replication.reading import load_study
from lora_replication.report.summary import summarise
from lora_replication.report.tables import methods_table, runs_table
from lora_replication.report.wording import ABSENT


def test_methods_beside_the_article() -> None:
    study = make_study()
    table = methods_table(summarise(study, make_records(study)))
    row = [cell.text for cell in table.rows[0]]
    assert row[:6] == ["last_layers", "148,610", "3 of 3", "82.33", "78.33", "78.33"]
    assert row[6:8] == ["75.67 to 80.78", "76.88 to 79.79"]
    assert row[8:] == ["592,130", "86.68 / 87.26 / 86.22", "6.02"]
    assert [cell.note for cell in table.rows[0][6:8]] == ["n = 1,000 reviews", "n = 3 runs"]
    assert all(len(row) == len(table.columns) for row in table.rows)


def test_each_number_of_the_article_carries_the_reservation() -> None:
    study = make_study()
    table = methods_table(summarise(study, make_records(study)))
    assert "Not DistilBERT on the whole of IMDb" in table.caption
    numbers = [cell for row in table.rows for cell in row[8:] if cell.text != ABSENT]
    assert len(numbers) == 4 * 3 - 1
    assert all(cell.note == "not comparable: DistilBERT on the whole of IMDb" for cell in numbers)


def test_the_articles_own_study_carries_none() -> None:
    from report_records import PARAMS

    study = load_study(PARAMS)
    table = methods_table(summarise(study, []))
    assert {cell.note for row in table.rows for cell in row[8:]} == {"", "not stated"}
    assert "cannot confirm" not in table.caption


def test_odd_runs_are_pointed_out() -> None:
    study = make_study()
    records = make_records(study)
    records[0], records[1] = diverged(records[0]), altered(records[1], one_class=True)
    records[2] = altered(records[2], status="failed", error="out of memory")
    summary = summarise(study, records)
    runs = methods_table(summary).rows[0][2]
    assert (runs.text, runs.note, runs.alert) == ("2 of 3", "1 diverged, 1 one class", True)
    statuses = [row[2] for row in runs_table(summary).rows[:4]]
    assert [status.text for status in statuses] == ["diverged", "ok, one class", "failed", "ok"]
    assert [status.note for status in statuses] == ["from step 17", "", "out of memory", ""]
    assert [status.alert for status in statuses] == [True, True, True, False]


def test_a_run_in_a_row() -> None:
    study = make_study()
    records = make_records(study)
    table = runs_table(
        summarise(study, [altered(records[0], notes=["rank 8 is above 2"]), *records[1:]])
    )
    # 34.5 + 1 / 8 seconds of training and 6.25 of evaluation.
    expected = [
        "last_layers",
        "1",
        "ok",
        "3",
        "82.10",
        "78.00",
        "78.10",
        "40.9 s",
        "31,234",
        "1.15 GiB",
        records[0].asked.key[:10],
    ]
    assert [cell.text for cell in table.rows[0]] == expected
    assert table.rows[0][0].note == "rank 8 is above 2"
    assert len(table.rows) == 15


def test_one_run_says_that_it_has_no_interval() -> None:
    study = make_study(run={"methods": ["full"], "seeds": [7]})
    cell = methods_table(summarise(study, make_records(study))).rows[0][7]
    assert (cell.text, cell.note) == (ABSENT, "one run: no interval")
