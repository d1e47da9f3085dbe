"""Which of several options may be the best, and what follows for a slope through options."""

from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lora_replication.statistics.components import crossed_components


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


def not_excluded_over_seeds(
    tables: Sequence[ArrayLike], level: float, clusters: ArrayLike | None = None
) -> list[bool]:
    """The same for options with several seeds each, for new seeds and new reviews.

    The best one is among them with a chance of at least ``level``: it is left out only if one of
    the other k - 1 looks better by chance, each of which has (1 - level) / (k - 1), one-sided
    (Bonferroni).

    Args:
        tables: of each option (seeds, reviews): right answers from 0 to 1, all on the same seeds
            and reviews.
        clusters: as in ``crossed_components``.

    Raises:
        ValueError: the tables differ in shape.
    """
    values = [np.asarray(table, dtype=np.float64) for table in tables]
    if len({table.shape for table in values}) > 1:
        raise ValueError("tables of several shapes; allowed: the same seeds and reviews for all")
    kept = [True] * len(values)
    tail = (1 - level) / max(1, len(values) - 1)
    for own, other in permutations(range(len(values)), 2):
        if kept[own] and values[other].mean() > values[own].mean():
            found = crossed_components(values[other] - values[own], clusters)
            kept[own] = not found.mean > found.critical(tail) * found.error
    return kept


def slope(xs: ArrayLike, ys: ArrayLike) -> float:
    """Of the least-squares line through (xs, ys), each (points,), at least two different xs."""
    weights = _weights(xs)
    return float(weights @ np.asarray(ys, dtype=np.float64))


def slope_bounds(xs: ArrayLike, lows: ArrayLike, highs: ArrayLike) -> tuple[float, float]:
    """The lowest and highest slope of least-squares lines through points at ``xs`` that lie
    anywhere between ``lows`` and ``highs``, which may be infinite.
    """
    weights = _weights(xs)
    counted = weights != 0  # the middle point of three says nothing
    low, high = (np.asarray(ends, dtype=np.float64)[counted] for ends in (lows, highs))
    ends = weights[counted] * low, weights[counted] * high
    return float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum())


def _weights(xs: ArrayLike) -> NDArray[np.float64]:
    """What each y counts in the slope."""
    centred = np.asarray(xs, dtype=np.float64)
    centred = centred - centred.mean()
    if not centred.any():
        raise ValueError("one x; allowed: at least two different ones")
    weights: NDArray[np.float64] = centred / (centred @ centred)
    return weights
