"""Intervals, comparisons and the like again, by statsmodels and plain loops, as results.json has
them.
"""

import math
from collections.abc import Sequence
from statistics import NormalDist, mean, stdev
from typing import Any

import numpy as np
from scipy.stats import chi2, norm
from scipy.stats import t as student
from statsmodels.api import OLS
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from tests.recorded_study import DRAWS, TESTS, Facts


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


def by_movie(values: Sequence[float], movies: Sequence[str]) -> dict[str, float]:
    groups = [sorted(set(movies)).index(movie) for movie in movies]
    fit = OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(groups)}, use_t=True
    )
    return interval(sum(values) / len(values), fit.conf_int(0.05)[0], len(values), 0, 1)


def bootstrap(rows: Sequence[Sequence[float]], groups: Sequence[Any]) -> dict[str, float]:
    """The same draws, their means by loops."""
    generator = np.random.default_rng(3)
    members = {
        group: [place for place, other in enumerate(groups) if other == group]
        for group in sorted(set(groups))
    }
    names, means = list(members), []
    for _ in range(DRAWS):
        reviews = [
            place
            for draw in generator.integers(len(names), size=len(names))
            for place in members[names[draw]]
        ]
        seeds = generator.integers(len(rows), size=len(rows))
        means.append(
            sum(sum(rows[seed][place] for place in reviews) for seed in seeds)
            / (len(rows) * len(reviews))
        )
    means.sort()
    ends = [
        means[int(at)] + (at % 1) * (means[int(at) + 1] - means[int(at)])
        for at in (0.025 * (DRAWS - 1), 0.975 * (DRAWS - 1))
    ]
    return interval(mean(map(mean, rows)), ends, len(rows))


def connor(discordant: float) -> float:
    """The difference at which d sqrt(n) = z(0.975) sqrt(p) + z(0.8) sqrt(p - d^2), by halving."""
    alpha, beta = (NormalDist().inv_cdf(quantile) for quantile in (0.975, 0.8))
    low, high = 0.0, math.sqrt(discordant)
    for _ in range(80):
        d = (low + high) / 2
        needed = alpha * math.sqrt(discordant) + beta * math.sqrt(discordant - d * d)
        low, high = (d, high) if d * math.sqrt(TESTS) < needed else (low, d)
    return low


def expected_slices(facts: Facts, name: str) -> dict[str, Any]:
    rows = [facts.right[name, seed] for seed in facts.accuracies(name, "test")]
    share = [sum(column) / len(rows) for column in zip(*rows, strict=True)]

    def on(keep: list[bool]) -> dict[str, float]:
        return wilson(sum(one for one, kept in zip(share, keep, strict=True) if kept), sum(keep))

    return {
        "runs": len(rows),
        "plain": wilson(sum(share), TESTS),
        "by_movie": by_movie(share, facts.movies),
        "both": bootstrap(rows, range(TESTS)),
        "unseen_movies": on(facts.unseen),
        "unique_texts": on(facts.unique),
    }


def expected_comparison(facts: Facts, first: str, second: str) -> dict[str, Any]:
    one, two = facts.accuracies(first, "test"), facts.accuracies(second, "test")
    seeds = [seed for seed in one if seed in two]
    differences = [two[seed] - one[seed] for seed in seeds]
    pairs = [
        list(zip(facts.right[first, seed], facts.right[second, seed], strict=True))
        for seed in seeds
    ]
    tests = []
    for pair in pairs:
        table = [
            [sum(answers == (a, b) for answers in pair) for b in (True, False)]
            for a in (True, False)
        ]
        p = mcnemar(table, exact=True).pvalue
        tests.append(
            {"only_first": table[0][1], "only_second": table[1][0], "reviews": TESTS, "p_value": p}
        )
    rows = [[b - a for a, b in pair] for pair in pairs]
    stats = DescrStatsW(differences)
    return {
        "seeds": seeds,
        "differences": differences,
        "paired": {
            "difference": over_seeds(differences),
            "p_value": stats.ttest_mean(0)[1],
            "deviation": stdev(differences),
        },
        "mcnemar": tests,
        "both": bootstrap(rows, range(TESTS)),
        "both_by_movie": bootstrap(rows, facts.movies),
        "detectable_by_seeds": TTestPower().solve_power(nobs=len(seeds), alpha=0.05, power=0.8)
        * stdev(differences),
        "detectable_by_reviews": connor(
            sum(t["only_first"] + t["only_second"] for t in tests) / (TESTS * len(tests))
        ),
    }


def power(effect: float, n: int, alpha: float) -> float:
    """Of the two-sided t test, by summing over the deviation that n runs show; statsmodels'
    noncentral t gives NaN for large effects.
    """
    critical, shift, width = student.ppf(1 - alpha / 2, n - 1), effect * math.sqrt(n), 0.002
    s = (np.arange(int(5 / width)) + 0.5) * width
    found = norm.cdf(shift - critical * s) + norm.cdf(-shift - critical * s)
    return float((2 * (n - 1) * s * chi2.pdf((n - 1) * s * s, n - 1) * found).sum() * width)
