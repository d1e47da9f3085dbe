"""The grid's table and what is said of its winner."""

import pytest
from report_records import altered, diverged, make_happened, make_record, make_records, make_study

from lora_replication.grid.choice import runners_up
from lora_replication.grid.space import cell_jobs, runner_up_jobs
from lora_replication.report.grid_section import choice_table, grid_statement, grid_table
from lora_replication.report.summary import summarise


def test_all_configurations_by_validation() -> None:
    study = make_study()
    table = grid_table(summarise(study, make_records(study)))
    assert [row[0].text for row in table.rows] == [str(place) for place in range(1, 9)]
    validation = [float(row[6].text) for row in table.rows]
    assert validation == sorted(validation, reverse=True)
    assert [cell.text for cell in table.rows[0][1:5]] == ["r8-a1-query-value", "8", "1", "110,592"]


def test_a_complete_grid_names_its_winner_and_quotes_fresh_seeds() -> None:
    study = make_study()
    done, winner, fresh = grid_statement(summarise(study, make_records(study)))
    assert done.startswith("8 of 8 configurations done; 0 diverged, 0 answer one class")
    assert "r8-a1-query-value (LoRA, rank 8, alpha 1, on query and value), 87.60 %" in winner
    # 868, 861 and 874 right of 1,000.
    assert "(3 of 3 runs done): mean test accuracy 86.77 %" in fresh
    assert "seeds, n = 3 runs" in fresh
    assert "test sampling, n = 1,000 reviews" in fresh


def test_an_incomplete_grid_names_no_winner() -> None:
    study = make_study()
    records = make_records(study)
    records[13] = altered(records[13], status="timeout", error="3600 s")
    records[15] = diverged(records[15])
    said = grid_statement(summarise(study, records[:12] + records[13:20]))
    assert said == [
        "6 of 8 configurations done; 1 diverged, 0 answer one class for every test review, 1 ended without a result.",
        "No winner is named while 2 configurations are missing.",
    ]


def test_a_winner_without_fresh_runs_is_not_quoted() -> None:
    study = make_study()
    said = grid_statement(summarise(study, make_records(study)[:20]))
    assert said[-1] == "The winner has not been trained on fresh seeds yet."


def test_one_fresh_run_has_no_interval_over_seeds() -> None:
    study = make_study()
    assert (
        "no t interval (seeds, n = 1 run"
        in grid_statement(summarise(study, make_records(study)[:21]))[-1]
    )


def test_fresh_runs_that_all_diverged_give_no_number() -> None:
    study = make_study()
    records = make_records(study)
    said = grid_statement(
        summarise(study, records[:20] + [diverged(record) for record in records[20:]])
    )
    assert said[-1] == "None of the winner's runs on fresh seeds has an accuracy."


def test_fresh_runs_of_another_configuration_are_noticed() -> None:
    study = make_study()
    records = make_records(study)
    records[14] = altered(records[14], val=records[19].happened.val, trainable_parameters=10**9)
    assert grid_statement(summarise(study, records))[-1].startswith("Mind:")


def test_configurations_that_were_given_up_are_counted_with_what_that_saved() -> None:
    study = make_study()
    records = make_records(study)
    cells = [place for place, record in enumerate(records) if record.asked.role == "cell"]
    for place in cells[:2]:
        records[place] = altered(records[place], stopped_after=1)
    saved = 2 * (study.train.epochs - 1)
    assert (
        f"2 were given up after an epoch that answered every validation review alike, which saved {saved} of {8 * study.train.epochs}"
        in (grid_statement(summarise(study, records))[1])
    )


def test_configurations_beside_the_winner_are_shown_with_their_difference_from_it() -> None:
    """The winner has 868, 861 and 874 of 1,000 right; one beside it 870, 860 and 871: +2, -1 and
    -3, mean -0.67 reviews of 1,000.
    """
    study = make_study()
    study = make_study(grid=study.grid.model_dump() | {"runners_up": 1})
    records = [record for record in make_records(study) if record.asked.role != "runner_up"]
    cells = {record.asked.name: record for record in records if record.asked.role == "cell"}
    jobs = cell_jobs(study)
    chosen = runners_up(study, jobs, cells)
    for job in runner_up_jobs(study, chosen):
        records.append(
            make_record(
                study, job, make_happened(job, {101: 870, 102: 860, 103: 871}[job.seed], 36_864)
            )
        )
    summary = summarise(study, records)
    assert not summary.missing
    assert summary.asked == len(records)
    winner, *others = choice_table(summary).rows
    assert winner[0].text == "r8-a1-query-value (winner)"
    assert [row[0].text for row in others] == [job.name for job in chosen]
    assert others[0][4].text == "86.70"
    assert others[0][6].text == "-0.07"
    low, _, high = others[0][7].text.partition(" to ")
    half = (
        4.302653 * 2.516611 / 3**0.5 / 10
    )  # t with 2 degrees of freedom; the standard deviation of +2, -1 and -3 is 2.517
    assert (float(low), float(high)) == pytest.approx((-0.0667 - half, -0.0667 + half), abs=0.006)


def test_runs_beside_the_winner_that_are_missing_are_counted() -> None:
    study = make_study()
    study = make_study(grid=study.grid.model_dump() | {"runners_up": 1})
    summary = summarise(
        study, [record for record in make_records(study) if record.asked.role != "runner_up"]
    )
    assert {run.role for run in summary.missing} == {"runner_up"}
    assert len(summary.missing) == summary.asked_beside > 0
