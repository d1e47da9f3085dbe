"""Tests of differences and of sameness: by hand, and against statsmodels on random input."""

import math
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest
from statsmodels.stats.weightstats import DescrStatsW

from lora_replication.statistics import (
    equivalence_test,
    holm,
    mcnemar,
    minimal_effect_test,
    paired_t,
    prediction_equivalence_test,
    prediction_interval,
    prediction_test,
    two_proportions_test,
)

VALUES = st.lists(st.integers(0, 1000).map(lambda number: number / 1000), min_size=2, max_size=8)
PAIRS = st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 1000)), min_size=2, max_size=8)


def test_mcnemar_by_hand() -> None:
    # They disagree on 5 reviews, 1 to 4: p = 2 * (1 + 5) / 32.
    first = [1, 0, 0, 0, 0, 1, 1, 0]
    second = [0, 1, 1, 1, 1, 1, 1, 0]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second, found.reviews, found.difference) == (
        1,
        4,
        8,
        3 / 8,
    )
    assert found.p_value == pytest.approx(12 / 32)
    assert mcnemar(first, first).p_value == 1


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_agrees_with_statsmodels(pairs: list[tuple[bool, bool]]) -> None:
    first, second = zip(*pairs, strict=True)
    table = [
        [sum((a, b) == (x, y) for x, y in pairs) for b in (True, False)] for a in (True, False)
    ]
    expected = (
        contingency_tables.mcnemar(table, exact=True).pvalue if table[0][1] + table[1][0] else 1
    )
    assert mcnemar(first, second).p_value == pytest.approx(expected)


def test_paired_t_by_hand() -> None:
    # Differences 1, 2, 3: mean 2, standard error 1 / sqrt(3), t = 2 sqrt(3); for 2 degrees of
    # freedom p = 1 - t / sqrt(2 + t^2).
    found = paired_t([1, 1, 1], [2, 3, 4], 0.95)
    assert found.difference.estimate == 2
    assert found.deviation == 1
    assert found.p_value == pytest.approx(1 - 2 * math.sqrt(3) / math.sqrt(14))


@given(PAIRS, st.floats(0.5, 0.999))
def test_paired_t_agrees_with_statsmodels(pairs: list[tuple[int, int]], level: float) -> None:
    first, second = ([float(value) for value in side] for side in zip(*pairs, strict=True))
    differences = np.subtract(second, first)
    assume(len(set(differences)) > 1)
    reference = DescrStatsW(differences)
    found = paired_t(first, second, level)
    assert found.p_value == pytest.approx(reference.ttest_mean(0)[1], abs=1e-9)
    assert (found.difference.low, found.difference.high) == pytest.approx(
        reference.tconfint_mean(1 - level), abs=1e-7
    )


@given(VALUES, st.floats(0.001, 1))
def test_sameness_agrees_with_statsmodels(values: list[float], margin: float) -> None:
    assume(len(set(values)) > 1)
    differences = [value - 0.5 for value in values]
    assert equivalence_test(differences, margin) == pytest.approx(
        DescrStatsW(differences).ttost_mean(-margin, margin)[0], abs=1e-9
    )


@given(VALUES, st.floats(0, 1), st.floats(0.5, 0.99))
def test_prediction_test_and_interval_are_one(
    values: list[float], new: float, level: float
) -> None:
    assume(len(set(values)) > 1)
    interval = prediction_interval(values, level)
    assume(min(abs(new - interval.low), abs(new - interval.high)) > 1e-9)
    assert (prediction_test(values, new) < 1 - level) == (not interval.low < new < interval.high)


def test_prediction_sameness_by_hand() -> None:
    # 1, 2, 3 and one run of 2: both ends of the margin 2 are 2 / sqrt(4 / 3) = sqrt(3) away; for 2
    # degrees of freedom the one-sided p of t is 1/2 - t / (2 sqrt(2 + t^2)).
    t = math.sqrt(3)
    assert prediction_equivalence_test([1, 2, 3], 2, 2) == pytest.approx(
        0.5 - t / (2 * math.sqrt(2 + t * t))
    )
    assert prediction_equivalence_test([1, 2, 3], 4, 2) == pytest.approx(0.5)
    assert prediction_equivalence_test([1, 2, 3], 9, 2) > 0.5


def test_beyond_the_margin() -> None:
    differences = [1.0, 2.0, 3.0]
    assert minimal_effect_test(differences, 0) == pytest.approx(
        paired_t([0, 0, 0], differences, 0.95).p_value
    )
    assert minimal_effect_test(differences, 1) == pytest.approx(
        paired_t([1, 1, 1], differences, 0.95).p_value
    )
    assert minimal_effect_test(differences, 2) == 1


@pytest.mark.parametrize(
    "test",
    [
        lambda v: equivalence_test(v, 1),
        lambda v: prediction_test(v, 1),
        lambda v: minimal_effect_test(v, 1),
    ],
)
def test_one_run_allows_no_test(test: Callable[[list[float]], float | None]) -> None:
    assert test([0.5]) is None
    assert paired_t([1], [2], 0.95).p_value is None
    assert prediction_equivalence_test([1], 2, 1) is None


def test_runs_without_scatter_are_taken_at_their_word() -> None:
    assert equivalence_test([0.1, 0.1], 0.2) == 0
    assert equivalence_test([0.2, 0.2], 0.2) == 1
    assert prediction_test([1, 1], 1) == 1
    assert prediction_test([1, 1], 2) == 0


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


def test_wrong_input_is_refused() -> None:
    for wrong in (
        lambda: mcnemar([1], [1, 0]),
        lambda: mcnemar([], []),
        lambda: equivalence_test([1, 2], 0),
        lambda: holm([1.5]),
        lambda: two_proportions_test(3, 1, 2),
    ):
        with pytest.raises(ValueError, match="allowed"):
            wrong()
    with pytest.raises(ValueError, match="argument"):
        paired_t([1, 2], [1], 0.95)


@given(
    st.integers(1, 500).flatmap(
        lambda n: st.tuples(st.integers(0, n), st.integers(0, n), st.just(n))
    )
)
def test_two_proportions_agree_with_statsmodels(counts: tuple[int, int, int]) -> None:
    first, second, reviews = counts
    assume(0 < first + second < 2 * reviews)
    assert two_proportions_test(first, second, reviews) == pytest.approx(
        proportions_ztest([first, second], [reviews] * 2)[1]
    )
    assert (
        two_proportions_test(reviews, reviews, reviews) == two_proportions_test(0, 0, reviews) == 1
    )
