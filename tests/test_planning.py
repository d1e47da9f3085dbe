"""What reviews and seeds can show: against statsmodels' power and by simulation."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from lora_replication.statistics import (
    mcnemar,
    seeds_for_difference,
    seeds_for_exclusion,
    seeds_for_prediction,
    smallest_difference_of_reviews,
    smallest_difference_of_seeds,
)


@pytest.mark.parametrize("seeds", [3, 5, 10, 40])
def test_seeds_agree_with_statsmodels(seeds: int) -> None:
    smallest = smallest_difference_of_seeds(0.004, seeds, level=0.95, power=0.8)
    assert TTestPower().power(smallest / 0.004, seeds, 0.05) == pytest.approx(0.8, abs=5e-4)
    assert seeds_for_difference(smallest * 1.0001, 0.004, level=0.95, power=0.8) == seeds
    assert seeds_for_difference(smallest * 0.999, 0.004, level=0.95, power=0.8) == seeds + 1


def test_two_seeds_by_simulation() -> None:
    # t(0.975; 1) = 12.706; statsmodels gives NaN here.
    smallest = smallest_difference_of_seeds(1.0, 2, level=0.95, power=0.8)
    draws = np.random.default_rng(2).normal(smallest, 1, (100_000, 2))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(2))
    assert np.mean(np.abs(t) > 12.706) == pytest.approx(0.8, abs=0.005)


def test_reviews_by_simulation() -> None:
    # 10 % discordant on 1,000 reviews: a difference of this size is found in about 80 % of all
    # tries.
    smallest = smallest_difference_of_reviews(0.1, 1000, level=0.95, power=0.8)
    generator = np.random.default_rng(1)
    found = 0
    for _ in range(1500):
        draw = generator.random(1000)
        first, second = draw < (0.1 + smallest) / 2, (draw >= (0.1 + smallest) / 2) & (draw < 0.1)
        found += mcnemar(first, second).p_value < 0.05
    assert found / 1500 == pytest.approx(0.8, abs=0.04)


def test_reviews_by_hand() -> None:
    # With power 1/2 the second quantile is 0: d = z sqrt(p / n).
    assert smallest_difference_of_reviews(0.04, 10_000, level=0.95, power=0.5) == pytest.approx(
        1.959963985 * 0.2 / 100
    )


def test_prediction_by_hand() -> None:
    # t(0.975; 4) = 2.776: 5 runs give 2.776 * sqrt(6 / 5) = 3.041 sd; 4 give 3.182 * sqrt(5 / 4) =
    # 3.558 sd.
    assert seeds_for_prediction(1.0, 3.05, level=0.95) == 5
    assert seeds_for_prediction(1.0, 3.04, level=0.95) == 6
    assert seeds_for_prediction(1.0, 1.9, level=0.95) is None
    assert seeds_for_prediction(0.0, 1.0, level=0.95) == 2


def test_exclusion_is_the_prediction_interval_seen_from_the_run() -> None:
    assert seeds_for_exclusion(-3.05, 1.0, level=0.95) == 5
    assert seeds_for_exclusion(0.0, 1.0, level=0.95) is None


def test_limits() -> None:
    assert smallest_difference_of_seeds(0.1, 1, level=0.95, power=0.8) is None
    assert seeds_for_difference(0.0, 0.1, level=0.95, power=0.8) is None
    assert seeds_for_difference(1e-9, 0.1, level=0.95, power=0.8) is None
    assert seeds_for_difference(0.1, 0.0, level=0.95, power=0.8) == 2
    assert seeds_for_difference(100.0, 0.1, level=0.95, power=0.8) == 2
    for wrong in (
        lambda: smallest_difference_of_reviews(0.0, 10, level=0.95, power=0.8),
        lambda: smallest_difference_of_seeds(-1, 3, level=0.95, power=0.8),
        lambda: seeds_for_difference(1, 1, level=1, power=0.8),
    ):
        with pytest.raises(ValueError, match="allowed"):
            wrong()
