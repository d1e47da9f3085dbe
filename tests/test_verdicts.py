"""Verdicts: worlds built by hand for each word, and the chance of a false one when nothing
differs.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest

from lora_replication.article import Claim, claims
from lora_replication.plan import Progress
from lora_replication.record import Record
from lora_replication.report import verdicts as module
from lora_replication.report.results import Results, Verdict
from lora_replication.report.summary import summarise
from lora_replication.report.verdicts import judge
from lora_replication.study import Study
from tests.report_records import (
    SMALL_GRID,
    article_study,
    make_manifest,
    make_records,
    make_study,
    make_workspace,
)

ARTICLE = {"last_layers": 86.22, "lora_default": 89.44, "lora_tuned": 92.39, "full": 92.31}
COUNTS = {
    "last_layers": 592_130,
    "lora_default": 147_456,
    "lora_tuned": 516_096,
    "full": 66_955_010,
}
SPREAD = (-0.03, 0.01, 0.0, 0.04, -0.02)


STUDY = article_study()


def summed(study: Study, records: Sequence[Record]) -> Results:
    asked = tuple(record.asked for record in records)
    found = {record.asked.place: record for record in records}
    return summarise(study, make_manifest(), Progress(asked, found, 0, ()))


@cache
def base() -> Results:
    return summed(STUDY, make_records(make_workspace(STUDY)))


def by_name(results: Results, study: Study = STUDY) -> dict[str, Verdict]:
    return {verdict.claim.name: verdict for verdict in judge(results, study).verdicts}


def judged(study: Study, records: Sequence[Record]) -> dict[str, Verdict]:
    return by_name(summed(study, records), study)


def world(
    means: dict[str, float],
    spread: Sequence[float] = SPREAD,
    *,
    study: Study = STUDY,
    counts: dict[str, int] = COUNTS,
) -> dict[str, Verdict]:
    """The article's study with runs at ``means`` + ``spread`` percent of 10,000 test reviews."""
    runs = []
    for run in base().runs:
        if run.role == "method" and run.seed <= len(spread):
            place = STUDY.run.methods.index(run.name)
            percent = means[run.name] + spread[(run.seed - 1 + 2 * place) % len(spread)]
            accuracy = round(100 * percent) / 10_000
            runs.append(run.model_copy(update={"test_accuracy": accuracy}))
        elif run.role == "cell":
            runs.append(run)
    methods = [
        row.model_copy(update={"trainable_parameters": counts[row.name]}) for row in base().methods
    ]
    return by_name(base().model_copy(update={"runs": runs, "methods": methods}), study)


def words(found: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.word for name, verdict in found.items()}


def reporting(**report: float) -> Study:
    return article_study(report=report)


def test_a_world_like_the_articles_reproduces_everything_but_the_selection() -> None:
    found = words(world(ARTICLE))
    assert {name for name, word in found.items() if word != "reproduced"} == {"best_configuration"}


def test_claims_are_numbered_and_named_once() -> None:
    names = [claim.name for claim in claims()]
    assert len(set(names)) == len(names)
    assert {claim.kind for claim in claims()} == {
        "count",
        "value",
        "order",
        "ratio",
        "sameness",
        "selection",
    }
    assert all(claim.words and claim.source and claim.test for claim in claims())


def test_a_world_against_the_article() -> None:
    found = words(
        world({"last_layers": 90.5, "lora_default": 88.0, "lora_tuned": 87.0, "full": 95.0})
    )
    assert found["lora_above_last_layers"] == found["tuned_above_default"] == "not reproduced"
    assert (
        found["tuned_as_good_as_full"]
        == found["test_accuracy_of_full"]
        == found["gain_of_full"]
        == "not reproduced"
    )
    assert found["full_above_lora"] == "reproduced"


def test_a_wide_interval_decides_nothing_and_says_how_many_seeds_would() -> None:
    verdict = (world(ARTICLE, (-0.8, 0.4, 0.0, 0.9, -0.5)))["test_accuracy_of_full"]
    assert verdict.word == "inconclusive"
    assert "wider than ±1 points" in verdict.reason
    assert verdict.seeds_needed is None or verdict.seeds_needed > 5
    # sd 0.4: t(0.975; 7) sqrt(9 / 8) 0.4 = 1.003, t(0.975; 8) sqrt(10 / 9) 0.4 = 0.972.
    spread = (-0.4, 0.4, -0.4, 0.4, 0.0)
    assert (world(ARTICLE, spread))["test_accuracy_of_full"].seeds_needed == 9


def test_the_place_of_a_fresh_run_is_clipped_at_100_percent() -> None:
    near = world({**ARTICLE, "full": 99.0}, (-1.0, 1.0, 0.0, 0.9, -0.9))
    verdict = near["test_accuracy_of_full"]
    assert verdict.measured_percent.high == 100.0
    assert verdict.measured_percent.low < 97
    assert "to 100.00" in verdict.reason


def test_a_gain_may_be_a_loss_and_is_not_cut_at_0() -> None:
    verdict = (world({**ARTICLE, "full": 89.5}, (-0.8, 0.4, 0.0, 0.9, -0.5)))["gain_of_full"]
    assert verdict.measured_percent.low < -1
    assert f"{verdict.measured_percent.low:.2f} to " in verdict.reason


def test_where_holm_alone_stands_in_the_way_more_seeds_than_there_are_would_decide() -> None:
    found = world({**ARTICLE, "full": 90.0}, (-0.25, 0.1, 0.0, 0.3, -0.15))
    verdict = found["full_above_lora"]
    assert verdict.word == "inconclusive"
    assert verdict.p_difference.raw < 0.05 < verdict.p_difference.holm
    assert verdict.seeds_needed > 5


def test_consistent_lies_between() -> None:
    verdict = (world(ARTICLE, (-0.25, 0.1, 0.0, 0.3, -0.15)))["test_accuracy_of_full"]
    assert verdict.word == "consistent"
    assert verdict.seeds_needed is None


def test_equal_methods_are_no_order() -> None:
    found = (world({**ARTICLE, "lora_tuned": 89.44}, (-0.3, 0.1, 0.0, 0.4, -0.2)))[
        "tuned_above_default"
    ]
    assert found.word == "inconclusive"
    assert found.p_difference is not None
    assert found.p_difference.holm >= found.p_difference.raw


def test_one_run_decides_counts_alone() -> None:
    found = world(ARTICLE, (0.0,))
    assert found["full_above_lora"].word == found["test_accuracy_of_full"].word == "inconclusive"
    assert "at least 2 are needed" in found["full_above_lora"].reason
    assert found["parameters_of_full"].word == "reproduced"


def test_no_run_decides_arithmetic_alone() -> None:
    found = words(judged(STUDY, []))
    assert {name for name, word in found.items() if word == "reproduced"} == {
        "ratio_example_layer",
        "parameters_of_example_layer",
    }


def test_counts_are_exact_and_rounded_ones_at_their_digits() -> None:
    other = {"full": 66_955_011, "lora_tuned": 549_999, "lora_default": 130_000}
    found = world(ARTICLE, counts=COUNTS | other)
    assert found["parameters_of_full"].word == "not reproduced"
    assert found["parameters_of_lora_tuned"].word == "reproduced"
    assert found["ratio_last_layers"].word == "not reproduced"
    assert found["ratio_last_layers"].measured_count == pytest.approx(592_130 / 130_000)


def test_margins_and_levels_change_verdicts() -> None:
    wide = (-0.25, 0.1, 0.0, 0.3, -0.15)

    def word(claim: str, **report: float) -> str:
        return world(ARTICLE, wide, study=reporting(**report))[claim].word

    assert word("test_accuracy_of_full") == "consistent"
    assert word("test_accuracy_of_full", value_margin=3.0) == "reproduced"
    assert word("test_accuracy_of_full", precision=0.3) == "inconclusive"
    assert word("tuned_as_good_as_full") != "reproduced"
    assert word("tuned_as_good_as_full", sameness_margin=2.0) == "reproduced"
    equal = {**ARTICLE, "lora_tuned": 89.5}
    low, high = (
        world(equal, wide, study=reporting(power=power))["tuned_above_default"].seeds_needed
        for power in (0.8, 0.99)
    )
    assert low < high


def test_another_study_gets_orders_and_ratios_only_marked_as_its_own() -> None:
    study = make_study()
    found = judged(study, make_records(make_workspace(study)))
    for verdict in found.values():
        assert (verdict.word == "not judged") == (verdict.claim.kind not in ("order", "ratio"))
        if verdict.word != "not judged" and not verdict.claim.layer:
            scope = "about the study minilm-small, not DistilBERT on the whole of IMDb"
            assert verdict.scope == scope
    assert found["lora_above_last_layers"].word == "reproduced"


def test_another_configuration_and_an_absent_method_are_not_judged() -> None:
    study = make_study(run={"methods": ["last_layers", "lora_default"], "seeds": [1, 2]})
    found = judged(study, make_records(make_workspace(study)))
    assert found["full_above_lora"].reason == "this study does not train full"
    methods = study.methods | {"lora_default": study.methods["lora_tuned"]}
    other = study.model_copy(update={"methods": methods})
    reason = judged(other, [])["lora_above_last_layers"].reason
    assert reason == "LoRA default is configured otherwise in this study"


def selection(chosen: int, best: int, **grid: Any) -> Verdict:
    """With ``chosen`` and ``best`` of 5,000 validation reviews right, all others less."""
    cells = {cell.name: cell for cell in base().cells}
    tuned = cells.pop("r8-a1-query-value-mlp")
    other, *rest = cells.values()
    counted = [(other, best), (tuned, chosen), *((cell, 4000) for cell in rest)]
    runs = [
        cell.model_copy(
            update={"val_correct": n, "val_reviews": 5000, "val_accuracy": n / 5000},
        )
        for cell, n in sorted(counted, key=lambda pair: -pair[1])
    ]
    update = {"runs": runs, "grid": base().grid.model_copy(update=grid)}
    return by_name(base().model_copy(update=update))["best_configuration"]


def test_the_choice_against_the_whole_grid() -> None:
    assert selection(4700, 4600).word == "reproduced"
    assert selection(4648, 4668).word == "consistent"
    assert "number 2 of 576 by validation here, 0.40 points behind" in selection(4648, 4668).reason
    assert selection(4300, 4700).word == "not reproduced"
    incomplete = selection(4700, 4600, done=575, winner_by_validation=None)
    assert incomplete.word == "inconclusive"
    assert "575 of 576 configurations have a result" in incomplete.reason


@pytest.mark.parametrize(
    "seeds", [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(10, marks=pytest.mark.slow)]
)
def test_when_nothing_differs_at_most_five_per_cent_of_studies_get_a_false_verdict(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All methods scatter around 90 %, and the article's numbers are single runs of the same
    kind.
    """
    methods = {"methods": list(ARTICLE), "seeds": list(range(1, seeds + 1))}
    study = article_study(run=methods, grid=SMALL_GRID)
    results = summed(study, make_records(make_workspace(study))[: 4 * seeds])
    generator = np.random.default_rng(seeds)
    tries, false = 300, 0
    for _ in range(tries):
        drawn = {name: generator.normal(90, 0.3, seeds) for name in ARTICLE}
        numbers = {name: float(generator.normal(90, 0.3)) for name in ARTICLE}
        renamed = tuple(renumbered(claim, numbers) for claim in claims())
        monkeypatch.setattr(module, "claims", lambda renamed=renamed: renamed)
        runs = [
            run.model_copy(update={"test_accuracy": drawn[run.name][run.seed - 1] / 100})
            for run in results.runs
        ]
        found = judge(results.model_copy(update={"runs": runs}), study).verdicts
        decided = [v for v in found if v.claim.kind in ("value", "order", "sameness")]
        assert len(decided) == 9
        false += any(
            v.word == "not reproduced" or (v.claim.kind == "order" and v.word == "reproduced")
            for v in decided
        )
    assert false / tries <= 0.05


def renumbered(claim: Claim, numbers: dict[str, float]) -> Claim:
    if claim.kind != "value":
        return claim
    first, *rest = (numbers[name] for name in claim.methods)
    return claim.model_copy(update={"number": rest[0] - first if rest else first})
