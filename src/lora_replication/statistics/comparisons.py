"""Tests of a difference and of sameness, for methods that answered the same reviews and were
trained with the same seeds.

A p value is None where the data allow no test (one run). For runs without any scatter it is 0 or 1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from lora_replication.statistics.intervals import Interval, t_interval


@dataclass(frozen=True)
class McNemar:
    """Two runs on the same reviews; the source of variance is test sampling, n = ``reviews``.

    Attributes:
        only_first, only_second: reviews that one answers rightly and the other wrongly.
        reviews: all reviews.
        p_value: exact and two-sided, that both are right equally often.
    """

    only_first: int
    only_second: int
    reviews: int
    p_value: float

    @property
    def difference(self) -> float:
        """Accuracy of the second minus that of the first, a fraction from -1 to 1."""
        return (self.only_second - self.only_first) / self.reviews


@dataclass(frozen=True)
class PairedComparison:
    """Two methods over shared seeds; the source of variance is seeds, n = number of pairs.

    Attributes:
        difference: mean of second minus first with its t interval, in the unit of the input.
        p_value: two-sided, that the mean difference is 0; None for one pair.
        deviation: standard deviation of the differences, None for one pair.
    """

    difference: Interval
    p_value: float | None
    deviation: float | None


def mcnemar(first: ArrayLike, second: ArrayLike) -> McNemar:
    """The exact McNemar test: a binomial test of the reviews on which the two disagree.

    Args:
        first, second: (reviews,), whether each review was answered rightly.

    Source: Q. McNemar, Psychometrika 12 (1947); exact form as in A. Agresti, "Categorical Data
    Analysis", section 10.1.
    """
    one, two = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if one.ndim != 1 or one.shape != two.shape or not one.size:
        raise ValueError(
            f"answers {one.shape} and {two.shape}; "
            "allowed: two equally long rows of at least one review"
        )
    only_first, only_second = int((one & ~two).sum()), int((two & ~one).sum())
    discordant = only_first + only_second
    p = float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_first, only_second, one.size, p)


def two_proportions_test(first: int, second: int, reviews: int) -> float:
    """The two-sided p value of the pooled z test that two accuracies are equal.

    The variance is that of test sampling alone. It takes the runs as independent: on the same
    reviews a paired test would find more.

    Args:
        first, second: reviews answered rightly, 0 to ``reviews``.
        reviews: answered by each, at least 1.
    """
    if reviews < 1 or not 0 <= min(first, second) <= max(first, second) <= reviews:
        raise ValueError(
            f"{first} and {second} correct of {reviews}; "
            "allowed: 0 to the number of reviews, which is at least 1"
        )
    pooled = (first + second) / (2 * reviews)
    error = math.sqrt(2 * pooled * (1 - pooled) / reviews)
    return float(2 * stats.norm.sf(abs(first - second) / reviews / error)) if error else 1.0


def paired_t(first: Sequence[float], second: Sequence[float], level: float) -> PairedComparison:
    """The paired t test of ``second`` minus ``first`` over shared seeds, with its interval.

    Args:
        first, second: one value per seed, in the same order of seeds, at least one.
        level: nominal coverage of the interval, above 0 and below 1.
    """
    differences = [after - before for before, after in zip(first, second, strict=True)]
    interval = t_interval(differences, level)
    if len(differences) == 1:
        return PairedComparison(interval, None, None)
    p_value = _two_sided(interval.estimate, _error_of_mean(differences), len(differences) - 1)
    return PairedComparison(interval, p_value, stdev(differences))


def equivalence_test(differences: Sequence[float], margin: float) -> float | None:
    """Two one-sided t tests over seeds of a mean difference of at least ``margin`` in size.

    A small p value shows sameness.

    Args:
        differences: one per seed.
        margin: above 0, in the unit of the differences.

    Source: D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).
    """
    return _within(differences, 0.0, margin, more=0)


def minimal_effect_test(differences: Sequence[float], margin: float) -> float | None:
    """The test, over seeds, of a mean difference of at most ``margin`` in size.

    A small p value shows a difference beyond it.

    Args:
        differences: one per seed.
        margin: 0 or more, in the unit of the differences. At 0 it is the two-sided t test.
    """
    if len(differences) < 2:
        return None
    beyond = abs(fmean(differences)) - margin
    if beyond <= 0:
        return 1.0
    return _two_sided(beyond, _error_of_mean(differences), len(differences) - 1)


def prediction_test(values: Sequence[float], new: float) -> float | None:
    """The two-sided p value that ``new``, one run, has the distribution of the ``values`` per seed.

    It is below 1 - level exactly where ``new`` is outside ``prediction_interval(values, level)``.
    """
    if len(values) < 2:
        return None
    error = _error_of_mean(values) * math.sqrt(len(values) + 1)
    return _two_sided(new - fmean(values), error, len(values) - 1)


def prediction_equivalence_test(values: Sequence[float], new: float, margin: float) -> float | None:
    """Two one-sided tests that the mean of one run is at least ``margin`` away from that of others.

    Args:
        values: one per seed; their scatter stands for that of the single run too.
        new: the single run.
        margin: above 0, in the unit of the values.
    """
    return _within(values, new, margin, more=1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the order given: any of those below alpha is false with a chance
    of at most alpha.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979).
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"p values {list(p_values)}; allowed: 0 to 1")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def _within(values: Sequence[float], centre: float, margin: float, *, more: int) -> float | None:
    """The larger of the two one-sided p values; ``more`` single runs add their variance."""
    if margin <= 0:
        raise ValueError(f"margin {margin}; allowed: above 0")
    if len(values) < 2:
        return None
    slack = margin - abs(fmean(values) - centre)
    error = _error_of_mean(values) * math.sqrt(1 + more * len(values))
    if error == 0:
        return 0.0 if slack > 0 else 1.0
    return float(stats.t.sf(slack / error, len(values) - 1))


def _two_sided(difference: float, error: float, freedom: int) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return float(2 * stats.t.sf(abs(difference) / error, freedom))


def _error_of_mean(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values))
