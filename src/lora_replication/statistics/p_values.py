"""Tests of two accuracies, and the correction for several tests."""

import math
from collections.abc import Sequence

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
