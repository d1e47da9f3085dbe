"""Choosing among several: tests of two accuracies and their correction, which one may be the best,
how sure a place is, what random search finds, and where curves are highest.
"""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lora_replication.statistics.components import crossed_components


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
    order = np.argsort(p_values, kind="stable")
    scaled = np.arange(len(order), 0, -1) * np.asarray(p_values)[order]
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(scaled).clip(max=1.0)
    return [float(p) for p in adjusted]


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


def not_excluded_over_seeds(tables: Sequence[ArrayLike], level: float) -> list[bool]:
    """The same for options with several seeds each, for new seeds and new reviews.

    The best one is among them with a chance of at least ``level``: it is left out only if one of
    the other k - 1 looks better by chance, each of which has (1 - level) / (k - 1), one-sided
    (Bonferroni).

    Args:
        tables: of each option (seeds, reviews): right answers from 0 to 1, all on the same seeds
            and reviews.

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
            found = crossed_components(values[other] - values[own])
            kept[own] = not found.mean > found.critical(tail) * found.error
    return kept


def rank_interval(
    values: Sequence[float], place: int, sd: float, freedom: int, level: float
) -> tuple[int, int]:
    """The first and last rank, from 1 for the highest, that ``values[place]`` may truly have.

    The true rank is between them with a chance of at least ``level``; so the configurations whose
    first rank is 1 include the best with that chance. Every other value is compared with this one
    by a two-sided t test of two single runs, with Holm's correction.

    Args:
        values: one run of each configuration, at least two.
        sd: standard deviation of runs of one configuration, with its degrees of ``freedom``.

    Source: M. Mogstad et al., "Inference for Ranks with Applications to Mobility across
    Neighbourhoods and Academic Achievement across Countries", Rev. Econ. Stud. 91 (2024).
    """
    gaps = np.delete(np.asarray(values, dtype=np.float64) - values[place], place)
    p_values = 2 * stats.t.sf(np.abs(gaps) / (math.sqrt(2) * sd), freedom)
    sure = np.array(holm(p_values.tolist())) < 1 - level
    return 1 + int((sure & (gaps > 0)).sum()), len(values) - int((sure & (gaps < 0)).sum())


def selection_chances(criterion: ArrayLike, trials: int) -> NDArray[np.float64]:
    """The chance of each configuration to be the best by ``criterion`` of ``trials`` different ones
    drawn at random; equal ones share theirs.

    Args:
        criterion: (configurations,); ``trials``: 1 to their number.
    """
    _, group, sizes = np.unique(np.asarray(criterion), return_inverse=True, return_counts=True)
    draws = math.comb(len(group), trials)
    none_better = [math.comb(int(n), trials) / draws for n in (0, *np.cumsum(sizes))]
    return np.asarray(np.diff(none_better) / sizes)[group]


def peaks(xs: ArrayLike, ys: ArrayLike) -> NDArray[np.float64]:
    """Where curves are highest: at the vertex of the parabola through the highest point (the first
    of equals) and its two neighbours, or at that point where it is the first or the last.

    Args:
        xs: (points,), ascending; ``ys``: (..., points).

    Returns:
        (...,)
    """
    x, y = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
    place = y.argmax(-1)
    before, after = (place - 1).clip(0), (place + 1).clip(max=len(x) - 1)
    below, best, above = (
        np.take_along_axis(y, index[..., None], -1)[..., 0] for index in (before, place, after)
    )
    left, right = x[place] - x[before], x[after] - x[place]
    up, down = best - below, best - above
    is_inner = (left > 0) & (right > 0) & (up + down > 0)
    moved = (right**2 * up - left**2 * down) / np.where(is_inner, left * down + right * up, 1)
    vertices: NDArray[np.float64] = x[place] + np.where(is_inner, moved / 2, 0)
    return vertices
