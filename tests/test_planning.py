"""Seeds needed to show a margin, and that reviews can forbid it."""

import numpy as np
import pytest

from lora_replication.statistics import Components, seeds_for_margin
from lora_replication.statistics.components import crossed_components


def components(of_seeds: float, of_reviews: float, seeds: int = 5) -> Components:
    return Components(0.3, of_seeds, of_reviews, seeds, 1000, 1000, 1.0)


@pytest.mark.parametrize("sameness", [False, True])
def test_so_many_seeds_show_the_margin_about_as_often_as_promised(sameness: bool) -> None:
    """One seed has variance 1 and 200 reviews' mean 0.05, so a margin of 1.2 needs few seeds."""
    margin, reviews = 1.2, 200
    found = components(1 / 5, 0.05)
    seeds = seeds_for_margin(found, margin, level=0.95, power=0.8, sameness=sameness)
    chance, shown = np.random.default_rng(1), 0
    for _ in range(600):
        table = chance.normal(0 if sameness else margin, 1, (seeds, 1))
        table = table + chance.normal(0, np.sqrt(0.05 * reviews), (1, reviews))
        drawn = crossed_components(table + chance.normal(0, 0.1, (seeds, reviews)))
        shown += (drawn.equivalence(margin) if sameness else drawn.p_value()) < 0.05
    assert seeds >= 8
    assert 0.72 <= shown / 600 <= 0.9


def test_the_effect_that_was_seen_plays_no_part() -> None:
    needed = {
        seeds_for_margin(
            Components(mean, 0.2, 0.05, 5, 1000, 1000, 1.0), 1.2, level=0.95, power=0.8
        )
        for mean in (0.0, 1.0, 7.0)
    }
    assert len(needed) == 1


def test_reviews_can_forbid_what_seeds_could_show() -> None:
    # Without seeds' variance (1.96 + 0.84) 0.3 = 0.84 points are the least that can be shown.
    at = {"level": 0.95, "power": 0.8}
    assert seeds_for_margin(components(0.2, 0.09), 0.83, **at) is None
    assert seeds_for_margin(components(0.2, 0.09), 0.9, **at) > 5
    assert seeds_for_margin(components(0.0, 0.0), 0.1, **at) == 2
    assert seeds_for_margin(components(0.0, 0.0, seeds=1), 0.1, **at) is None
    with pytest.raises(ValueError, match="allowed"):
        seeds_for_margin(components(0.2, 0.1), 0.0, **at)
