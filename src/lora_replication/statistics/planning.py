"""What n reviews and k seeds can show, and how many seeds would be needed, in the input's unit."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

MOST_SEEDS = 10_000


def smallest_difference_of_reviews(
    discordant: float, reviews: int, *, level: float, power: float
) -> float:
    """The smallest difference of two accuracies that a McNemar test finds with chance ``power``.

    Args:
        discordant: share of reviews on which the two disagree, above 0, at most 1.
        reviews: number of test reviews, at least 1.
        level: 1 - the chance of a false find, above 0 and below 1.
        power: above 0 and below 1.

    Returns:
        A fraction from 0 to 1; at least ``discordant`` where no difference would be found.

    Source: R. J. Connor, Biometrics 43 (1987), normal approximation.
    """
    if not 0 < discordant <= 1 or reviews < 1:
        raise ValueError(
            f"discordant {discordant}, reviews {reviews}; allowed: above 0 to 1, at least 1"
        )
    _check(level, power)
    alpha, beta = (float(stats.norm.isf(tail)) for tail in ((1 - level) / 2, 1 - power))
    # d sqrt(n) = alpha sqrt(p) + beta sqrt(p - d^2), a quadratic in d.
    a, b = reviews + beta**2, -2 * alpha * math.sqrt(discordant * reviews)
    c = discordant * (alpha**2 - beta**2)
    return min(1.0, (-b + math.sqrt(max(0.0, b * b - 4 * a * c))) / (2 * a))


def smallest_difference_of_seeds(
    deviation: float, seeds: int, *, level: float, power: float
) -> float | None:
    """The smallest mean difference that a paired t test over ``seeds`` finds with chance ``power``.

    Args:
        deviation: standard deviation of the differences over seeds, 0 or more.
        seeds: number of shared seeds.
        level: 1 - the chance of a false find; power: both above 0 and below 1.

    Returns:
        None for one seed.
    """
    _check(level, power)
    if deviation < 0 or seeds < 1:
        raise ValueError(f"deviation {deviation}, seeds {seeds}; allowed: at least 0, at least 1")
    if seeds == 1:
        return None
    shift = (
        optimize.brentq(lambda ncp: _power(ncp, seeds - 1, level) - power, 0.0, 2000.0)
        if power > 1 - level
        else 0.0
    )
    return float(shift) * deviation / math.sqrt(seeds)


def seeds_for_difference(
    difference: float, deviation: float, *, level: float, power: float
) -> int | None:
    """The fewest shared seeds with which a paired t test finds it with chance ``power``.

    Args:
        difference: the true mean difference to find.
        deviation: standard deviation of the differences over seeds, 0 or more.
        level, power: above 0 and below 1.

    Returns:
        None where over 10,000.
    """
    _check(level, power)
    if deviation == 0:
        return 2 if difference else None

    def enough(seeds: int) -> bool:
        return _power(abs(difference) / deviation * math.sqrt(seeds), seeds - 1, level) >= power

    return _first(enough)


def seeds_for_prediction(deviation: float, half_width: float, *, level: float) -> int | None:
    """The fewest runs whose prediction interval has at most ``half_width`` on each side, or None.

    Args:
        deviation: standard deviation of runs over seeds, 0 or more.
        half_width: above 0.
        level: nominal coverage, above 0 and below 1.
    """

    def enough(seeds: int) -> bool:
        critical = float(stats.t.isf((1 - level) / 2, seeds - 1))
        return critical * deviation * math.sqrt(1 + 1 / seeds) <= half_width

    return _first(enough)


def seeds_for_exclusion(difference: float, deviation: float, *, level: float) -> int | None:
    """The fewest runs whose prediction interval leaves out a run ``difference`` from their mean, or
    None.
    """
    return seeds_for_prediction(deviation, abs(difference), level=level) if difference else None


def _first(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds from 2 that is enough; enough must stay enough."""
    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _power(shift: float, freedom: int, level: float) -> float:
    """The chance that a two-sided t test finds a mean ``shift`` standard errors from 0.

    The mean, over equally likely values of the estimated deviation, of the chance given it: scipy's
    noncentral t gives NaN in its tails.
    """
    critical = float(stats.t.isf((1 - level) / 2, freedom))
    deviations = _deviations(freedom)
    above = stats.norm.sf(critical * deviations - shift)
    return float(np.mean(above + stats.norm.cdf(-critical * deviations - shift)))


@lru_cache(maxsize=64)
def _deviations(freedom: int) -> NDArray[np.float64]:
    """Equally likely estimates of a standard deviation whose true value is 1, (1000,)."""
    return np.asarray(np.sqrt(stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, freedom) / freedom))


def _check(level: float, power: float) -> None:
    if not (0 < level < 1 and 0 < power < 1):
        raise ValueError(f"level {level}, power {power}; allowed: above 0 and below 1")
