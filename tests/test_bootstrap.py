"""The two-level bootstrap: against plain loops, in its limits, and its documented weakness."""

import numpy as np
import pytest

from lora_replication.statistics import t_interval, two_level_bootstrap

RIGHT = np.random.default_rng(3).random((5, 40)) < 0.85


def test_the_estimate_is_the_mean_and_the_seed_decides_the_ends() -> None:
    one, two, other = (two_level_bootstrap(RIGHT, 0.9, draws=200, seed=seed) for seed in (1, 1, 2))
    assert one.estimate == pytest.approx(RIGHT.mean())
    assert one == two
    assert (one.low, one.high) != (other.low, other.high)
    assert one.low < one.estimate < one.high
    assert one.source == "seeds and test sampling, n = 5 runs on 40 reviews"


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(8), 5)])
def test_plain_loops_give_the_same(clusters: np.ndarray | None) -> None:
    generator = np.random.default_rng(7)
    labels = np.arange(40) if clusters is None else clusters
    groups = sorted(set(labels.tolist()))
    means = []
    for _ in range(60):
        drawn = [groups[place] for place in generator.integers(len(groups), size=len(groups))]
        seeds = generator.integers(5, size=5)
        reviews = [review for group in drawn for review in range(40) if labels[review] == group]
        means.append(
            sum(int(RIGHT[seed, review]) for seed in seeds for review in reviews)
            / (5 * len(reviews))
        )
    found = two_level_bootstrap(RIGHT, 0.9, draws=60, seed=7, clusters=clusters)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.05, 0.95])))


def test_reviews_alone_give_the_binomial_spread() -> None:
    right = np.repeat(np.arange(1000) < 900, 1)[None, :]
    found = two_level_bootstrap(right, 0.95, draws=2000, seed=1)
    # One seed: only the reviews scatter, with sd sqrt(0.9 * 0.1 / 1000).
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * np.sqrt(0.09 / 1000), rel=0.1)


def test_over_five_seeds_it_covers_less_than_t_does() -> None:
    draws = np.random.default_rng(4).normal(0, 1, (300, 5))
    boot = [two_level_bootstrap(row[:, None], 0.95, draws=200, seed=1) for row in draws]
    assert np.mean([one.low <= 0 <= one.high for one in boot]) < 0.9
    assert (
        np.mean(
            [one.low <= 0 <= one.high for one in (t_interval(row.tolist(), 0.95) for row in draws)]
        )
        > 0.92
    )


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="allowed"):
        two_level_bootstrap([1, 0], 0.95, draws=10, seed=1)
    with pytest.raises(ValueError, match="allowed"):
        two_level_bootstrap(RIGHT, 0.95, draws=0, seed=1)
    with pytest.raises(ValueError, match="one for each"):
        two_level_bootstrap(RIGHT, 0.95, draws=1, seed=1, clusters=[1, 2])
