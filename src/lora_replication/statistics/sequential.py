"""Looking several times at data that grow, with one chance of a false find.

The chance is spent as O'Brien and Fleming's bounds spend it: almost nothing at the first looks.
Sources: K. K. G. Lan, D. L. DeMets, Biometrika 70 (1983); for the integration P. Armitage, C. K.
McPherson, B. C. Rowe, JRSS A 132 (1969).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

POINTS = 200
"""Of the integration; with twice as many the bounds are the same to 1e-8."""

FURTHEST = 38.0
"""Standard deviations; beyond it chances are 0 in floating point."""


def look_tails(looks: Sequence[int], alpha: float) -> list[float]:
    """The one-sided chance at which each look tests, so that all looks together find a difference
    that is not there with chance ``alpha``, half of it in each direction.

    Args:
        looks: numbers of seeds, growing; the last is the most there will be. Values at two looks
            are correlated by sqrt(earlier / later); by more where reviews, which all looks share,
            add to the variance, and then fewer finds than ``alpha`` are false.
        alpha: two-sided, above 0 and below 1.
    """
    if not looks or sorted(set(looks)) != list(looks) or looks[0] < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"looks {list(looks)}, alpha {alpha}; "
            "allowed: growing whole numbers from 1, above 0 and below 1"
        )
    times = np.array(looks) / looks[-1]
    spent = 2 * stats.norm.sf(stats.norm.isf(alpha / 4) / np.sqrt(times))  # in each direction
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    sums, chances = np.zeros(1), np.ones(1)  # where the runs that no look has stopped are
    tails = []
    for time, step, share in zip(times, np.diff(times, prepend=0), np.diff(spent, prepend=0)):  # noqa: B905
        z = _bound(sums, chances, math.sqrt(time), math.sqrt(step), share)
        tails.append(float(stats.norm.sf(z)))
        end = z * math.sqrt(time)
        arrived = stats.norm.pdf(nodes[:, None] * end, sums, math.sqrt(step)) @ chances
        sums, chances = nodes * end, arrived * weights * end
    return tails


def _bound(
    sums: np.ndarray, chances: np.ndarray, end_sd: float, step_sd: float, share: float
) -> float:
    """The z that ``share`` of all runs exceeds at this look, from these sums before it."""

    def excess(z: float) -> float:
        return float(chances @ stats.norm.sf(z * end_sd, sums, step_sd)) - share

    return float(optimize.brentq(excess, 0.0, FURTHEST)) if excess(FURTHEST) < 0 else FURTHEST
