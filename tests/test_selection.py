"""Choosing among several: by hand, by enumeration, by simulation, and against statsmodels."""

import itertools
import math
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from lora_replication.statistics import resampled_components
from lora_replication.statistics.selection import (
    holm,
    not_excluded_as_best,
    not_excluded_over_seeds,
    peaks,
    rank_interval,
    selection_chances,
    two_proportions_test,
)

DRAW = np.random.default_rng(5)


def made(accuracies, seeds=5, reviews=400, sd=0.01):
    """Right answers of options on shared seeds and reviews."""
    review = DRAW.normal(0, 0.1, reviews)
    chance = [a + DRAW.normal(0, sd, (seeds, 1)) + review for a in accuracies]
    return [(DRAW.random((seeds, reviews)) < one).astype(float) for one in chance]


def test_what_is_far_behind_is_excluded_and_the_best_is_not():
    kept = not_excluded_over_seeds(made([0.6, 0.85, 0.845, 0.7]), 0.95)
    assert kept == [False, True, True, False]


def test_by_hand_with_one_seed_reviews_alone_decide():
    """100 reviews, the second right on 20 more: mean 0.2, sd of a difference 0.402, error 0.0402,
    so it is 4.97 errors ahead; on 2 more it is 1.42 errors ahead.
    """
    none, some = np.zeros((1, 100)), np.zeros((1, 100))
    some[0, :20] = 1
    assert not_excluded_over_seeds([none, some], 0.95) == [False, True]
    few = np.zeros((1, 100))
    few[0, :2] = 1
    assert not_excluded_over_seeds([none, few], 0.95) == [True, True]


def test_equal_options_are_kept_and_a_single_one_is():
    one = made([0.7])[0]
    assert not_excluded_over_seeds([one, one, one], 0.95) == [True] * 3
    assert not_excluded_over_seeds([one], 0.95) == [True]
    with pytest.raises(ValueError, match="the same seeds and reviews"):
        not_excluded_over_seeds([one, one[:, 1:]], 0.95)


@pytest.mark.slow
def test_the_best_is_kept_as_often_as_promised():
    kept = [not_excluded_over_seeds(made([0.8] * 6, seeds=3, sd=0.02), 0.95)[0] for _ in range(400)]
    assert np.mean(kept) >= 0.95 - 3 * (0.05 * 0.95 / 400) ** 0.5


def test_a_curve_is_highest_at_the_vertex_of_its_parabola_or_at_an_end():
    xs = np.array([0, 1, 3, 4])
    curves = [-((xs - 1.2) ** 2), -xs, xs, [0, 1, 1, 0], [2, 2, 2, 2], [0, 2, 1, 1]]
    assert peaks(xs, curves) == pytest.approx([1.2, 0, 4, 2, 0, 1.7])
    assert peaks([0, 1], [[1, 2], [2, 1]]).tolist() == [1, 0]


def test_equal_accuracies_stay_equal_however_the_reviews_are_summed():
    """Ties are real ones: each resampled accuracy is a whole number of reviews over all of them."""
    seen = []
    answers = np.random.default_rng(4).random((3, 2, 300)) < 0.7
    resampled_components(lambda drawn: seen.append(drawn) or drawn[..., 0], answers)
    assert [bool((np.round(300 * one) / 300 == one).all()) for one in seen] == [True, True]


@pytest.mark.slow
def test_an_interval_of_a_slope_of_best_rates_holds_it_as_often_as_promised():
    """Accuracy falls from a plateau, which moves by seed; runs of a seed share half the answers."""
    logs, alphas = np.log10([1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3]), np.log10([1, 4, 16])
    weights = (alphas - alphas.mean()) / alphas.var() / 3

    def covered():
        best = -3.5 - alphas[:, None, None, None] + DRAW.normal(0, 0.15, (3, 1))
        away = logs[:, None, None] - best
        accuracy = np.where(away > 0.4, 0.53, np.clip(0.77 + 0.12 * (away + 0.8), 0.53, 0.77))
        draw = np.where(DRAW.random((3, 200)) < 0.5, *DRAW.random((2, 3, 7, 3, 200)))
        found = resampled_components(
            lambda seen: peaks(logs, seen.reshape(*seen.shape[:-1], 3, 7)) @ weights,
            (draw < accuracy).reshape(21, 3, 200),
        )
        return abs(found.mean + 1) <= found.critical(0.025) * found.error

    assert np.mean([covered() for _ in range(200)]) >= 0.95 - 3 * (0.05 * 0.95 / 200) ** 0.5


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


def test_holm_by_hand() -> None:
    # 0.01 * 3; 0.02 * 2, raised to no less than the one before; 0.04 * 1, raised likewise.
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    with patch("gc.collect"):  # which multipletests calls every time: a minute for all examples
        expected = multipletests(p_values, method="holm")[1]
    assert holm(p_values) == pytest.approx(list(expected))


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(*[st.integers(0, n)] * 2, st.just(n))))
def test_two_proportions_agree_with_statsmodels(counts: tuple[int, int, int]) -> None:
    first, second, n = counts
    assume(0 < first + second < 2 * n)
    expected = proportions_ztest([first, second], [n] * 2)[1]
    assert two_proportions_test(first, second, n) == pytest.approx(expected)
    assert two_proportions_test(n, n, n) == two_proportions_test(0, 0, n) == 1


def test_the_set_that_holds_the_best_by_hand() -> None:
    """Of 10 reviews the second misses 6 and the third 5 that the first has, which has chances of
    1 / 64 and 1 / 32; 0.05 is halved where there are two rivals.
    """
    first, second, third = [1] * 10, [0] * 6 + [1] * 4, [0] * 5 + [1] * 5
    assert not_excluded_as_best([first, second, third], 0.95) == [True, False, True]
    assert not_excluded_as_best([third, first], 0.95) == [False, True]
    assert not_excluded_as_best([second, second], 0.95) == [True, True]
    assert not_excluded_as_best([second], 0.95) == [True]
    # One review ahead excludes nothing.
    assert not_excluded_as_best([first, [0] + [1] * 9], 0.95) == [True, True]


def test_the_set_holds_the_best_as_often_as_promised_and_leaves_out_the_worse() -> None:
    """Twelve candidates on 300 shared reviews, half of them 15 points worse; 400 draws."""
    chance, held, worse = np.random.default_rng(1), 0, 0
    skill = np.repeat([0.85, 0.70], 6)
    for _ in range(400):
        ease = chance.normal(size=300)
        noise = chance.normal(size=(12, 300))
        right = ndtri(skill)[:, None] * math.sqrt(2) + ease + noise > 0
        kept = not_excluded_as_best(right, 0.95)
        held += kept[0]
        worse += sum(kept[6:])
    assert held / 400 >= 0.95
    assert worse / (6 * 400) <= 0.1


def test_wrong_input_is_refused() -> None:
    bad_set = partial(not_excluded_as_best, [], 0.95)
    for wrong in (lambda: holm([1.5]), lambda: two_proportions_test(3, 1, 2), bad_set):
        with pytest.raises(ValueError, match="allowed"):
            wrong()
