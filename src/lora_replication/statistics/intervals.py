"""Conditional intervals, each named by its source of variance: test sampling (reviews) or seeds
(runs). The interval for both is that of ``components``.

An interval over reviews says how far the accuracy could be off because the test set is a sample,
for the trained models; one over seeds, how far the mean could be off because of the random draws,
on the same reviews. Neither includes the other source of variation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An estimate with its two-sided confidence interval.

    Attributes:
        estimate: in the unit of the input; a fraction from 0 to 1 for accuracies.
        low, high: ends of the interval, both None where the data allow none (one run).
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

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    if reviews < 1 or not 0 <= correct <= reviews:
        raise ValueError(
            f"{correct} correct of {reviews}; "
            "allowed: 0 to the number of reviews, which is at least 1"
        )
    _check_level(level)
    fraction = correct / reviews
    z = float(stats.norm.isf((1 - level) / 2))
    shrink = 1 + z**2 / reviews
    centre = (fraction + z**2 / (2 * reviews)) / shrink
    half = z / shrink * math.sqrt(fraction * (1 - fraction) / reviews + z**2 / (4 * reviews**2))
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == reviews else centre + half
    source = f"test sampling, n = {reviews:,} review{'s' if reviews > 1 else ''}"
    return Interval(fraction, low, high, level, reviews, "Wilson score", source)


def exact_interval(count: int, n: int, level: float, of: str) -> Interval:
    """The exact (Clopper-Pearson) interval of the share ``count`` of ``n`` things, ``of``."""
    low, high = map(float, stats.binomtest(count, n).proportion_ci(level, method="exact"))
    kind, source = "exact (Clopper-Pearson)", f"{of}, n = {n}, one run each"
    return Interval(count / n, low, high, level, n, kind, source)


def t_interval(values: Sequence[float], level: float) -> Interval:
    """Student's t interval of the mean over runs with different seeds; it may reach beyond the
    range of the values.

    Args:
        values: one per run, at least one. One run gives its value and no interval.
        level: nominal coverage, above 0 and below 1.
    """
    _check_level(level)
    runs = len(values)
    if not runs:
        raise ValueError("a t interval needs at least one value")
    mean = fmean(values)
    if runs == 1:
        source = "seeds, n = 1 run: one run has no interval over seeds"
        return Interval(mean, None, None, level, 1, "Student t", source)
    half = float(stats.t.isf((1 - level) / 2, runs - 1)) * stdev(values) / math.sqrt(runs)
    source = f"seeds, n = {runs} runs"
    return Interval(mean, mean - half, mean + half, level, runs, "Student t", source)


def clipped(interval: Interval, lowest: float, highest: float) -> Interval:
    """``interval`` clipped to the values that the quantity can take, such as 0 to 1 for accuracies.

    That changes no coverage: the quantity is in what is left whenever it was in the whole.
    """
    if interval.low is None or interval.high is None:
        return interval
    return replace(interval, low=max(interval.low, lowest), high=min(interval.high, highest))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level}; allowed: above 0 and below 1")
