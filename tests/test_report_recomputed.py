"""Every number of results.json and table.csv again, from the files of a study: by statsmodels and
plain loops, each place by name.

Nothing of ``statistics`` or ``report`` is used to get the numbers; a number that nobody recomputes
fails the test as well.
"""

import math
from itertools import combinations
from typing import Any

import pytest
from statsmodels.stats.proportion import proportion_confint, proportions_ztest

from tests.recomputing import (
    crossed,
    difference_table,
    expected_comparison,
    expected_described,
    interval,
    new_seeds_and_reviews,
    numbers,
    over_seeds,
    wilson,
)
from tests.recomputing_verdicts import (
    expected_verdict,
    has_val,
    is_tuned,
    ranked_cells,
    with_holm,
)
from tests.recorded_study import TESTS, Facts, write_recorded_study

METHODS = ("last_layers", "lora_default", "lora_tuned", "full")
PUBLISHED = ("trainable_parameters", "train_percent", "val_percent", "test_percent")
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


def expected_method(facts: Facts, name: str) -> dict[str, Any]:
    runs = facts.of(name)
    test = list(facts.accuracies(name, "test").values())
    return {
        "trainable_parameters": runs[0]["happened"]["trainable_parameters"],
        "seeds": [run["asked"]["seed"] for run in runs],
        "runs_done": len(runs),
        "runs_diverged": sum(run["happened"]["status"] == "diverged" for run in runs),
        "runs_one_class": sum(run["happened"]["one_class"] for run in runs),
        **{
            part: over_seeds(list(facts.accuracies(name, part).values()), 0, 1)
            for part in ("train", "val", "test")
        },
        "test_sampling": wilson(TESTS * sum(test) / len(test), TESTS),
        **expected_described(facts, name),
        "published": published(name) if name in ARTICLE else None,
    }


def published(name: str) -> dict[str, Any]:
    rank, alpha, *row = ARTICLE[name]
    lora = {"rank": rank, "alpha": alpha, "dropout": 0.0} if rank else None
    return {"lora": lora, "minutes": row[4], **dict(zip(PUBLISHED, row[:4], strict=True))}


def expected_run(record: dict[str, Any], place: int | None) -> dict[str, Any]:
    asked, settings = record["asked"], record["asked"]["settings"]
    if lora := settings.get("lora"):
        settings = settings | {"lora": {"dropout": 0.0} | lora}
    threads = record["where"]["threads"]
    facts = {"seed": asked["seed"], "place": place, "settings": settings, "threads": threads}
    return facts | record["happened"]


def beside_the_winner(facts: Facts) -> list[str]:
    """The two best configurations that a z test on validation cannot tell from the winner, and the
    article's choice.
    """
    winner, *others = [cell for cell in ranked_cells(facts) if has_val(cell)]
    best = winner["happened"]["val"]["correct"]
    near = [
        cell
        for cell in others
        if not proportions_ztest([best, cell["happened"]["val"]["correct"]], [500, 500])[1] <= 0.05
    ]
    names = [cell["asked"]["name"] for cell in near[:2]]
    return names + [
        cell["asked"]["name"]
        for cell in others
        if is_tuned(cell) and cell["asked"]["name"] not in names
    ]


def expected_difference(facts: Facts, name: str) -> dict[str, Any]:
    found = crossed(difference_table(facts, "grid_winner", name), facts.movies)
    return {"difference_from_winner": new_seeds_and_reviews(found)}


def expected_grid(facts: Facts) -> dict[str, Any]:
    ranked = ranked_cells(facts)
    tested = [cell["happened"]["test"] for cell in ranked]
    collapse = []
    for alpha in (1, 16):
        mine = [c["happened"] for c in ranked if c["asked"]["settings"]["lora"]["alpha"] == alpha]
        gone = sum(h["test"] is None or h["test"]["correct"] < 600 for h in mine)
        exact = proportion_confint(gone, 4, 0.05, "beta")
        share = interval(gone / 4, [0.0 if math.isnan(exact[0]) else exact[0], exact[1]], 4)
        one_class = sum(h["one_class"] for h in mine)
        row = {"alpha": alpha, "configurations": 4, "collapsed": gone, "one_class": one_class}
        collapse.append(row | {"share": share})
    cells_of = {cell["asked"]["name"]: cell for cell in ranked}

    def chosen(name: str, cell: dict[str, Any]) -> dict[str, Any]:
        val = cell["happened"]["val"]
        return expected_method(facts, name) | {"grid_val_accuracy": val["correct"] / val["reviews"]}

    beside = [
        chosen(name, cells_of[name]) | expected_difference(facts, name)
        for name in beside_the_winner(facts)
    ]
    return {
        "asked": 8,
        "done": 8,
        "diverged": sum(test is None for test in tested),
        "one_class": 0,
        "collapse": collapse,
        "winner": chosen("grid_winner", ranked[0]),
        "runners_up": beside,
    }


def expected_results(facts: Facts) -> dict[str, Any]:
    found = facts.results["verdicts"]
    tests = sum(bool(verdict[p]) for verdict in found for p in ("p_difference", "p_sameness"))
    verdicts = [expected_verdict(facts, verdict, tests) for verdict in found]
    with_holm(verdicts)
    pairs = [expected_comparison(facts, *pair) for pair in combinations(METHODS, 2)]
    where = {key: facts.records[0]["where"][key] for key in ("cores", "memory_bytes", "threads")}
    names = (*METHODS, "grid_winner", *beside_the_winner(facts))
    private = ("tracking", "execution", "root")
    roles = ("method", "cell", "winner", "runner_up")
    return {
        "schema_version": 3,
        "study": {key: value for key, value in facts.params.items() if key not in private},
        "runs_asked": len(facts.records),
        "asked_by_role": {
            role: sum(r["asked"]["role"] == role for r in facts.records) for role in roles
        },
        "verdicts": verdicts,
        "records_ignored": 0,
        "methods": [expected_method(facts, name) for name in METHODS],
        "comparisons": pairs,
        "without_predictions": 0,
        "runs": [
            *(expected_run(record, None) for name in names for record in facts.of(name)),
            *(expected_run(cell, place) for place, cell in enumerate(ranked_cells(facts), 1)),
        ],
        "grid": expected_grid(facts),
        "article": {
            "training": {"epochs": 3, "batch_size": 12, "learning_rate": 5e-5},
            "methods": {name: published(name) for name in ARTICLE},
            "claims": [verdict["claim"] for verdict in facts.results["verdicts"]],
        },
        "data": facts.manifest,
        "machines": [where | {"runs": len(facts.records)}],
        "year": 2026,
    }


def test_every_number_of_the_results(facts: Facts) -> None:
    found, expected = numbers(facts.results, ""), numbers(expected_results(facts), "")
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
    assert [row["method"] for row in facts.table] == [*METHODS, "grid_winner"]
    for row in facts.table:
        method = expected_method(facts, row["method"])
        test, sampling = method["test"], method["test_sampling"]
        article = ARTICLE.get(row["method"], (None,) * 7)
        expected = {
            "trainable_parameters": method["trainable_parameters"],
            "runs_asked": len(method["seeds"]),
            **{key: method[key] for key in ("runs_done", "runs_diverged", "runs_one_class")},
            **{f"{p}_accuracy": method[p]["estimate"] for p in ("train", "val", "test")},
            "test_reviews": TESTS,
            "confidence_level": 0.95,
            **{f"interval_{end}": method["interval"][end] for end in ("low", "high")},
            "seeds_share": share(method["variance"]["components"]),
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
        assert {key: float(row[key]) if row[key] else None for key in expected} == pytest.approx(
            expected, abs=1e-12
        )


def share(components: dict[str, float]) -> float:
    a, b = components["of_seeds"], components["of_reviews"]
    return a / (a + b)
