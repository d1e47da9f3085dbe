"""Verdicts again, by statsmodels and plain loops, as results.json has them."""

import math
from collections.abc import Callable
from statistics import mean, stdev
from typing import Any

import numpy as np
from scipy.stats import t as student
from statsmodels.api import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest
from statsmodels.stats.weightstats import DescrStatsW

from tests.recomputing import interval, over_seeds, power
from tests.recorded_study import Facts

PARAMETERS = {
    "last_layers": 148_610,
    "lora_default": 73_728,
    "lora_tuned": 258_048,
    "full": 22_713_986,
}
DIFFERENCES = 10
"""Claims with a test of a difference: three orders, sameness, selection, five values."""


def seeds_for(enough: Callable[[int], bool]) -> int | None:
    return next((n for n in range(3, 10_000) if enough(n)), None)


def expected_verdict(facts: Facts, verdict: dict[str, Any]) -> dict[str, Any]:
    """Its numbers before Holm's correction; what decides how many seeds are needed is its word."""
    claim = verdict["claim"]
    name, kind, number = claim["name"], claim["kind"], claim["number"]
    told = {"claim": claim}  # checked against the article below
    if "example_layer" in name:
        return told | {
            "measured_count": 8 * 15_000 if kind == "count" else 5_000 * 10_000 / (8 * 15_000)
        }
    if kind in ("count", "ratio"):
        sizes = [PARAMETERS[method] for method in claim["methods"]]
        return told | {"measured_count": sizes[0] if kind == "count" else sizes[0] / sizes[1]}
    if kind == "selection":
        chosen, best = (
            sorted(cell["happened"]["val"]["correct"] for cell in cells(facts) if of(cell))
            for of in (is_tuned, has_val)
        )
        p = proportions_ztest([chosen[0], best[-1]], [500, 500])[1]
        ranks = [is_tuned(cell) for cell in ranked_cells(facts)]
        values = [ranks.index(True) + 1, 8, 100 * (best[-1] - chosen[0]) / 500]
        return told | {"p_difference": {"raw": min(1.0, 7 * p)}, "values": values}
    series = [
        {seed: 100 * one for seed, one in facts.accuracies(method, "test").items()}
        for method in claim["methods"]
    ]
    values = (
        list(series[0].values())
        if len(series) == 1
        else [series[1][s] - series[0][s] for s in series[0] if s in series[1]]
    )
    stats, spread, n = DescrStatsW(values), stdev(values), len(values)
    needed: int | None = None
    if kind == "value":
        frame = OLS(values, np.ones(n)).fit().get_prediction([1.0]).summary_frame(0.05)
        ends = (frame["obs_ci_lower"][0], frame["obs_ci_upper"][0])
        one_more = DescrStatsW(
            [mean(values) - number + (value - mean(values)) * math.sqrt(n + 1) for value in values]
        )
        p = {
            "p_difference": {"raw": one_more.ttest_mean(0)[1]},
            "p_sameness": {"raw": one_more.ttost_mean(-0.5, 0.5)[0]},
        }
        measured = interval(mean(values), ends, n, 0 if len(series) == 1 else -100, 100)
        wide = ends[1] - ends[0] > 2
        half, tail = (1.0, 0.025) if wide else (abs(number - mean(values)), 0.025 / DIFFERENCES)
        needed = seeds_for(
            lambda k: student.ppf(1 - tail, k - 1) * spread * math.sqrt(1 + 1 / k) <= half
        )
    else:
        measured = over_seeds(values)
        effect = mean(values) if kind == "order" else 0.5 - abs(mean(values))
        alpha = 0.05 / DIFFERENCES if kind == "order" and stats.ttest_mean(0)[1] < 0.05 else 0.05
        needed = seeds_for(lambda k: power(abs(effect) / spread, k, alpha) >= 0.8)
        beyond = (
            stats.ttest_mean(math.copysign(0.5, mean(values)))[1]
            if abs(mean(values)) > 0.5
            else 1.0
        )
        p = {"p_difference": {"raw": stats.ttest_mean(0)[1] if kind == "order" else beyond}}
        p |= {"p_sameness": {"raw": stats.ttost_mean(-0.5, 0.5)[0]}} if kind == "sameness" else {}
    return (
        told
        | p
        | {
            "measured_percent": measured,
            "values": values,
            "seeds_needed": needed if verdict["word"] == "inconclusive" else None,
        }
    )


def cells(facts: Facts) -> list[dict[str, Any]]:
    return [record for record in facts.records if record["asked"]["role"] == "cell"]


def has_val(cell: dict[str, Any]) -> bool:
    return cell["happened"]["val"] is not None


def is_tuned(cell: dict[str, Any]) -> bool:
    lora = cell["asked"]["settings"]["lora"]
    return (lora["rank"], lora["alpha"], sorted(lora["targets"])) == (
        8,
        1,
        ["mlp", "query", "value"],
    )


def with_holm(trees: list[dict[str, Any]], key: str) -> None:
    tested = [tree for tree in trees if tree.get(key)]
    for tree, p in zip(
        tested, multipletests([tree[key]["raw"] for tree in tested], method="holm")[1], strict=True
    ):
        tree[key]["holm"] = p


def ranked_cells(facts: Facts) -> list[dict[str, Any]]:
    return sorted(
        cells(facts),
        key=lambda cell: (
            -cell["happened"]["val"]["correct"] if has_val(cell) else 1,
            cell["happened"]["trainable_parameters"],
        ),
    )
