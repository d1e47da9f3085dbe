"""A published single run next to runs on the same reviews: by hand and by statsmodels."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from statsmodels.api import OLS

from lora_replication.statistics import predict_gain, predict_run

VALUES = st.lists(st.integers(0, 1000).map(lambda number: number / 1000), min_size=2, max_size=8)
T = 4.302652729911275
"""t(0.975; 2)."""


def test_one_more_run_by_hand() -> None:
    # 1, 2, 3: sd 1, one more run scatters by sqrt(1 + 1/3).
    interval = predict_run([1, 2, 3]).interval(0.95)
    assert interval.high == pytest.approx(2 + T * math.sqrt(4 / 3))
    assert interval.source == "seeds, one more run next to n = 3 runs"


def test_a_gain_has_the_scatter_of_both_new_runs() -> None:
    # Gains 2, 2, 5: mean 3, variance 3. Variances 1 and 13/3 of the runs themselves.
    found = predict_gain([1, 2, 3], [3, 4, 8])
    assert found.mean == 3
    error = math.sqrt(3 / 3 + 1 + 7)
    assert found.interval(0.95).high == pytest.approx(3 + T * error)
    # For 2 degrees of freedom the two-sided p of t is 1 - t / sqrt(2 + t^2).
    t = 2 / error
    assert found.p_value(5) == pytest.approx(1 - t / math.sqrt(2 + t * t))


def test_sameness_by_hand() -> None:
    # Both ends of the margin 2 are 2 / sqrt(4 / 3) = sqrt(3) away.
    t = math.sqrt(3)
    found = predict_run([1, 2, 3])
    assert found.equivalence(2, 2) == pytest.approx(0.5 - t / (2 * math.sqrt(2 + t * t)))
    assert found.equivalence(4, 2) == pytest.approx(0.5)
    assert found.equivalence(9, 2) > 0.5


@given(VALUES, st.floats(0.5, 0.99), st.floats(0, 1))
def test_interval_and_test_are_one_and_statsmodels(values, level, new):
    assume(len(set(values)) > 1)
    found = predict_run(values)
    interval = found.interval(level)
    frame = OLS(values, np.ones(len(values))).fit().get_prediction([1.0]).summary_frame(1 - level)
    assert (interval.low, interval.high) == pytest.approx(
        (frame["obs_ci_lower"][0], frame["obs_ci_upper"][0]), abs=1e-7
    )
    assume(min(abs(new - interval.low), abs(new - interval.high)) > 1e-9)
    assert (found.p_value(new) < 1 - level) == (not interval.low < new < interval.high)


def test_seeds_needed_by_hand() -> None:
    # t(0.975; 4) = 2.776: 5 runs give 2.776 * sqrt(6 / 5) = 3.041 sd. One run alone has 1.96 sd.
    found = predict_run([1, 2, 3])
    assert (found.seeds_needed(3.05, 0.95), found.seeds_needed(3.04, 0.95)) == (5, 6)
    assert found.seeds_needed(1.9, 0.95) is None


def test_few_runs_and_runs_without_scatter() -> None:
    for alone in (predict_run([1]), predict_gain([1], [2])):
        assert (alone.interval(0.9).low, alone.p_value(1), alone.equivalence(1, 1)) == (None,) * 3
        assert alone.seeds_needed(1, 0.9) is None
    same = predict_run([1, 1])
    assert (same.p_value(1), same.p_value(2), same.equivalence(1, 0.5)) == (1, 0, 0)
