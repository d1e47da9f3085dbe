"""Selecting the best of many configurations: how sure a place is, and what random search finds."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from lora_replication.statistics.p_values import holm


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
