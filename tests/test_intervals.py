"""Intervals: hand-worked answers, and agreement with statsmodels on random input."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lora_replication.statistics import clipped, t_interval, wilson_interval

COUNTS = st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
LEVELS = st.floats(0.5, 0.999)


def test_wilson_of_all_and_of_none_by_hand() -> None:
    # With p = 0 the ends are 0 and z^2 / (n + z^2).
    z2 = 1.959963984540054**2
    none, everything = wilson_interval(0, 50, 0.95), wilson_interval(50, 50, 0.95)
    assert (none.low, everything.high) == (0.0, 1.0)
    assert none.high == pytest.approx(z2 / (50 + z2))
    assert everything.low == pytest.approx(50 / (50 + z2))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=10), LEVELS)
def test_t_agrees_with_statsmodels(values: list[float], level: float) -> None:
    interval = t_interval(values, level)
    assert (interval.low, interval.high) == pytest.approx(
        DescrStatsW(values).tconfint_mean(1 - level), abs=1e-9
    )


def test_a_cut_interval_keeps_its_estimate_and_what_can_be() -> None:
    wide = t_interval([0.5, 0.79], 0.95)
    assert (wide.low < 0, wide.high > 1) == (True, True)
    assert clipped(wide, 0.0, 1.0) == replace(wide, low=0.0, high=1.0)
    inside = t_interval([0.80, 0.81, 0.82], 0.95)
    assert clipped(inside, 0.0, 1.0) == inside
    alone = t_interval([0.5], 0.95)
    assert clipped(alone, 0.0, 1.0) == alone


@given(COUNTS, LEVELS)
def test_wilson_agrees_with_statsmodels(counts: tuple[int, int], level: float) -> None:
    interval = wilson_interval(*counts, level)
    expected = proportion_confint(*counts, 1 - level, "wilson")
    assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-9)


def test_one_run_has_no_interval_and_each_names_its_source_of_variance() -> None:
    interval = t_interval([0.87], 0.95)
    assert (interval.estimate, interval.low, interval.high, interval.n) == (0.87, None, None, 1)
    assert "no interval" in interval.source
    assert wilson_interval(8622, 10_000, 0.95).source == "test sampling, n = 10,000 reviews"
    assert wilson_interval(1, 1, 0.9).source == "test sampling, n = 1 review"
    assert t_interval([0.1] * 5, 0.9).source == "seeds, n = 5 runs"


def test_numbers_out_of_range_are_refused() -> None:
    for wrong in ((-1, 10, 0.95), (11, 10, 0.95), (0, 0, 0.95), (5, 10, 0.0), (5, 10, 1.0)):
        with pytest.raises(ValueError, match="allowed"):
            wilson_interval(*wrong)
    for values, level, words in (([], 0.95, "at least one"), ([1, 2], 1.0, "allowed")):
        with pytest.raises(ValueError, match=words):
            t_interval(values, level)
