"""Tests of two accuracies, and the correction for several tests."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


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


def not_excluded_as_best(right: ArrayLike, level: float) -> list[bool]:
    """Which candidates can't be excluded as the best: a set that holds the best with chance
    ``level`` or more.

    A candidate is excluded where one of its rivals is better on the same reviews: exact one-sided
    McNemar tests, Bonferroni over the rivals. It takes reviews as independent, and is about these
    candidates on other reviews: where each is a single run, other seeds may rank them otherwise.

    Args:
        right: (candidates, reviews), whether each answers each review rightly.

    Source: S. S. Gupta, "On some multiple decision (selection and ranking) rules", Technometrics 7
    (1965); Q. McNemar, Psychometrika 12 (1947).
    """
    table = np.asarray(right, dtype=np.float64)
    if table.ndim != 2 or not table.size or not 0 < level < 1:
        raise ValueError(
            f"table {table.shape}, level {level}; "
            "allowed: (candidates, reviews), at least one of each, above 0 and below 1"
        )
    alone = table @ (1 - table).T  # reviews that the first alone answers rightly
    p_values = stats.binom.sf(alone.T - 1, alone + alone.T, 0.5)
    rivals = max(1, len(table) - 1)
    return [bool(one.min() > (1 - level) / rivals) for one in p_values]


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> float:
    """The chance that a run of the second method is better than a run of the first, ties halved.

    Args:
        first, second: (runs,), one accuracy per run, at least one each.

    Source: R. Agarwal et al., "Deep reinforcement learning at the edge of the statistical
    precipice", NeurIPS 2021, section 4.3; H. B. Mann, D. R. Whitney (1947).
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    difference = two[:, None] - one[None, :]
    return float(np.mean((difference > 0) + 0.5 * (difference == 0)))


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
