"""Two accuracies and Holm's correction: by hand, and against statsmodels on random input."""

import math
from functools import partial
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.special import ndtri
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from lora_replication.statistics import (
    holm,
    not_excluded_as_best,
    two_proportions_test,
)


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


@given(
    st.integers(1, 500).flatmap(
        lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))
    )
)
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
