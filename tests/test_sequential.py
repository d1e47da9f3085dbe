"""Bounds for several looks, and the error and power of comparisons that use them."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from benchmarks import coverage as simulated
from lora_replication.compare.decision import Pairs, Rule, decide, looks_until
from lora_replication.statistics import look_tails


def test_the_bounds_are_the_published_ones() -> None:
    """Five equal looks, two-sided 5 %, O'Brien-Fleming-type spending: Lan and DeMets' program."""
    found = norm.isf(look_tails([1, 2, 3, 4, 5], 0.05))
    assert found == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    assert look_tails([7], 0.05) == pytest.approx([0.025])


@pytest.mark.parametrize("looks", [(3, 6, 10, 15, 30), (10, 15, 20, 25, 30), tuple(range(3, 31))])
def test_of_means_without_a_difference_so_many_cross_a_bound(looks) -> None:
    """The Monte Carlo standard error of 100,000 tries is 0.07 points."""
    sums = np.random.default_rng(1).standard_normal((100_000, looks[-1])).cumsum(axis=1)
    z = sums[:, np.array(looks) - 1] / np.sqrt(looks)
    for alpha in (0.05, 0.1):
        crossed = (np.abs(z) > norm.isf(look_tails(looks, alpha))).any(axis=1)
        assert crossed.mean() == pytest.approx(alpha, abs=0.003)


@pytest.mark.parametrize("looks", [[], [5, 5], [6, 5], [0, 5]])
def test_looks_must_grow(looks) -> None:
    with pytest.raises(ValueError, match=r"looks .*; allowed: growing whole numbers from 1"):
        look_tails(looks, 0.05)
    with pytest.raises(ValueError, match="alpha 1"):
        look_tails([5], 1)


def test_looks_are_in_steps_up_to_the_most() -> None:
    assert looks_until(10, 30, 5) == (10, 15, 20, 25, 30)
    assert looks_until(3, 12, 4) == (3, 7, 11, 12)
    assert looks_until(5, 5, 5) == (5,)


LOOKS = (4, 8, 12, 16)
REVIEWS = 500


def words(kind: str, effect: float, studies: int, margin: float = 0.005) -> list[tuple[str, int]]:
    """The last word of each study and its look: two methods whose seeds vary by 2 points and whose
    reviews favour either by 0.6 points; answers are right where a sum of normal effects is above 0.
    """
    chance = np.random.default_rng([simulated.KINDS.index(kind), round(1e4 * effect)])
    rule, said = Rule(margin, 0.95, 0.8, LOOKS), []
    for _ in range(studies):
        common, *own = simulated.review_effects(chance, np.arange(REVIEWS), 3)
        sides = []
        for mean, mine in zip((0.8, 0.8 + effect), own, strict=True):
            effects = 0.975 * common + math.sqrt(1 - 0.975**2) * mine
            drawn = simulated.accuracies(kind, chance.random(LOOKS[-1]), mean, 0.02)
            sides.append(simulated.answers(chance, drawn, effects).astype(float))
        runs = tuple(zip(*sides, strict=True))
        for look, seeds in enumerate(LOOKS):
            found = decide(Pairs(runs[:seeds]), rule, look)
            if found.word != "undecided":
                break
        said.append((found.word, look))
    return said


def share(found: list[tuple[str, int]], *words: str) -> float:
    return sum(word in words for word, _ in found) / len(found)


@pytest.mark.parametrize("kind", ["normal", "t, 3 df"])
def test_all_looks_together_find_no_difference_that_is_not_there(kind) -> None:
    """At most 5 %, give or take two Monte Carlo standard errors (1.1 points) of 400 studies."""
    found = words(kind, 0.0, 400)
    assert share(found, "better", "worse") <= 0.05 + 0.022


def test_methods_that_differ_by_the_margin_are_rarely_called_as_good() -> None:
    found = words("normal", 0.03, 400, margin=0.03)
    assert share(found, "as good") <= 0.05 + 0.022


def test_a_difference_is_found_and_large_ones_early() -> None:
    """The difference varies by 2.8 points over seeds: 4 points are 5.2 standard errors of 16 seeds
    and the reviews.
    """
    found = words("normal", 0.04, 100)
    assert share(found, "better") >= 0.95
    assert share(found, "worse") == 0
    looks = {
        effect: np.mean([look for _, look in words("normal", effect, 50)]) for effect in (0.04, 0.1)
    }
    assert looks[0.1] < looks[0.04] < 3
