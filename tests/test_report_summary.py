"""From records to results: what is in a mean, what is missing, the grid's order."""

from pathlib import Path

import pytest
from statsmodels.stats.proportion import proportion_confint

from lora_replication.errors import DataError
from lora_replication.report.results import Collapse
from lora_replication.statistics import clipped, t_interval
from lora_replication.study import MethodParams, Study
from tests import report_records as made


def records_of(study: Study) -> list:
    return made.make_records(made.make_workspace(study))


def test_diverged_runs_are_in_no_mean_and_collapsed_ones_are(tmp_path: Path) -> None:
    study = made.make_study()
    records = records_of(study)
    records[0] = made.diverged(records[0])
    records[1] = made.altered(records[1], one_class=True, test=made.count(500, 1000))
    row = made.results_of(study, records, tmp_path).methods[0]
    assert (row.runs_done, row.runs_diverged, row.runs_one_class) == (3, 1, 1)
    assert row.test == clipped(t_interval([0.5, 0.790], 0.95), 0, 1)
    assert (row.test.low, row.test.high) == (0, 1)  # unclipped -1.2 and 2.5


def test_missing_runs_are_named_with_their_reason(tmp_path: Path) -> None:
    study = made.make_study()
    records = records_of(study)
    records[5] = made.altered(records[5], status="failed", error="out of memory")
    results = made.results_of(study, records[:3] + records[4:-1], tmp_path)
    assert [str(missing) for missing in results.missing] == [
        "lora_default seed 1 (not run)",
        "lora_default seed 3 (failed: out of memory)",
        "grid_winner seed 103 (not run)",
    ]
    assert [row.runs_done for row in results.methods] == [3, 1, 3, 3]
    assert records[5].asked.key in [run.key for run in results.runs]


def test_records_of_other_parameters_and_copies_are_counted(tmp_path: Path) -> None:
    study = made.make_study()
    other = made.make_study(train={"device": "cpu", "precision": "fp32", "learning_rate": 1e-4})
    records = [*records_of(study)[:11], *records_of(other)[11:12]]
    results = made.results_of(study, records, tmp_path)
    assert (results.records_ignored, results.methods[3].runs_done) == (1, 2)
    copy = tmp_path / "runs" / "copy" / "seed-1"
    copy.mkdir(parents=True)
    (copy / "record.json").write_bytes(records[0].to_json())
    assert made.results_of(study, [], tmp_path).copies == ["copy/seed-1"]


def test_no_record_and_one_run(tmp_path: Path) -> None:
    results = made.results_of(made.make_study(), [], tmp_path / "none")
    assert len(results.missing) == results.runs_asked == 20  # the winner is not known yet
    assert {(row.test_sampling, row.trainable_parameters) for row in results.rows} == {(None, None)}
    assert (results.year, results.machines) == (None, [])
    study = made.make_study(run={"methods": ["full"], "seeds": [7]})
    row = made.results_of(study, records_of(study), tmp_path / "one").methods[0]
    assert row.test.low is None
    assert row.test_sampling.low is not None


def test_the_grid_is_ranked_by_validation_with_ties_to_fewer_parameters(tmp_path: Path) -> None:
    study = made.make_study()
    records = records_of(study)
    cells = records[12:20]
    outcomes = [(400, 10), (450, 30), (450, 20), (449, 5), (300, 1), (450, 20), (1, 1), (2, 1)]
    for place, (val, parameters) in enumerate(outcomes):
        test = made.count(999 - place, 1000)
        changes = {"val": made.count(val, 500), "trainable_parameters": parameters, "test": test}
        cells[place] = made.altered(cells[place], **changes)
    cells[6] = made.diverged(cells[6])
    names = [cell.asked.name for cell in cells]
    results = made.results_of(study, records[:12] + cells, tmp_path)
    found = {run.name: run.place for run in results.cells}
    assert [names.index(name) for name in sorted(found, key=found.get)] == [2, 5, 1, 3, 0, 4, 7, 6]
    assert (results.grid.done, results.grid.diverged) == (8, 1)
    assert results.grid.winner_by_validation == names[2]
    gone = [made.diverged(record) for record in cells]
    for number, left in enumerate((cells[:7], gone)):  # incomplete, and without any result
        found = made.results_of(study, left, tmp_path / str(number))
        assert found.grid.winner_by_validation is None


def test_collapse_counts_diverged_and_low_runs_and_has_the_exact_interval() -> None:
    ends = [(16.0, None, False), (16.0, 0.599, True), (16.0, 0.6, False), (1.0, 0.9, False)]
    one, other = Collapse.by_alpha(ends, 0.95)
    assert (one.alpha, one.configurations, one.collapsed, one.one_class) == (1, 1, 0, 0)
    assert (other.alpha, other.configurations, other.collapsed, other.one_class) == (16, 3, 2, 1)
    exact = proportion_confint(2, 3, 0.05, "beta")
    assert (other.share.low, other.share.high) == pytest.approx(exact)
    # All of 10: the lower end solves p^10 = 0.025.
    share = Collapse.by_alpha([(1.0, None, False)] * 10, 0.95)[0].share
    assert (share.low, share.high) == (pytest.approx(0.025 ** (1 / 10)), 1.0)


def test_only_the_articles_setting_and_configuration_is_comparable(tmp_path: Path) -> None:
    study = made.article_study()
    assert all(row.comparable for row in made.results_of(study, [], tmp_path).methods)
    assert not any(r.comparable for r in made.results_of(made.make_study(), [], tmp_path).methods)
    other = MethodParams(trains="lora", lora=study.methods["lora_tuned"].lora)
    changed = study.model_copy(update={"methods": study.methods | {"lora_default": other}})
    found = {row.name: row.comparable for row in made.results_of(changed, [], tmp_path).methods}
    assert [name for name, comparable in found.items() if not comparable] == ["lora_default"]


def test_runs_on_different_test_sets_are_refused(tmp_path: Path) -> None:
    study = made.make_study()
    records = records_of(study)
    records[1] = made.altered(records[1], test=made.count(9, 10))
    with pytest.raises(DataError, match=r"last_layers.*\[10, 1000\]"):
        made.results_of(study, records, tmp_path)


def test_addresses_and_paths_stay_on_the_machine(tmp_path: Path) -> None:
    study = made.make_study(
        tracking={"uri": "https://me:canary@example.org", "experiment": "x"},
        data={"source": "archive", "path": "/home/canary/reviews.tar.gz"},
        execution={"executor": "ray", "ray_address": "canary:6379"},
    )
    assert b"canary" not in made.results_of(study, records_of(study), tmp_path).to_json()
