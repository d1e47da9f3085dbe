"""Pairwise comparisons on the same seeds and reviews, and each method on kinds of reviews."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_replication import statistics as stats
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Comparison, MethodRow, Results, RunRow, Slices
from lora_replication.statistics import Interval, McNemar, PairedComparison
from lora_replication.study import ReportParams


def compare(results: Results, tested: Predictions, report: ReportParams) -> Results:
    """``results`` with every two methods compared, and each looked at on kinds of test reviews."""
    pairs = [_pair(results, *two, tested, report) for two in combinations(results.methods, 2)]
    made = [pair for pair in pairs if pair]
    adjusted = iter(
        stats.holm([pair.paired.p_value for pair in made if pair.paired.p_value is not None])
    )
    corrected = [
        pair.model_copy(update={"p_holm": next(adjusted)})
        if pair.paired.p_value is not None
        else pair
        for pair in made
    ]
    slices = [_slices(row.name, results.runs_of(row), tested, report) for row in results.rows]
    shown = [run for run in results.runs if run.role != "cell" and run.test_correct is not None]
    update = {
        "comparisons": corrected,
        "slices": [one for one in slices if one],
        "without_predictions": sum(_right(run, tested) is None for run in shown),
    }
    return results.model_copy(update=update)


def _right(run: RunRow, tested: Predictions) -> NDArray[np.bool_] | None:
    return tested.right.get((run.role, run.name, run.seed))


def _pair(
    results: Results,
    first: MethodRow,
    second: MethodRow,
    tested: Predictions,
    report: ReportParams,
) -> Comparison | None:
    one, two = (
        {run.seed: run for run in results.runs_of(row) if run.test_accuracy is not None}
        for row in (first, second)
    )
    seeds = [seed for seed in one if seed in two]
    if not seeds:
        return None
    before, after = ([runs[seed].test_accuracy or 0.0 for seed in seeds] for runs in (one, two))
    paired = stats.paired_t(before, after, report.confidence)
    right = [(_right(one[seed], tested), _right(two[seed], tested)) for seed in seeds]
    both = [(a, b) for a, b in right if a is not None and b is not None]
    tests = [stats.mcnemar(a, b) for a, b in both]
    matrix = np.array([b.astype(np.int8) - a.astype(np.int8) for a, b in both])
    movies = tested.movies
    return Comparison(
        first=first.name,
        second=second.name,
        seeds=seeds,
        differences=[b - a for a, b in zip(before, after, strict=True)],
        paired=paired,
        mcnemar=tests,
        both=_bootstrap(matrix, report) if both else None,
        both_by_movie=_bootstrap(matrix, report, movies) if both and movies is not None else None,
        detectable_by_seeds=_by_seeds(paired, len(seeds), report),
        detectable_by_reviews=_by_reviews(tests, report),
    )


def _bootstrap(matrix: NDArray[Any], report: ReportParams, movies: Any = None) -> Interval:
    draws, seed = report.bootstrap_draws, report.bootstrap_seed
    return stats.two_level_bootstrap(
        matrix, report.confidence, draws=draws, seed=seed, clusters=movies
    )


def _by_seeds(paired: PairedComparison, seeds: int, report: ReportParams) -> float | None:
    if paired.deviation is None:
        return None
    deviation, level, power = paired.deviation, report.confidence, report.power
    return stats.smallest_difference_of_seeds(deviation, seeds, level=level, power=power)


def _by_reviews(tests: Sequence[McNemar], report: ReportParams) -> float | None:
    discordant = sum(test.only_first + test.only_second for test in tests)
    if not discordant:
        return None
    share, reviews = discordant / sum(test.reviews for test in tests), tests[0].reviews
    level, power = report.confidence, report.power
    return stats.smallest_difference_of_reviews(share, reviews, level=level, power=power)


def _slices(
    name: str, runs: Sequence[RunRow], tested: Predictions, report: ReportParams
) -> Slices | None:
    right = [one for run in runs if (one := _right(run, tested)) is not None]
    if not right:
        return None
    matrix, level, movies = np.array(right), report.confidence, tested.movies
    mean = matrix.mean(axis=0)
    unique = None if tested.repeated is None else ~tested.repeated
    return Slices(
        name=name,
        runs=len(right),
        plain=stats.wilson_interval(float(mean.sum()), mean.size, level),
        by_movie=None
        if movies is None
        else stats.clipped(stats.clustered_interval(mean, movies, level), 0.0, 1.0),
        both=_bootstrap(matrix, report),
        unseen_movies=_on(mean, tested.unseen_movie, level),
        unique_texts=_on(mean, unique, level),
    )


def _on(
    mean: NDArray[np.float64], chosen: NDArray[np.bool_] | None, level: float
) -> Interval | None:
    if chosen is None or not chosen.any():
        return None
    return stats.wilson_interval(float(mean[chosen].sum()), int(chosen.sum()), level)
