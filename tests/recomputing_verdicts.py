"""Verdicts again, by statsmodels and plain loops, as results.json has them."""

import math
from statistics import mean, variance
from typing import Any

from scipy.stats import t as student
from statsmodels.stats.multitest import multipletests

from tests.recomputing import (
    POWER,
    crossed,
    difference_table,
    interval,
    new_seeds_and_reviews,
    seeds_for,
    seeds_to_show,
    tail_beyond,
)
from tests.recorded_study import Facts

PARAMETERS = {
    "last_layers": 148_610,
    "lora_default": 73_728,
    "lora_tuned": 258_048,
    "full": 22_713_986,
}


def expected_verdict(facts: Facts, verdict: dict[str, Any], tests: int) -> dict[str, Any]:
    """Its numbers before Holm's correction; what decides how many seeds are needed is its word."""
    claim = verdict["claim"]
    name, kind = claim["name"], claim["kind"]
    known = {"claim": claim}  # checked against the article below
    if "example_layer" in name:
        return known | {
            "measured_count": 8 * 15_000 if kind == "count" else 5_000 * 10_000 / (8 * 15_000)
        }
    if kind in ("count", "ratio"):
        sizes = [PARAMETERS[method] for method in claim["methods"]]
        return known | {"measured_count": sizes[0] if kind == "count" else sizes[0] / sizes[1]}
    if kind == "selection":
        return known | expected_selection(facts)
    expected = (expected_value if kind == "value" else expected_difference)(facts, claim, tests)
    if verdict["word"] != "inconclusive":
        expected.pop("seeds_needed")
    return known | expected


def in_points(found: dict[str, Any]) -> dict[str, Any]:
    squared = {name: 1e4 * found[name] for name in ("of_seeds", "of_reviews")}
    return found | squared | {"mean": 100 * found["mean"]}


def expected_difference(facts: Facts, claim: dict[str, Any], tests: int) -> dict[str, Any]:
    table = difference_table(facts, *claim["methods"])
    found = in_points(crossed(table, facts.movies))
    same, distance = claim["kind"] == "sameness", abs(found["mean"])
    beyond = distance - 0.5 if same else distance
    p = {"p_difference": {"raw": 2 * tail_beyond(found, beyond) if beyond > 0 else 1.0}}
    if same:
        p["p_sameness"] = {"raw": 1.0 if beyond >= 0 else tail_beyond(found, -beyond)}
    alpha = 0.05 / tests * (1 if same else 0.5)
    return p | {
        "values": [100 * mean(row) for row in table],
        "measured_percent": new_seeds_and_reviews(found),
        "seeds_needed": seeds_to_show(found, 0.5, alpha, POWER[same]),
    }


def expected_value(facts: Facts, claim: dict[str, Any], tests: int) -> dict[str, Any]:
    series = [facts.accuracies(method, "test") for method in claim["methods"]]
    seeds = [seed for seed in series[0] if seed in series[-1]]
    columns = [[100 * one[seed] for seed in seeds] for one in series]
    gain = len(columns) == 2
    values = [b - a for a, b in zip(*columns, strict=True)] if gain else columns[0]
    n, new = len(values), sum(map(variance, columns))
    error = math.sqrt(variance(values) / n + new)
    half = student.ppf(0.975, n - 1) * error
    distance = abs(mean(values) - claim["number"])
    ends = (mean(values) - half, mean(values) + half)
    alpha = 0.05 / tests
    return {
        "values": values,
        "p_difference": {"raw": 2 * student.sf(distance / error, n - 1)},
        "p_sameness": {"raw": student.sf((1.4 - distance) / error, n - 1)},
        "measured_percent": interval(mean(values), ends, n, -100 if gain else 0, 100),
        "seeds_needed": seeds_for(
            lambda k: student.isf(alpha, k - 1) * math.sqrt(variance(values) / k + new) <= 1.4
        ),
    }


def expected_selection(facts: Facts) -> dict[str, Any]:
    ranked = ranked_cells(facts)
    place = [is_tuned(cell) for cell in ranked].index(True)
    chosen, best = ranked[place], ranked[0]
    behind = best["happened"]["val"]["correct"] - chosen["happened"]["val"]["correct"]
    table = difference_table(facts, chosen["asked"]["name"], "grid_winner")
    found = in_points(crossed(table, facts.movies))
    return {
        "values": [place + 1, 8, 100 * behind / 500],
        "p_difference": {"raw": 2 * tail_beyond(found, abs(found["mean"]))},
        "measured_percent": new_seeds_and_reviews(found),
    }


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


def with_holm(trees: list[dict[str, Any]]) -> None:
    """One family of all tests."""
    tests = [tree[key] for tree in trees for key in ("p_difference", "p_sameness") if tree.get(key)]
    adjusted = multipletests([test["raw"] for test in tests], method="holm")[1]
    for test, p in zip(tests, adjusted, strict=True):
        test["holm"] = p


def ranked_cells(facts: Facts) -> list[dict[str, Any]]:
    return sorted(
        cells(facts),
        key=lambda cell: (
            -cell["happened"]["val"]["correct"] if has_val(cell) else 1,
            cell["happened"]["trainable_parameters"],
        ),
    )
