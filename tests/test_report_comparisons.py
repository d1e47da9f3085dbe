"""Intervals and pairs, in what the recomputed study does not show."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Results
from lora_replication.report.tables import tables
from lora_replication.report.words import ABSENT
from lora_replication.statistics.components import crossed_components
from tests import report_records as made

RECORDS = made.make_records(made.make_workspace(made.make_study()))
TESTED = made.make_predictions(RECORDS)
FIRST = [TESTED.right["method", "last_layers", seed] for seed in (1, 2, 3)]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return made.results_of(made.make_study(), RECORDS, tmp_path_factory.mktemp("study"), TESTED)


def test_without_predictions_there_is_no_interval_and_it_is_said_why(tmp_path: Path) -> None:
    results = made.results_of(made.make_study(), RECORDS, tmp_path)
    assert (len(results.comparisons), results.without_predictions) == (6, 15)
    assert {(pair.interval, pair.p_value) for pair in results.comparisons} == {(None, None)}
    found = tables(results)
    assert {"variance", "scores", "kinds"} & set(found) == set()
    sentence = "no predictions, so no interval"
    for cell in (found["comparisons"].rows[0][2], found["methods"].rows[0][2]):
        assert (cell.text, cell.note) == (ABSENT, sentence)


def test_one_seed_has_the_interval_of_reviews_alone(tmp_path: Path) -> None:
    study = made.make_study(run={"methods": ["last_layers"], "seeds": [1]})
    row = made.results_of(study, RECORDS[:1], tmp_path, TESTED).methods[0]
    assert row.interval == crossed_components([FIRST[0]], TESTED.movies).interval(0.95)
    assert row.interval.source == "reviews alone, n = 1 run on 1,000 reviews in 120 movies"


def test_only_shared_seeds_are_compared(tmp_path: Path) -> None:
    records = [made.diverged(RECORDS[0]), *RECORDS[1:5], *RECORDS[6:]]
    pair = made.results_of(made.make_study(), records, tmp_path, TESTED).comparisons[0]
    assert (pair.seeds, pair.p_value) == ([2], None)
    assert "reviews alone, n = 1 run" in pair.interval.source


def test_movies_that_are_unknown_are_reviews(tmp_path: Path) -> None:
    unknown = Predictions(TESTED.right)
    results = made.results_of(made.make_study(), RECORDS, tmp_path, unknown)
    row = results.methods[0]
    assert row.interval == crossed_components(np.array(FIRST)).interval(0.95)
    assert row.variance.by_review is None
    assert [cell.note for cell in tables(results)["kinds"].rows[0][1:]] == ["none, or unknown"] * 2


def test_the_best_are_those_of_exact_tests_in_the_committed_grid() -> None:
    folder, right = Path(__file__).resolve().parents[1] / "reports" / "minilm-small", {}
    for file in (folder / "records" / "grid").glob("*/*/predictions.parquet"):
        rows = [row for row in pq.read_table(file).to_pylist() if row["split"] == "val"]
        right[file.parts[-3]] = [(r["logit_1"] > r["logit_0"]) == (r["label"] == 1) for r in rows]

    def p_value(other: str, name: str) -> float:
        ahead = [one for one, mine in zip(right[other], right[name], strict=True) if one != mine]
        return binomtest(sum(ahead), len(ahead), alternative="greater").pvalue if ahead else 1.0

    kept = {name for name in right if min(p_value(other, name) for other in right) > 0.05 / 31}
    found = json.loads((folder / "results.json").read_bytes())["grid"]
    assert (len(right), set(found["not_excluded"])) == (32, kept)
    assert found["not_excluded"][0] == found["winner_by_validation"]


def test_without_everyones_predictions_nothing_is_said_of_the_best(tmp_path: Path) -> None:
    names = [record.asked.name for record in RECORDS if record.asked.role == "cell"]
    for known in (names, names[1:]):
        tested = replace(TESTED, cells=dict.fromkeys(known, FIRST[0]))
        kept = made.results_of(made.make_study(), RECORDS, tmp_path, tested).grid.not_excluded
        assert (kept is None) if known != names else (set(kept) == set(names))


def test_the_tables_of_pairs_and_variances(results: Results) -> None:
    pair, row = results.comparisons[0], tables(results)["comparisons"].rows[0]
    # 853 - 781, 861 - 779 and 849 - 790 of 1,000; every run of LoRA is better.
    assert row[0].text == "LoRA default \N{MINUS SIGN} last layers"
    assert (row[1].text, row[1].note, row[7].text) == ("+7.10", "n = 3 seeds", "1.00")
    low, high = (100 * end for end in (pair.interval.low, pair.interval.high))
    assert row[2].text == f"{low:+.2f} to {high:+.2f}".replace("-", "\N{MINUS SIGN}")
    assert (row[3].text, row[4].text) == (f"{pair.p_value:.3f}", "1.000")
    row, found = tables(results)["variance"].rows[0], results.methods[0].variance.components
    shown = [f"{100 * part**0.5:.2f}" for part in (found.of_seeds, found.of_reviews)]
    assert [cell.text for cell in row[1:3]] == shown
    # 781, 779 and 790 of 1,000; nothing is nudged, so there is no such column.
    assert [cell.text for cell in row[8:]] == ["1.10", "78.10", "78.33"]
