"""True ranks and random search, by hand, by enumeration and by simulation."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from lora_replication.statistics import rank_interval, selection_chances


def test_ranks_by_hand() -> None:
    # 2.0 is the 5 % point of |t| for gaps of sqrt(2) * 2.0; here gaps of 1 and of 100.
    values = [100, 101, 0, 201]
    assert rank_interval(values, 0, 1.0, 1_000, 0.95) == (2, 3)
    assert rank_interval(values, 1, 1.0, 1_000, 0.95) == (2, 3)
    assert rank_interval(values, 3, 1.0, 1_000, 0.95) == (1, 1)
    assert rank_interval(values, 2, 1.0, 1_000, 0.95) == (4, 4)
    assert rank_interval(values, 2, 100.0, 1_000, 0.95) == (1, 4)


def test_ranks_are_those_of_holm_tests_against_all_others() -> None:
    values = np.random.default_rng(3).normal(scale=2, size=40)
    for place in range(40):
        gaps = np.delete(values, place) - values[place]
        p_values = 2 * stats.t(12).sf(abs(gaps) / 2**0.5)
        sure = multipletests(p_values, 0.05, "holm")[0]
        expected = 1 + sum(gaps[sure] > 0), 40 - sum(gaps[sure] < 0)
        assert rank_interval(values, place, 1.0, 12, 0.95) == expected


def test_true_ranks_are_covered() -> None:
    generator, means = np.random.default_rng(5), np.array([0.0] * 6 + [1, 8])
    missed = 0
    for _ in range(1_000):
        values = means + generator.normal(size=8)
        sd = (generator.chisquare(10) / 10) ** 0.5
        low, high = rank_interval(values, 0, sd, 10, 0.95)
        # Two are better and five are equal, so that its true ranks are 3 to 8.
        missed += low > 3 or high < 8
    assert 10 <= missed <= 60


@pytest.mark.parametrize("trials", [1, 2, 3, 5])
def test_chances_are_those_of_all_draws(trials: int) -> None:
    criterion = [3, 1, 4, 1, 4]
    expected = np.zeros(5)
    draws = list(itertools.combinations(range(5), trials))
    for draw in draws:
        best = [i for i in draw if criterion[i] == max(criterion[j] for j in draw)]
        expected[best] += 1 / len(best) / len(draws)
    assert selection_chances(criterion, trials) == pytest.approx(expected)
