import numpy as np
import pytest

from lora_replication.statistics.best import not_excluded_over_seeds, slope, slope_bounds

DRAW = np.random.default_rng(5)


def made(accuracies, seeds=5, reviews=400, sd=0.01):
    """Right answers of options on shared seeds and reviews."""
    review = DRAW.normal(0, 0.1, reviews)
    chance = [a + DRAW.normal(0, sd, (seeds, 1)) + review for a in accuracies]
    return [(DRAW.random((seeds, reviews)) < one).astype(float) for one in chance]


def test_what_is_far_behind_is_excluded_and_the_best_is_not():
    assert not_excluded_over_seeds(made([0.6, 0.85, 0.845, 0.7]), 0.95) == [
        False,
        True,
        True,
        False,
    ]


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


def test_a_slope_and_its_bounds_by_hand():
    """Through (0, 0), (1, 1), (2, 5): 5 / 2. With the last y anywhere from 4 to 6: 2 to 3."""
    assert slope([0, 1, 2], [0, 1, 5]) == pytest.approx(2.5)
    assert slope_bounds([0, 1, 2], [0, 1, 4], [0, 1, 6]) == pytest.approx((2, 3))
    low, high = slope_bounds([0, 1, 2], [-1, 0, 0], [1, 2, 2])
    assert (low, high) == pytest.approx((-0.5, 1.5))
    assert slope_bounds([0, 1, 2], [0, -np.inf, 0], [0, np.inf, 2]) == pytest.approx((0, 1))
    assert slope_bounds([0, 1, 2], [-np.inf, 0, 0], [0, 0, 2]) == (0, np.inf)
    with pytest.raises(ValueError, match="one x"):
        slope([1, 1], [2, 3])
