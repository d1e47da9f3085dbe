"""Whether two lists rank the same things in the same order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from lora_replication.statistics.intervals import Interval


@dataclass(frozen=True)
class RankCorrelation:
    """Rank correlations of n pairs, from -1 (reversed) to 1 (the same order); ties share their mean
    rank.

    Attributes:
        spearman: rho with its interval; no ends for fewer than 4 pairs.
        kendall: tau-b.
        n: number of pairs.
    """

    spearman: Interval
    kendall: float
    n: int


def rank_correlation(
    first: Sequence[float], second: Sequence[float], level: float
) -> RankCorrelation | None:
    """Spearman's rho and Kendall's tau-b of two equally long lists; None where one does not vary.

    Args:
        first, second: the values to rank, at least 2 of each.
        level: nominal coverage, above 0 and below 1; the source of variance is which configurations
            were tried.

    Source: of the interval, D. G. Bonett, T. A. Wright, Psychometrika 65 (2000).
    """
    if len(first) != len(second) or len(first) < 2 or not 0 < level < 1:
        raise ValueError(
            f"{len(first)} and {len(second)} values, level {level}; "
            "allowed: equally many, at least 2, above 0 and below 1"
        )
    if len(set(first)) == 1 or len(set(second)) == 1:
        return None
    n = len(first)
    rho = float(stats.spearmanr(first, second).statistic)
    low = high = None
    if n >= 4 and abs(rho) < 1:
        half = float(stats.norm.isf((1 - level) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
        low, high = math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)
    source = f"choice of configurations, n = {n} pairs"
    interval = Interval(rho, low, high, level, n, "Spearman's rho, Bonett and Wright", source)
    return RankCorrelation(interval, float(stats.kendalltau(first, second).statistic), n)
