"""Intervals, comparisons and verdicts again, by statsmodels and numpy, as results.json has them.

Nothing of ``statistics`` or ``report`` is used.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, trim_mean
from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from tests.recorded_study import Facts, is_tuned
from tests.report_records import PARAMETERS

Found = dict[str, Any]
POWER = {False: float(norm.ppf(0.8)), True: float(norm.ppf(0.9))}
"""Normal quantiles of the power 0.8, for a difference and for sameness."""


def numbers(tree: Any, path: str = "") -> dict[str, float]:
    """Every number below ``tree`` by the path to it; numbers inside texts are not meant."""
    if isinstance(tree, dict | list):
        pairs = tree.items() if isinstance(tree, dict) else enumerate(tree)
        below = [numbers(value, f"{path}.{key}") for key, value in pairs]
        return {p: n for each in below for p, n in each.items()}
    is_number = isinstance(tree, int | float | np.integer) and not isinstance(tree, bool)
    return {path: tree} if is_number else {}


def interval(
    estimate: float, ends: Sequence[float], n: int, low: float = -math.inf, high: float = math.inf
) -> Found:
    kept = {"low": max(ends[0], low), "high": min(ends[1], high)}
    return {"estimate": estimate, **kept, "level": 0.95, "n": n}


def over_seeds(values: Sequence[float], *limits: float) -> Found:
    return interval(np.mean(values), DescrStatsW(values).tconfint_mean(), len(values), *limits)


def wilson(correct: float, n: int) -> Found:
    return interval(correct / n, proportion_confint(correct, n, 0.05, "wilson"), n)


def crossed(table: np.ndarray, groups: Iterable[Any]) -> Found:
    """Components of a (seeds, reviews) table; reviews of a group are taken together."""
    (seeds, reviews), mean, names = table.shape, table.mean(), list(groups)
    by_seed, by_review = table.mean(1) - mean, table.mean(0) - mean
    rest = table - mean - by_seed[:, None] - by_review

    def of_mean(deviations: np.ndarray) -> float:
        totals = pd.Series(deviations).groupby(names).sum()
        return len(totals) / (len(totals) - 1) * (totals**2).sum() / reviews**2

    shared = np.mean([of_mean(row) for row in rest]) / (seeds - 1)
    return {
        "mean": mean,
        "of_seeds": (by_seed**2).sum() / (seeds - 1) / seeds,
        "of_reviews": max(0.0, of_mean(by_review) - shared),
        "seeds": seeds,
        "reviews": reviews,
        "clusters": len(set(names)),
        "residual": (rest**2).sum() / ((seeds - 1) * (reviews - 1)),
    }


def critical(of_seeds: float, of_reviews: float, seeds: int, groups: int, tail: float) -> float:
    weighted = of_seeds * student.isf(tail, seeds - 1) + of_reviews * student.isf(tail, groups - 1)
    return float(weighted / (of_seeds + of_reviews))


def half_width(found: Found, tail: float = 0.025) -> float:
    """Of the interval that leaves out ``tail`` on each side."""
    a, b = found["of_seeds"], found["of_reviews"]
    return critical(a, b, found["seeds"], found["clusters"], tail) * math.sqrt(a + b)


def new_seeds_and_reviews(found: Found, *limits: float) -> Found:
    half = half_width(found)
    ends = (found["mean"] - half, found["mean"] + half)
    return interval(found["mean"], ends, found["seeds"], *limits)


def tail_beyond(found: Found, distance: float) -> float:
    """The tail whose half width is ``distance``, by halving."""
    low, high = 1e-30, 0.5
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if half_width(found, middle) > distance else (low, middle)
    return low


def seeds_for(enough: Callable[[int], bool]) -> int | None:
    return next((n for n in range(2, 10_001) if enough(n)), None)


def expected_method(facts: Facts, name: str) -> Found:
    """The row of a method, of the winner or of a runner-up."""
    runs, accuracies = facts.of(name), facts.accuracies(name)
    rows = np.array([facts.right[name, seed] for seed in accuracies])
    found, tests = crossed(rows, facts.reviews["movie"]), rows.shape[1]

    def on(kept: pd.Series) -> Found:
        return wilson(rows.mean(0)[kept].sum(), kept.sum())

    each = [scores(facts.margins[name, seed], facts.labels) for seed in accuracies]
    return {
        "learning_rate": runs[0]["asked"]["settings"]["learning_rate"],
        "spread": np.ptp([*accuracies.values()]),
        "trainable_parameters": runs[0]["happened"]["trainable_parameters"],
        "seeds": [run["asked"]["seed"] for run in runs],
        "runs_done": len(runs),
        "runs_diverged": sum(run["happened"]["status"] == "diverged" for run in runs),
        "runs_one_class": sum(run["happened"]["one_class"] for run in runs),
        "seconds": min([seconds_of(run["happened"]) for run in runs]),
        "peak_memory_bytes": max(run["happened"]["peak_memory_bytes"] for run in runs),
        **{
            part: over_seeds([*facts.accuracies(name, part).values()], 0, 1)
            for part in ("train", "val", "test")
        },
        "test_sampling": wilson(tests * np.mean([*accuracies.values()]), tests),
        "interval": new_seeds_and_reviews(found, 0, 1),
        "variance": {
            "components": found,
            "by_review": new_seeds_and_reviews(crossed(rows, range(tests))),
            "median": np.median(rows.mean(1)),
            "interquartile_mean": trim_mean(rows.mean(1), 0.25),
        },
        "scores": {key: np.mean([one[key] for one in each]) for key in each[0]},
        "unseen_movies": on(facts.reviews["unseen_movie"]),
        "unique_texts": on(~facts.reviews["repeated"]),
    }


def seconds_of(happened: dict[str, float]) -> float:
    return happened["training_seconds"] + happened["evaluation_seconds"]


def scores(margins: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of logits that are 3 apart, so that all confidences are equal."""
    sure, right = 1 / (1 + math.exp(-3)), np.mean((margins > 0) == (labels == 1))
    pairs = np.subtract.outer(margins[labels == 1], margins[labels == 0])
    return {
        "auroc": np.mean((pairs > 0) + 0.5 * (pairs == 0)),
        "log_loss": -right * math.log(sure) - (1 - right) * math.log(1 - sure),
        "brier": right * (1 - sure) ** 2 + (1 - right) * sure**2,
        "calibration_error": abs(sure - right),
    }


def expected_comparison(facts: Facts, first: str, second: str) -> Found:
    one, two = facts.accuracies(first), facts.accuracies(second)
    differences = {seed: two[seed] - one[seed] for seed in one if seed in two}
    found = crossed(facts.differences(first, second), facts.reviews["movie"])
    pairs, beyond = np.subtract.outer([*two.values()], [*one.values()]), abs(found["mean"]) - 0.005
    return {
        "seeds": list(differences),
        "differences": list(differences.values()),
        "interval": new_seeds_and_reviews(found),
        "p_value": 2 * tail_beyond(found, abs(found["mean"])),
        "p_sameness": 1.0 if beyond >= 0 else tail_beyond(found, -beyond),
        "seeds_share": found["of_seeds"] / (found["of_seeds"] + found["of_reviews"]),
        "over_seeds": over_seeds([*differences.values()]),
        "probability_of_improvement": np.mean((pairs > 0) + 0.5 * (pairs == 0)),
    }


def expected_verdicts(facts: Facts) -> list[Found]:
    """What decides whether more seeds are asked for is the verdict's word, and why."""
    found = facts.results["verdicts"]
    p_values = ("p_difference", "p_sameness")
    tests = sum(bool(verdict[p]) for verdict in found for p in p_values)
    verdicts = []
    for verdict in found:
        claim = verdict["claim"]
        kinds = {"value": expected_value, "selection": expected_selection}
        kinds |= dict.fromkeys(("count", "ratio"), expected_size)
        expected = kinds.get(claim["kind"], expected_difference)(facts, claim, tests)
        if verdict["word"] != "inconclusive" or verdict["why"] == "diverged":
            expected.pop("seeds_needed", None)
        verdicts.append({"claim": claim} | expected)  # claims are checked against the article
    family = [verdict[p] for verdict in verdicts for p in p_values if p in verdict]
    adjusted = multipletests([test["raw"] for test in family], method="holm")[1]
    for test, p in zip(family, adjusted, strict=True):
        test["holm"] = p
    return verdicts


def expected_size(_facts: Facts, claim: Found, _tests: int) -> Found:
    lora, whole = 8 * 15_000, 5_000 * 10_000
    sizes = [PARAMETERS[method] for method in claim["methods"]]
    if "example_layer" in claim["name"]:
        sizes = [lora] if claim["kind"] == "count" else [whole, lora]
    return {"measured_count": sizes[0] if claim["kind"] == "count" else sizes[0] / sizes[1]}


def expected_difference(facts: Facts, claim: Found, tests: int) -> Found:
    table = facts.differences(*claim["methods"])
    found, same = crossed(100 * table, facts.reviews["movie"]), claim["kind"] == "sameness"
    beyond = abs(found["mean"]) - (0.5 if same else 0)
    p = {"p_difference": {"raw": 2 * tail_beyond(found, beyond) if beyond > 0 else 1.0}}
    if same:
        p["p_sameness"] = {"raw": 1.0 if beyond >= 0 else tail_beyond(found, -beyond)}
    alpha = 0.05 / tests * (1 if same else 0.5)
    of_one, b, clusters = found["of_seeds"] * len(table), found["of_reviews"], found["clusters"]

    def enough(n: int) -> bool:
        quantiles = critical(of_one / n, b, n, clusters, alpha) + POWER[same]
        return quantiles * math.sqrt(of_one / n + b) <= 0.5

    return p | {
        "values": [100 * row.mean() for row in table],
        "measured_percent": new_seeds_and_reviews(found),
        "seeds_needed": seeds_for(enough),
    }


def expected_value(facts: Facts, claim: Found, tests: int) -> Found:
    series = [facts.accuracies(method) for method in claim["methods"]]
    seeds = [seed for seed in series[0] if seed in series[-1]]
    columns = 100 * np.array([[one[seed] for seed in seeds] for one in series])
    gain = len(columns) == 2
    values = columns[-1] - (columns[0] if gain else 0)
    n, of_one, new = len(values), values.var(ddof=1), columns.var(axis=1, ddof=1).sum()
    error, distance = math.sqrt(of_one / n + new), abs(values.mean() - claim["number"])
    half = student.ppf(0.975, n - 1) * error

    def enough(k: int) -> bool:
        return bool(student.isf(0.05 / tests, k - 1) * math.sqrt(of_one / k + new) <= 1.4)

    ends = (values.mean() - half, values.mean() + half)
    return {
        "values": values.tolist(),
        "p_difference": {"raw": 2 * student.sf(distance / error, n - 1)},
        "p_sameness": {"raw": student.sf((1.4 - distance) / error, n - 1)},
        "measured_percent": interval(values.mean(), ends, n, -100 if gain else 0, 100),
        "seeds_needed": seeds_for(enough),
    }


def expected_selection(facts: Facts, _claim: Found, _tests: int) -> Found:
    ranked = facts.ranked_cells
    place = [is_tuned(cell) for cell in ranked].index(True)
    best, chosen = (cell["happened"]["val"]["correct"] for cell in (ranked[0], ranked[place]))
    table = facts.differences(ranked[place]["asked"]["name"], "grid_winner")
    found = crossed(100 * table, facts.reviews["movie"])
    return {
        "values": [place + 1, len(ranked), 100 * (best - chosen) / 500],
        "p_difference": {"raw": 2 * tail_beyond(found, abs(found["mean"]))},
        "measured_percent": new_seeds_and_reviews(found),
    }
