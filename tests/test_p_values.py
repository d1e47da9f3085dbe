"""Two accuracies and Holm's correction: by hand, and against statsmodels on random input."""

from unittest.mock import patch

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from lora_replication.statistics import holm, probability_of_improvement, two_proportions_test

RUNS = st.lists(st.integers(0, 9), min_size=1, max_size=8)


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


@given(RUNS, RUNS)
def test_the_probability_of_improvement_is_mann_whitneys(first, second):
    expected = mannwhitneyu(second, first).statistic / (len(first) * len(second))
    assert probability_of_improvement(first, second) == pytest.approx(expected)


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


def test_wrong_input_is_refused() -> None:
    for wrong in (lambda: holm([1.5]), lambda: two_proportions_test(3, 1, 2)):
        with pytest.raises(ValueError, match="allowed"):
            wrong()
