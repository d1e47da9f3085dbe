"""From records to what the report tells: means, both intervals, counts, what is missing, the grid's
order.
"""

from pathlib import Path

import pytest
from report_records import altered, count, diverged, make_records, make_study, through_disk

from lora_replication.errors import DataError
from lora_replication.reading import load_study
from lora_replication.report.summary import summarise
from lora_replication.statistics import cut, t_interval, wilson_interval


def test_a_complete_study(tmp_path: Path) -> None:
    study = make_study()
    summary = summarise(study, through_disk(study, make_records(study), tmp_path))
    assert summary.missing == ()
    assert summary.asked == 12 + 8 + 3 == len(summary.records)
    assert [row.name for row in summary.rows] == [
        "last_layers",
        "lora_default",
        "lora_tuned",
        "full",
        "grid_winner",
    ]
    assert all(len(row.runs) == 3 for row in summary.rows)


def test_intervals_have_the_right_n() -> None:
    study = make_study()
    row = summarise(study, make_records(study)).methods[0]
    # 781, 779 and 790 right of the same 1,000 reviews: the mean is 2350 / 3, and n stays 1,000, not
    # 3,000.
    assert row.test_sampling == wilson_interval((781 + 779 + 790) / 3, 1000, 0.95)
    assert row.parts["test"] == t_interval([0.781, 0.779, 0.790], 0.95)


def test_order_of_records_changes_nothing() -> None:
    study = make_study()
    records = make_records(study)
    shuffled = sorted(records, key=lambda record: record.asked.key)
    assert shuffled != records
    assert summarise(study, shuffled) == summarise(study, records)


def test_diverged_runs_count_but_are_in_no_mean_and_one_class_runs_are_in_it() -> None:
    study = make_study()
    records = make_records(study)
    records[0] = diverged(records[0])
    records[1] = altered(records[1], one_class=True, test=count(500, 1000))
    row = summarise(study, records).methods[0]
    assert (len(row.runs), row.diverged, row.one_class) == (3, 1, 1)
    assert row.parts["test"] == cut(t_interval([0.5, 0.790], 0.95), 0, 1)
    assert (row.parts["test"].low, row.parts["test"].high) == (0, 1)  # without the cut -1.2 and 2.5


def test_missing_runs_are_named_with_their_reason() -> None:
    study = make_study()
    records = make_records(study)
    records[5] = altered(records[5], status="failed", error="out of memory")
    summary = summarise(study, records[:3] + records[4:-1])
    assert [str(missing) for missing in summary.missing] == [
        "lora_default seed 1 (not run)",
        "lora_default seed 3 (failed: out of memory)",
        "grid_winner seed 103 (not run)",
    ]
    assert [len(row.runs) for row in summary.methods] == [3, 1, 3, 3]
    assert records[5] in summary.runs


def test_a_second_record_of_a_run_and_foreign_ones_are_ignored_and_counted() -> None:
    study = make_study()
    records = make_records(study)
    foreign = records[0].model_copy(
        update={"asked": records[0].asked.model_copy(update={"seed": 99})}
    )
    assert summarise(study, [*records, records[0], foreign], ignored=5).ignored == 7


def test_no_record_at_all() -> None:
    summary = summarise(make_study(), [])
    assert len(summary.missing) == summary.asked == 23
    assert summary.grid.best is None
    assert all(
        row.test_sampling is None and row.trainable_parameters is None for row in summary.rows
    )


def test_one_run_has_no_interval_over_seeds() -> None:
    study = make_study(run={"methods": ["full"], "seeds": [7]})
    row = summarise(study, make_records(study)).methods[0]
    assert row.parts["test"] is not None
    assert row.parts["test"].low is None
    assert row.test_sampling is not None
    assert row.test_sampling.low is not None


def test_the_grid_is_sorted_by_validation_with_ties_to_fewer_parameters_and_diverged_last() -> None:
    study = make_study()
    records = make_records(study)
    cells = records[12:20]
    for place, (val, parameters) in enumerate(
        [(400, 10), (450, 30), (450, 20), (449, 5), (300, 1), (450, 20), (1, 1), (2, 1)]
    ):
        cells[place] = altered(
            cells[place],
            val=count(val, 500),
            trainable_parameters=parameters,
            test=count(999 - place, 1000),
        )
    cells[6] = diverged(cells[6])
    grid = summarise(study, records[:12] + cells).grid
    assert [cells.index(cell) for cell in grid.cells] == [2, 5, 1, 3, 0, 4, 7, 6]
    assert grid.complete
    assert grid.diverged == 1
    assert grid.best is cells[2]


def test_a_grid_in_which_all_diverged_has_no_best() -> None:
    study = make_study()
    grid = summarise(study, [diverged(record) for record in make_records(study)[12:20]]).grid
    assert (len(grid.cells), grid.best) == (8, None)


def test_only_the_articles_setting_and_configuration_is_comparable() -> None:
    from report_records import PARAMS

    article = load_study(PARAMS)
    assert all(row.comparable for row in summarise(article, []).methods)
    assert not any(row.comparable for row in summarise(make_study(), []).methods)
    other = {"trains": "lora", "lora": article.methods["lora_tuned"].lora}
    changed = article.model_copy(
        update={
            "methods": {**article.methods, "lora_default": type(article.methods["full"])(**other)}
        }
    )
    assert [row.comparable for row in summarise(changed, []).methods] == [True, False, True, True]


def test_runs_on_different_test_sets_are_refused() -> None:
    study = make_study()
    records = make_records(study)
    records[1] = altered(records[1], test=count(9, 10))
    with pytest.raises(DataError, match=r"last_layers.*\[10, 1000\]"):
        summarise(study, records)
