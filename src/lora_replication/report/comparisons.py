"""Methods against each other on the same seeds and the same reviews, and each method on kinds of
test reviews.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lora_replication.record import Record
from lora_replication.report.answers import Answers
from lora_replication.report.summary import MethodSummary, Summary
from lora_replication.statistics import (
    Interval,
    McNemar,
    PairedComparison,
    clustered_interval,
    cut,
    holm,
    mcnemar,
    paired_t,
    smallest_difference_of_reviews,
    smallest_difference_of_seeds,
    two_level_bootstrap,
    wilson_interval,
)
from lora_replication.study import ReportParams


@dataclass(frozen=True)
class Comparison:
    """Two methods on the seeds and reviews that both have. Differences are of the second less the
    first, as fractions.

    Attributes:
        first, second: the methods' names.
        seeds: those that both have a result for.
        differences: of test accuracy, one per seed.
        paired: the paired t test over seeds.
        p_holm: its p value after Holm's correction over all comparisons of the study; null for one
            seed.
        mcnemar: the exact test for each seed whose two runs have predictions.
        both: the two-level bootstrap over seeds and reviews; null without predictions.
        both_by_movie: the same with reviews drawn movie by movie; null where movies are unknown.
        smallest_by_seeds, smallest_by_reviews: the smallest difference that this many seeds, and
            one pair of runs on this many reviews, would find with the power in params; null where
            that can't be told.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    paired: PairedComparison
    p_holm: float | None
    mcnemar: tuple[McNemar, ...]
    both: Interval | None
    both_by_movie: Interval | None
    smallest_by_seeds: float | None
    smallest_by_reviews: float | None


@dataclass(frozen=True)
class Slices:
    """One method on kinds of test reviews, at its mean over runs. Intervals are over reviews; null
    where the kind is unknown or empty.

    Attributes:
        name: of the method, or ``grid_winner``.
        runs: number of runs with predictions.
        plain: Wilson interval over all test reviews; by_movie: the same mean with reviews clustered
            by movie.
        both: two-level bootstrap over runs and reviews.
        unseen_movies: on reviews whose movie has no training review.
        unique_texts: on reviews whose text stands nowhere else in the study.
    """

    name: str
    runs: int
    plain: Interval
    by_movie: Interval | None
    both: Interval
    unseen_movies: Interval | None
    unique_texts: Interval | None


@dataclass(frozen=True)
class Views:
    """What the answers, review by review, add to a summary."""

    comparisons: tuple[Comparison, ...]
    slices: tuple[Slices, ...]


def view(summary: Summary, answers: Answers) -> Views:
    """Compare every two methods, and look at each on kinds of test reviews."""
    report = summary.study.report
    pairs = [
        _pair(first, second, answers, report) for first, second in combinations(summary.methods, 2)
    ]
    made = [pair for pair in pairs if pair]
    adjusted = iter(holm([pair.paired.p_value for pair in made if pair.paired.p_value is not None]))
    corrected = [
        _with_holm(pair, next(adjusted)) if pair.paired.p_value is not None else pair
        for pair in made
    ]
    slices = (_slices(row, answers, report) for row in summary.rows)
    return Views(tuple(corrected), tuple(one for one in slices if one))


def _with_holm(pair: Comparison, p_holm: float) -> Comparison:
    return replace(pair, p_holm=p_holm)


def _pair(
    first: MethodSummary, second: MethodSummary, answers: Answers, report: ReportParams
) -> Comparison | None:
    one, two = (
        {run.asked.seed: run for run in row.runs if run.happened.test} for row in (first, second)
    )
    seeds = [seed for seed in one if seed in two]
    if not seeds:
        return None
    accuracies = [
        [run.happened.test.fraction for seed in seeds if (run := runs[seed]).happened.test]
        for runs in (one, two)
    ]
    paired = paired_t(accuracies[0], accuracies[1], report.confidence)
    right = [(answers.of(one[seed]), answers.of(two[seed])) for seed in seeds]
    both = [(a, b) for a, b in right if a is not None and b is not None]
    tests = tuple(mcnemar(a, b) for a, b in both)
    matrix = np.array([b.astype(np.int8) - a.astype(np.int8) for a, b in both]) if both else None
    return Comparison(
        first=first.name,
        second=second.name,
        seeds=tuple(seeds),
        differences=tuple(b - a for a, b in zip(*accuracies, strict=True)),
        paired=paired,
        p_holm=None,
        mcnemar=tests,
        both=_bootstrap(matrix, report, None),
        both_by_movie=_bootstrap(matrix, report, answers.movies)
        if answers.movies is not None
        else None,
        smallest_by_seeds=_by_seeds(paired, len(seeds), report),
        smallest_by_reviews=_by_reviews(tests, report),
    )


def _bootstrap(
    matrix: NDArray[np.int8] | None, report: ReportParams, movies: NDArray[np.str_] | None
) -> Interval | None:
    if matrix is None:
        return None
    draws, seed = report.bootstrap_draws, report.bootstrap_seed
    return two_level_bootstrap(matrix, report.confidence, draws=draws, seed=seed, clusters=movies)


def _by_seeds(paired: PairedComparison, seeds: int, report: ReportParams) -> float | None:
    if paired.deviation is None:
        return None
    return smallest_difference_of_seeds(
        paired.deviation, seeds, level=report.confidence, power=report.power
    )


def _by_reviews(tests: Sequence[McNemar], report: ReportParams) -> float | None:
    discordant = sum(test.only_first + test.only_second for test in tests)
    reviews = sum(test.reviews for test in tests)
    if not discordant:
        return None
    return smallest_difference_of_reviews(
        discordant / reviews, tests[0].reviews, level=report.confidence, power=report.power
    )


def _slices(row: MethodSummary, answers: Answers, report: ReportParams) -> Slices | None:
    right = [one for run in row.runs if (one := answers.of(run)) is not None]
    if not right:
        return None
    matrix = np.array(right)
    mean = matrix.mean(axis=0)
    return Slices(
        name=row.name,
        runs=len(right),
        plain=wilson_interval(float(mean.sum()), mean.size, report.confidence),
        by_movie=cut(clustered_interval(mean, answers.movies, report.confidence), 0.0, 1.0)
        if answers.movies is not None
        else None,
        both=two_level_bootstrap(
            matrix, report.confidence, draws=report.bootstrap_draws, seed=report.bootstrap_seed
        ),
        unseen_movies=_on(mean, answers.unseen_movie, report.confidence),
        unique_texts=_on(
            mean, None if answers.repeated is None else ~answers.repeated, report.confidence
        ),
    )


def _on(
    mean: NDArray[np.float64], chosen: NDArray[np.bool_] | None, level: float
) -> Interval | None:
    if chosen is None or not chosen.any():
        return None
    return wilson_interval(float(mean[chosen].sum()), int(chosen.sum()), level)


def without_predictions(records: Sequence[Record], answers: Answers) -> int:
    """How many of the methods' and the winner's runs with a test accuracy have no predictions."""
    return sum(
        record.asked.role != "cell"
        and record.happened.test is not None
        and answers.of(record) is None
        for record in records
    )
