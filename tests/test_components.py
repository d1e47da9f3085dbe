import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy import stats

from lora_replication.statistics.components import (
    Components,
    crossed_components,
    power,
    seeds_for_margin,
)
from tests.recomputing import crossed

RECORDS = Path(__file__).resolve().parents[1] / "reports" / "minilm-small" / "records"


def test_a_table_worked_by_hand():
    """Two seeds, three reviews: means of seeds 1 and 2, of reviews 1, 2 and 1.5."""
    found = crossed_components([[0, 2, 1], [2, 2, 2]])
    assert found.mean == pytest.approx(1.5)
    assert found.of_seeds == pytest.approx(0.5 / 2)
    # Review means vary by 0.25; the interaction's sum of squares 1 has 2 degrees of freedom.
    assert found.residual == pytest.approx(0.5)
    assert found.of_reviews == pytest.approx(max(0.0, 0.25 / 3 - 0.5 / 6))
    assert found.critical(0.025) == pytest.approx(stats.t.isf(0.025, 1))


def right(name: str) -> np.ndarray:
    """(seeds, reviews) of the committed study, by seed."""
    folders = sorted((RECORDS / name).iterdir(), key=lambda folder: int(folder.name[5:]))
    tables = [pq.read_table(folder / "predictions.parquet").to_pandas() for folder in folders]
    tested = [table[table["split"] == "test"] for table in tables]
    return np.array([(t["logit_1"] > t["logit_0"]) == (t["label"] == 1) for t in tested], float)


@pytest.mark.parametrize(
    ("methods", "low", "high"),
    [
        (("last_layers",), 61.56, 65.92),
        (("lora_default",), 72.08, 77.70),
        (("lora_tuned",), 66.52, 79.20),
        (("full",), 77.50, 81.86),
        (("grid_winner",), 71.03, 82.63),
        (("lora_default", "full"), 3.13, 6.45),
        (("last_layers", "lora_default"), 8.08, 14.22),
        (("lora_default", "lora_tuned"), -8.30, 4.24),
    ],
)
def test_the_committed_study_has_the_intervals_that_other_code_found(methods, low, high):
    *first, last = map(right, methods)
    table = last - first[0] if first else last
    found = crossed_components(table)
    interval = found.interval(0.95)
    assert (100 * interval.low, 100 * interval.high) == pytest.approx((low, high), abs=0.005)
    movies = pq.read_table(RECORDS.parent / "data" / "test_reviews.parquet")["movie"].to_pylist()
    for groups in (range(1_000), movies):
        expected = crossed(table, groups)
        assert vars(crossed_components(table, groups)) == pytest.approx(
            expected, rel=1e-9, abs=1e-15
        )
    assert found == crossed_components(table, range(1_000))


def test_reviews_of_a_movie_are_sampled_together():
    """Repeating each review once, as of one movie, adds nothing that was not known."""
    chance = np.random.default_rng(1)
    table = (chance.random((4, 60)) < 0.7).astype(float)
    single = crossed_components(table)
    doubled = crossed_components(np.repeat(table, 2, axis=1), np.repeat(np.arange(60), 2))
    assert doubled.of_seeds == pytest.approx(single.of_seeds)
    assert doubled.of_reviews == pytest.approx(single.of_reviews)
    assert doubled.interval(0.95).low == pytest.approx(single.interval(0.95).low)
    assert "60 movies" in doubled.interval(0.95).source


@pytest.mark.parametrize("seeds", [2, 3, 10])
@pytest.mark.parametrize("level", [0.9, 0.95, 0.995])
def test_an_interval_excludes_a_value_exactly_where_its_test_rejects_it(seeds, level):
    table = np.random.default_rng(seeds).normal(0.1, 1, (seeds, 40))
    found = crossed_components(table)
    interval = found.interval(level)
    for end, outside in ((interval.low, -1e-9), (interval.high, 1e-9)):
        assert found.p_value(centre=end + outside) < 1 - level < found.p_value(centre=end - outside)
    assert found.p_value(centre=found.mean) == 1.0
    # Two one-sided tests reject at 1 - level where the interval of 2 level - 1 is in the margin.
    narrow = found.interval(2 * level - 1)
    margin = max(abs(narrow.low), abs(narrow.high))
    assert found.equivalence(margin + 1e-9) < 1 - level < found.equivalence(margin - 1e-9)


def test_what_can_not_be_told_is_none_and_never_a_nan():
    one_seed = crossed_components([[0, 1, 1]])
    assert one_seed.p_value() is None
    assert "reviews alone" in one_seed.interval(0.95).source
    assert one_seed.interval(0.95).high > one_seed.mean
    one_movie = crossed_components([[0, 1, 1], [1, 1, 1]], ["a", "a", "a"])
    assert (one_movie.interval(0.95).low, one_movie.p_value()) == (None, None)
    constant = crossed_components(np.ones((3, 5)))
    assert (constant.interval(0.95).low, constant.p_value(1.0), constant.p_value()) == (1, 1, 0)
    with pytest.raises(ValueError, match=r"table \(3,\); allowed"):
        crossed_components([1, 0, 1])
    with pytest.raises(ValueError, match=r"clusters \(2,\) for 3 reviews"):
        crossed_components([[1, 0, 1]], ["a", "b"])


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


@pytest.mark.parametrize(
    ("effect", "seed_sd", "of_reviews", "seeds", "level"),
    [(1, 1, 0.4, 5, 0.95), (1, 0.5, 0.126, 3, 0.95), (3, 2, 0.4, 10, 0.997),
     (0.5, 0.2, 1.1, 20, 0.95), (0, 1, 0.4, 3, 0.95)],
)  # fmt: skip
def test_power_is_how_often_simulated_studies_show_the_effect(
    effect: float, seed_sd: float, of_reviews: float, seeds: int, level: float
) -> None:
    """Three standard errors of 4,000 studies are at most 0.024."""
    chance, reviews, shown = np.random.default_rng(seeds), 200, 0
    for _ in range(4_000):
        table = effect + chance.normal(0, seed_sd, (seeds, 1))
        table = table + chance.normal(0, of_reviews * math.sqrt(reviews), (1, reviews))
        interval = crossed_components(table).interval(level)
        shown += not interval.low <= 0 <= interval.high
    at = {"seeds": seeds, "reviews": reviews, "level": level}
    assert power(effect, seed_sd, of_reviews, **at) == pytest.approx(shown / 4_000, abs=0.03)


def test_reviews_can_forbid_what_seeds_could_show() -> None:
    # Without seeds' variance (1.96 + 0.84) 0.3 = 0.84 points are the least that can be shown.
    at = {"level": 0.95, "power": 0.8}
    assert seeds_for_margin(components(0.2, 0.09), 0.83, **at) is None
    assert seeds_for_margin(components(0.2, 0.09), 0.9, **at) > 5
    assert seeds_for_margin(components(0.0, 0.0), 0.1, **at) == 2
    assert seeds_for_margin(components(0.0, 0.0, seeds=1), 0.1, **at) is None
    with pytest.raises(ValueError, match="allowed"):
        seeds_for_margin(components(0.2, 0.1), 0.0, **at)
