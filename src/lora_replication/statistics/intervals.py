"""Intervals, each named by its source of variance: test sampling (reviews or movies) or seeds
(runs).

An interval over reviews says how far the accuracy could have come out differently on other reviews
of the same kind, for the one trained model; an interval over seeds says how far the mean could have
come out differently with other random draws, on the same reviews. Neither holds the other.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided confidence interval.

    Attributes:
        estimate: in the unit of the input; a fraction from 0 to 1 for accuracies.
        low, high: ends of the interval, both null where the data allow none (one run).
        level: nominal coverage, 0 to 1.
        n: number of reviews or runs.
        kind: how the interval was computed.
        source: the source of variance in words, with n; where there is no interval, why.
    """

    estimate: float
    low: float | None
    high: float | None
    level: float
    n: int
    kind: str
    source: str


def wilson_interval(correct: float, reviews: int, level: float) -> Interval:
    """The Wilson score interval of an accuracy, for the sampling of ``reviews`` test reviews.

    Args:
        correct: reviews answered correctly, 0 to ``reviews``. The mean over runs on the same
            reviews may be a fraction; ``reviews`` stays the size of the test set, as runs on the
            same reviews are not independent samples of them.
        reviews: number of test reviews, at least 1.
        level: nominal coverage, above 0 and below 1.

    Raises:
        ValueError: a number is out of its range.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    _check_counts(correct, reviews, level)
    fraction = correct / reviews
    z = float(stats.norm.isf((1 - level) / 2))
    shrink = 1 + z**2 / reviews
    centre = (fraction + z**2 / (2 * reviews)) / shrink
    half = z / shrink * math.sqrt(fraction * (1 - fraction) / reviews + z**2 / (4 * reviews**2))
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == reviews else centre + half
    return Interval(fraction, low, high, level, reviews, "Wilson score", _test_sampling(reviews))


def exact_interval(correct: int, reviews: int, level: float) -> Interval:
    """The exact (Clopper-Pearson) interval of an accuracy, for the sampling of ``reviews`` test
    reviews.

    It covers at least ``level`` for every true accuracy, and is wider than Wilson's for that.

    Args:
        correct: reviews answered correctly, a whole number from 0 to ``reviews``.
        reviews: number of test reviews, at least 1.
        level: nominal coverage, above 0 and below 1.

    Raises:
        ValueError: a number is out of its range.

    Source: C. J. Clopper, E. S. Pearson, Biometrika 26 (1934).
    """
    _check_counts(correct, reviews, level)
    ends = stats.binomtest(correct, reviews).proportion_ci(level, method="exact")
    return Interval(
        correct / reviews,
        float(ends.low),
        float(ends.high),
        level,
        reviews,
        "exact (Clopper-Pearson)",
        _test_sampling(reviews),
    )


def t_interval(values: Sequence[float], level: float) -> Interval:
    """Student's t interval of the mean over runs with different seeds; it may reach beyond the
    range of the values.

    Args:
        values: one per run, at least one. One run gives its value and no interval.
        level: nominal coverage, above 0 and below 1.

    Raises:
        ValueError: there is no value, or the level is out of its range.
    """
    _check_level(level)
    runs = len(values)
    if not runs:
        raise ValueError("a t interval needs at least one value")
    mean = fmean(values)
    if runs == 1:
        return Interval(
            mean,
            None,
            None,
            level,
            1,
            "Student t",
            "seeds, n = 1 run: one run has no interval over seeds",
        )
    half = float(stats.t.isf((1 - level) / 2, runs - 1)) * stdev(values) / math.sqrt(runs)
    return Interval(
        mean, mean - half, mean + half, level, runs, "Student t", f"seeds, n = {runs} runs"
    )


def prediction_interval(values: Sequence[float], level: float) -> Interval:
    """Where one more run with a fresh seed would fall, on the same reviews: mean -+ t sd sqrt(1 +
    1/n), for runs scattered normally.

    Args:
        values: one per run, at least one. One run gives its value and no interval.
        level: nominal coverage, above 0 and below 1.

    Raises:
        ValueError: there is no value, or the level is out of its range.
    """
    mean = t_interval(values, level)
    if mean.low is None or mean.high is None:
        return Interval(mean.estimate, None, None, level, 1, "Student t, one more run", mean.source)
    half = (mean.high - mean.low) / 2 * math.sqrt(mean.n + 1)
    return Interval(
        mean.estimate,
        mean.estimate - half,
        mean.estimate + half,
        level,
        mean.n,
        "Student t, one more run",
        f"seeds, one more run beside n = {mean.n} runs",
    )


def clustered_interval(values: ArrayLike, clusters: ArrayLike, level: float) -> Interval:
    """Student's t interval of a mean over reviews that come in clusters (all reviews of a movie),
    which are sampled together.

    The variance is that of the cluster totals of the residuals, times G / (G - 1) for G clusters; t
    has G - 1 degrees of freedom.

    Args:
        values: (reviews,), right answers as 0 or 1, or their mean over runs.
        clusters: (reviews,), a label of each review's cluster.
        level: nominal coverage, above 0 and below 1.

    Raises:
        ValueError: the shapes differ, nothing is given, or the level is out of its range.

    Source: K.-Y. Liang, S. L. Zeger, Biometrika 73 (1986), for a mean.
    """
    _check_level(level)
    x = np.asarray(values, dtype=np.float64)
    labels, member = np.unique(np.asarray(clusters), return_inverse=True)
    if x.ndim != 1 or x.shape != member.shape or not x.size:
        raise ValueError(
            f"values {x.shape} and clusters {member.shape}; allowed: one cluster for each of at least one value"
        )
    mean, groups = float(x.mean()), len(labels)
    source = f"test sampling, n = {x.size:,} reviews in {groups:,} movies"
    if groups == 1:
        return Interval(
            mean, None, None, level, x.size, "clustered t", f"{source}: one movie has no interval"
        )
    totals = np.bincount(member, weights=x - mean)
    error = math.sqrt(groups / (groups - 1) * float(totals @ totals)) / x.size
    half = float(stats.t.isf((1 - level) / 2, groups - 1)) * error
    return Interval(mean, mean - half, mean + half, level, x.size, "clustered t", source)


def cut(interval: Interval, lowest: float, highest: float) -> Interval:
    """``interval`` without what lies outside the values that the quantity can take, such as 0 and 1
    for accuracies.

    A t interval knows no such ends. Cutting it changes no coverage: the quantity lies in what is
    left whenever it lay in the whole.
    """
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(interval.low, lowest), high=min(interval.high, highest))


def _test_sampling(reviews: int) -> str:
    return f"test sampling, n = {reviews:,} review{'s' if reviews > 1 else ''}"


def _check_counts(correct: float, reviews: int, level: float) -> None:
    if reviews < 1 or not 0 <= correct <= reviews:
        raise ValueError(
            f"{correct} correct of {reviews}; allowed: 0 to the number of reviews, which is at least 1"
        )
    _check_level(level)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level}; allowed: above 0 and below 1")
