"""Intervals, comparisons and the like again, by statsmodels and plain loops, as results.json has
them.
"""

import math
from collections.abc import Callable, Sequence
from statistics import mean, median
from typing import Any

from scipy.stats import norm, trim_mean
from scipy.stats import t as student
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from tests.recorded_study import TESTS, Facts


def numbers(tree: Any, path: str) -> dict[str, float]:
    """Every number below ``tree`` by the path to it; numbers inside texts are not meant."""
    if isinstance(tree, dict):
        return {
            p: n for key, value in tree.items() for p, n in numbers(value, f"{path}.{key}").items()
        }
    if isinstance(tree, list):
        return {
            p: n
            for place, value in enumerate(tree)
            for p, n in numbers(value, f"{path}.{place}").items()
        }
    return {path: tree} if isinstance(tree, int | float) and not isinstance(tree, bool) else {}


def interval(
    estimate: float, ends: Sequence[float], n: int, low: float = -math.inf, high: float = math.inf
) -> dict[str, float]:
    return {
        "estimate": estimate,
        "low": max(ends[0], low),
        "high": min(ends[1], high),
        "level": 0.95,
        "n": n,
    }


def over_seeds(
    values: Sequence[float], low: float = -math.inf, high: float = math.inf
) -> dict[str, float]:
    return interval(
        sum(values) / len(values), DescrStatsW(values).tconfint_mean(), len(values), low, high
    )


def wilson(correct: float, n: int) -> dict[str, float]:
    return interval(correct / n, proportion_confint(correct, n, 0.05, "wilson"), n)


def crossed(rows: Sequence[Sequence[float]], groups: Sequence[Any]) -> dict[str, Any]:
    """Components of a (seeds, reviews) table, by loops; reviews of a group are taken together."""
    seeds, reviews, names = len(rows), len(rows[0]), sorted(set(groups))
    all_of = mean(map(mean, rows))
    by_seed = [mean(row) for row in rows]
    by_review = [mean(column) for column in zip(*rows, strict=True)]
    rest = [
        [x - s - r + all_of for x, r in zip(row, by_review, strict=True)]
        for row, s in zip(rows, by_seed, strict=True)
    ]

    def of_mean(deviations: Sequence[float]) -> float:
        totals = dict.fromkeys(names, 0.0)
        for group, deviation in zip(groups, deviations, strict=True):
            totals[group] += deviation
        g = len(names)
        return g / (g - 1) * sum(total**2 for total in totals.values()) / reviews**2

    shared = mean(map(of_mean, rest)) / (seeds - 1)
    return {
        "mean": all_of,
        "of_seeds": sum((s - all_of) ** 2 for s in by_seed) / (seeds - 1) / seeds,
        "of_reviews": max(0.0, of_mean([r - all_of for r in by_review]) - shared),
        "seeds": seeds,
        "reviews": reviews,
        "clusters": len(names),
        "residual": sum(x**2 for row in rest for x in row) / ((seeds - 1) * (reviews - 1)),
    }


def critical(of_seeds: float, of_reviews: float, seeds: int, groups: int, tail: float) -> float:
    weighted = of_seeds * student.isf(tail, seeds - 1) + of_reviews * student.isf(tail, groups - 1)
    return float(weighted / (of_seeds + of_reviews))


def at(found: dict[str, Any], tail: float) -> float:
    """The half width of the interval that leaves out ``tail`` on each side."""
    a, b = found["of_seeds"], found["of_reviews"]
    return critical(a, b, found["seeds"], found["clusters"], tail) * math.sqrt(a + b)


def new_seeds_and_reviews(
    found: dict[str, Any], low: float = -math.inf, high: float = math.inf
) -> dict[str, float]:
    ends = (found["mean"] - at(found, 0.025), found["mean"] + at(found, 0.025))
    return interval(found["mean"], ends, found["seeds"], low, high)


def tail_beyond(found: dict[str, Any], distance: float) -> float:
    """The tail whose half width is ``distance``, by halving."""
    low, high = 1e-30, 0.5
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if at(found, middle) > distance else (low, middle)
    return low


def seeds_for(enough: Callable[[int], bool]) -> int | None:
    return next((n for n in [*range(2, 400), 10_000] if enough(n)), None)


def seeds_to_show(found: dict[str, Any], margin: float, alpha: float, more: float) -> int | None:
    """``alpha``: of one side; ``more``: the normal quantile of the power."""
    b, of_one = found["of_reviews"], found["of_seeds"] * found["seeds"]
    return seeds_for(
        lambda n: (
            (critical(of_one / n, b, n, found["clusters"], alpha) + more)
            * math.sqrt(of_one / n + b)
            <= margin
        )
    )


POWER = {False: float(norm.ppf(0.8)), True: float(norm.ppf(0.9))}
"""Normal quantiles of the power 0.8, for a difference and for sameness."""


def expected_described(facts: Facts, name: str) -> dict[str, Any]:
    """What predictions add to a method's row."""
    seeds = list(facts.accuracies(name, "test"))
    rows = [facts.right[name, seed] for seed in seeds]
    found, accuracies = crossed(rows, facts.movies), [mean(row) for row in rows]
    by_review = [mean(column) for column in zip(*rows, strict=True)]

    def on(keep: list[bool]) -> dict[str, float]:
        chosen = sum(one for one, kept in zip(by_review, keep, strict=True) if kept)
        return wilson(chosen, sum(keep))

    return {
        "interval": new_seeds_and_reviews(found, 0, 1),
        "variance": {
            "components": found,
            "by_review": new_seeds_and_reviews(crossed(rows, range(TESTS))),
            "median": median(accuracies),
            "interquartile_mean": trim_mean(accuracies, 0.25),
        },
        "scores": expected_scores([facts.logits[name, seed] for seed in seeds]),
        "unseen_movies": on(facts.unseen),
        "unique_texts": on(facts.unique),
    }


def expected_scores(runs: Sequence[Sequence[tuple[float, int]]]) -> dict[str, float]:
    """Of logits that are 3 apart, so that all confidences are equal."""
    sure, found = 1 / (1 + math.exp(-3)), []
    for run in runs:
        right = mean((m > 0) == (label == 1) for m, label in run)
        ones, zeros = ([m for m, label in run if label == k] for k in (1, 0))
        found.append(
            {
                "auroc": mean((a > b) + 0.5 * (a == b) for a in ones for b in zeros),
                "log_loss": -right * math.log(sure) - (1 - right) * math.log(1 - sure),
                "brier": right * (1 - sure) ** 2 + (1 - right) * sure**2,
                "calibration_error": abs(sure - right),
            }
        )
    return {name: mean(run[name] for run in found) for name in found[0]}


def difference_table(facts: Facts, first: str, second: str) -> list[list[float]]:
    """The second's right answers minus the first's, one row a shared seed."""
    seeds = [s for s in facts.accuracies(first, "test") if s in facts.accuracies(second, "test")]
    pairs = [zip(facts.right[first, s], facts.right[second, s], strict=True) for s in seeds]
    return [[b - a for a, b in pair] for pair in pairs]


def expected_comparison(facts: Facts, first: str, second: str) -> dict[str, Any]:
    one, two = facts.accuracies(first, "test"), facts.accuracies(second, "test")
    seeds = [seed for seed in one if seed in two]
    differences = [two[seed] - one[seed] for seed in seeds]
    found = crossed(difference_table(facts, first, second), facts.movies)
    wins = [(b > a) + 0.5 * (b == a) for a in one.values() for b in two.values()]
    return {
        "seeds": seeds,
        "differences": differences,
        "interval": new_seeds_and_reviews(found),
        "p_value": 2 * tail_beyond(found, abs(found["mean"])),
        "seeds_share": found["of_seeds"] / (found["of_seeds"] + found["of_reviews"]),
        "over_seeds": over_seeds(differences),
        "probability_of_improvement": mean(wins),
    }
