"""Every number of results.json and table.csv again, from the files of a study, each place by name;
a number that nobody recomputes fails the test as well.
"""

import math
from itertools import combinations
from typing import Any

import pytest
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from tests.recomputing import (
    crossed,
    expected_comparison,
    expected_method,
    expected_verdicts,
    interval,
    new_seeds_and_reviews,
    numbers,
)
from tests.recorded_study import Facts, is_tuned, write_recorded_study

PUBLISHED = ("trainable_parameters", "train_percent", "val_percent", "test_percent", "minutes")
ARTICLE = {  # rank, alpha, parameters, train, val, test, minutes
    "last_layers": (None, None, 592_130, 86.68, 87.26, 86.22, 6.02),
    "lora_default": (8, 16, 147_456, 92.15, 89.98, 89.44, 13.28),
    "lora_tuned": (8, 1, 516_096, 96.22, 92.96, 92.39, None),
    "full": (None, None, 66_955_010, 96.41, 92.80, 92.31, 15.68),
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    root = tmp_path_factory.mktemp("recomputed")
    write_recorded_study(root)
    return Facts(root)


def published(name: str) -> dict[str, Any]:
    rank, alpha, *row = ARTICLE[name]
    lora = {"rank": rank, "alpha": alpha, "dropout": 0.0} if rank else None
    return {"lora": lora, **dict(zip(PUBLISHED, row, strict=True))}


def expected_run(record: dict[str, Any], place: int | None) -> dict[str, Any]:
    asked, settings = record["asked"], record["asked"]["settings"]
    if lora := settings.get("lora"):
        settings = settings | {"lora": {"dropout": 0.0} | lora}
    where = {name: record["where"].get(name) for name in ("threads", "cores", "load")}
    facts = {"seed": asked["seed"], "nudge": 0, "place": place, "settings": settings}
    return facts | where | record["happened"]


def beside_the_winner(facts: Facts) -> dict[str, dict[str, Any]]:
    """The two best configurations that a z test on validation cannot tell from the winner, and the
    article's choice, with their counts on validation in the grid.
    """
    won, *others = [cell for cell in facts.ranked_cells if cell["happened"]["val"]]
    counts = {cell["asked"]["name"]: cell["happened"]["val"] for cell in others}
    best = won["happened"]["val"]["correct"]

    def p_value(name: str) -> float:
        return float(proportions_ztest([best, counts[name]["correct"]], [500, 500])[1])

    near = [name for name in counts if not p_value(name) <= 0.05][:2]
    tuned = [cell["asked"]["name"] for cell in others if is_tuned(cell)]
    return {name: counts[name] for name in [*near, *tuned]}


def expected_grid(facts: Facts) -> dict[str, Any]:
    ranked, collapse = facts.ranked_cells, []
    for alpha in (1, 16):
        mine = [c["happened"] for c in ranked if c["asked"]["settings"]["lora"]["alpha"] == alpha]
        gone = sum(h["test"] is None or h["test"]["correct"] < 600 for h in mine)
        low, high = proportion_confint(gone, 4, 0.05, "beta")
        share = interval(gone / 4, [0.0 if math.isnan(low) else low, high], 4)
        one_class = sum(h["one_class"] for h in mine)
        row = {"alpha": alpha, "configurations": 4, "collapsed": gone, "one_class": one_class}
        collapse.append(row | {"share": share})

    def chosen(name: str, val: dict[str, Any]) -> dict[str, Any]:
        return expected_method(facts, name) | {"grid_val_accuracy": val["correct"] / val["reviews"]}

    beside = []
    for name, val in beside_the_winner(facts).items():
        found = crossed(facts.differences("grid_winner", name), facts.reviews["movie"])
        difference = {"difference_from_winner": new_seeds_and_reviews(found)}
        beside.append(chosen(name, val) | difference)
    return {
        "asked": 8,
        "done": 8,
        "diverged": sum(cell["happened"]["test"] is None for cell in ranked),
        "one_class": 0,
        "collapse": collapse,
        "winner": chosen("grid_winner", ranked[0]["happened"]["val"]),
        "runners_up": beside,
    }


def expected_results(facts: Facts) -> dict[str, Any]:
    verdicts, unseen = expected_verdicts(facts), facts.labels[facts.reviews["unseen_movie"]]
    where = {key: facts.records[0]["where"][key] for key in ("cores", "memory_bytes", "threads")}
    names = (*ARTICLE, "grid_winner", *beside_the_winner(facts))
    private = ("tracking", "execution", "root")
    roles = [record["asked"]["role"] for record in facts.records]
    return {
        "schema_version": 4,
        "study": {key: value for key, value in facts.params.items() if key not in private},
        "runs_asked": len(facts.records),
        "asked_by_role": {role: roles.count(role) for role in roles},
        "verdicts": verdicts,
        "records_ignored": 0,
        "methods": [
            expected_method(facts, name) | {"published": published(name)} for name in ARTICLE
        ],
        "comparisons": [expected_comparison(facts, *pair) for pair in combinations(ARTICLE, 2)],
        "without_predictions": 0,
        "unseen_majority": max(unseen.mean(), 1 - unseen.mean()),
        "runs": [
            *(expected_run(record, None) for name in names for record in facts.of(name)),
            *(expected_run(cell, place) for place, cell in enumerate(facts.ranked_cells, 1)),
        ],
        "grid": expected_grid(facts),
        "article": {
            "training": {"epochs": 3, "batch_size": 12, "learning_rate": 5e-5},
            "methods": {name: published(name) for name in ARTICLE},
            "claims": [verdict["claim"] for verdict in verdicts],
        },
        "data": facts.manifest,
        "machines": [where | {"runs": len(facts.records)}],
        "year": 2026,
    }


def test_every_number_of_the_results(facts: Facts) -> None:
    found, expected = numbers(facts.results), numbers(expected_results(facts))
    assert sorted(found) == sorted(expected)
    wrong = {
        path: (found[path], value)
        for path, value in expected.items()
        if found[path] != pytest.approx(value, rel=1e-7, abs=1e-11)
    }
    assert wrong == {}
    assert any(path.endswith("seeds_needed") for path in found)


def test_the_interval_in_words_is_the_one_in_numbers(facts: Facts) -> None:
    measured = [verdict for verdict in facts.results["verdicts"] if verdict["measured_percent"]]
    assert len(measured) == 10
    for verdict in measured:
        interval = verdict["measured_percent"]
        sign = "" if verdict["claim"]["kind"] == "value" else "+"
        digits = 1 if interval["high"] - interval["low"] > 1 else 2
        reason = verdict["reason"].replace("\N{MINUS SIGN}", "-")
        low, high, estimate = (
            f"{interval[name]:{sign}.{digits}f}" for name in ("low", "high", "estimate")
        )
        assert f"{low} to {high}" in reason
        assert estimate in reason


def test_every_number_of_the_table(facts: Facts) -> None:
    assert [row["method"] for row in facts.table] == [*ARTICLE, "grid_winner"]
    for row in facts.table:
        method = expected_method(facts, row["method"])
        test, sampling, found = (method[key] for key in ("test", "test_sampling", "variance"))
        a, b = (found["components"][key] for key in ("of_seeds", "of_reviews"))
        article = ARTICLE.get(row["method"], (None,) * 7)
        expected = {
            **{key: method[key] for key in method if key.startswith(("trainable", "runs_"))},
            "runs_asked": len(method["seeds"]),
            **{f"{p}_accuracy": method[p]["estimate"] for p in ("train", "val", "test")},
            "learning_rate": method["learning_rate"],
            "seconds_of_fastest_run": method["seconds"],
            "peak_memory_bytes": method["peak_memory_bytes"],
            "test_reviews": 1000,
            "confidence_level": 0.95,
            **{f"interval_{end}": method["interval"][end] for end in ("low", "high")},
            "seeds_share": a / (a + b),
            **{"wilson_low": sampling["low"], "wilson_high": sampling["high"]},
            **{"t_runs": test["n"], "t_low": test["low"], "t_high": test["high"]},
            "article_trainable_parameters": article[2],
            **{
                f"article_{part}_accuracy": p and p / 100
                for part, p in zip(("train", "val", "test"), article[3:6], strict=True)
            },
            "article_minutes": article[6],
        }
        texts = {"study", "title", "method", "role", "trains", "article_comparable", "remark"}
        assert set(row) - texts == set(expected)
        read = {key: float(row[key]) if row[key] else None for key in expected}
        assert read == pytest.approx(expected, abs=1e-12)
