"""Pairwise comparisons and kinds of reviews, in what the recomputed study does not show."""

from pathlib import Path
from typing import Any

import pytest

from lora_replication.report.columns import tables
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Results
from lora_replication.report.words import ABSENT
from tests.report_records import (
    diverged,
    make_predictions,
    make_records,
    make_study,
    make_workspace,
    results_of,
)

RECORDS = make_records(make_workspace(make_study()))
TESTED = make_predictions(RECORDS)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return results_of(make_study(), RECORDS, tmp_path_factory.mktemp("study"), TESTED)


def test_without_predictions_there_are_still_differences_over_seeds(tmp_path: Path) -> None:
    results = results_of(make_study(), RECORDS, tmp_path)
    assert (len(results.comparisons), results.slices, results.without_predictions) == (6, [], 15)
    for pair in results.comparisons:
        assert (pair.both, pair.mcnemar, pair.detectable_by_reviews) == (None, [], None)
    row = tables(results)["comparisons"].rows[0]
    assert [row[place].text for place in (4, 5, 7)] == [ABSENT] * 3


def test_only_shared_seeds_are_compared(tmp_path: Path) -> None:
    records = [diverged(RECORDS[0]), *RECORDS[1:5], *RECORDS[6:]]
    pair = results_of(make_study(), records, tmp_path, TESTED).comparisons[0]
    assert pair.seeds == [2]
    assert (pair.paired.p_value, pair.p_holm, pair.detectable_by_seeds) == (None, None, None)
    assert len(pair.mcnemar) == 1


def test_the_parameters_of_bootstrap_and_power_change_what_they_should(
    results: Results, tmp_path: Path
) -> None:
    def changed(**report: Any) -> Any:
        study = make_study(report=report)
        return results_of(study, RECORDS[:6], tmp_path, TESTED).comparisons[0]

    plain = results.comparisons[0]
    assert changed().both == plain.both
    assert changed(bootstrap_seed=2).both != plain.both
    assert changed(bootstrap_draws=500).both != plain.both
    assert changed(power=0.9).detectable_by_seeds > plain.detectable_by_seeds
    assert changed(power=0.9).detectable_by_reviews > plain.detectable_by_reviews


def test_the_table_of_pairs(results: Results) -> None:
    table = tables(results)["comparisons"]
    pair, row = results.comparisons[0], table.rows[0]
    # 853 - 781, 861 - 779 and 849 - 790 of 1,000.
    assert row[0].text == "LoRA default \N{MINUS SIGN} last layers"
    assert (row[1].text, row[2].note, row[5].text) == ("+7.10", "n = 3 seeds", "3 of 3")
    assert row[3].text == f"{pair.paired.p_value:.3g}"
    assert row[3].note == f"Holm {pair.p_holm:.3g}"
    low, high = (100 * end for end in (pair.both.low, pair.both.high))
    assert row[4].text == f"{low:+.2f} to {high:+.2f}".replace("-", "\N{MINUS SIGN}")
    assert row[6].text == f"{100 * pair.detectable_by_seeds:.2f}"
    assert table.headings[6:] == (
        "Detectable difference (80 % power), seeds",
        "Detectable difference (80 % power), reviews",
    )


def test_the_table_of_kinds_of_reviews(results: Results, tmp_path: Path) -> None:
    row = tables(results)["slices"].rows[0]
    one = results.slices[0]
    assert (row[0].text, row[0].note) == ("last layers", "3 runs")
    assert row[1].text == f"{100 * one.plain.estimate:.2f}"
    low, high = (100 * end for end in (one.plain.low, one.plain.high))
    assert row[1].note == f"{low:.2f} to {high:.2f}, n = 1,000"
    assert row[2].note == "n = 1,000 reviews in 120 movies"
    single = Predictions({name: one for name, one in TESTED.right.items() if name[2] == 1})
    unknown = tables(results_of(make_study(), RECORDS, tmp_path, single))["slices"].rows[0]
    assert [unknown[place].note for place in (0, 2, 4, 5)] == [
        "1 run", "movies unknown", "none, or unknown", "none, or unknown",
    ]  # fmt: skip
