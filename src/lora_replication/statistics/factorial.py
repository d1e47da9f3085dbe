"""Analysis of variance of a factorial: every combination of levels, one run each."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import khatri_rao

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Factorial:
    """Where the variation of a result comes from.

    Attributes:
        shares: eta squared, the share of the total sum of squares, of each factor and of each
            interaction of two, named ``alpha x mlp``. The sums of squares are of type II: what a
            term adds to all factors and interactions of two that do not contain it.
        triples, rest: the shares of all interactions of three factors, and of what they leave.
        sd: of the rest, with its degrees of freedom. Where interactions of four and more factors
            are negligible, it is the standard deviation of runs of one combination on the same
            reviews. None without degrees of freedom.
    """

    shares: dict[str, float]
    triples: float
    rest: float
    sd: float | None
    freedom: int


def factorial(values: Sequence[float], factors: Mapping[str, Sequence[Any]]) -> Factorial | None:
    """Analyse ``values``, one per run; None where they do not vary.

    Args:
        factors: the level of each factor in each run. Combinations may be missing; then the shares
            add up to about 1.

    Source: D. C. Montgomery, "Design and Analysis of Experiments", chapters 5 and 15.
    """
    outcome = np.asarray(values, dtype=np.float64)
    coded = {name: _contrasts(np.asarray(levels)) for name, levels in factors.items()}
    terms = [term for order in (1, 2, 3) for term in combinations(factors, order)]
    # Of each factor's columns with each of the others': (runs, product of the numbers of columns).
    columns = {term: reduce(khatri_rao, (coded[name].T for name in term)).T for term in terms}
    pairs = [term for term in terms if len(term) < 3]

    def left(kept: Iterable[tuple[str, ...]]) -> tuple[float, int]:
        """Residual sum of squares of a fit with a constant and the ``kept`` terms, and its rank."""
        design = np.hstack([np.ones((len(outcome), 1)), *(columns[term] for term in kept)])
        # The contrasts are nearly orthogonal: the normal equations lose nothing, and are faster.
        square, right = design.T @ design, design.T @ outcome
        fit, _, rank, _ = np.linalg.lstsq(square, right, rcond=1e-10)
        return float(np.square(outcome - design @ fit).sum()), int(rank)

    if not np.ptp(outcome):
        return None
    total, _ = left([])
    shares = {}
    for term in pairs:
        others = [other for other in pairs if not set(term) <= set(other)]
        gained = left(others)[0] - left([*others, term])[0]
        shares[" x ".join(term)] = gained / total
    rest, rank = left(terms)
    freedom = len(outcome) - rank
    sd = math.sqrt(rest / freedom) if freedom else None
    return Factorial(shares, (left(pairs)[0] - rest) / total, rest / total, sd, freedom)


def _contrasts(levels: NDArray[Any]) -> Array:
    """(runs, levels - 1): each level against the last, so that every column sums to 0 over them."""
    is_level: Array = (levels[:, None] == np.unique(levels)).astype(np.float64)
    return np.subtract(is_level[:, :-1], is_level[:, -1:])
