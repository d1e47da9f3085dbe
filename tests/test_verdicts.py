"""Verdicts: worlds built by hand for each word, and the chance of a false one when nothing
differs.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from report_records import PARAMS, altered, count, make_records, make_study
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW

from lora_replication.article import claims
from lora_replication.reading import check_study, load_study, merge_files
from lora_replication.report import verdicts as module
from lora_replication.report.summary import Summary, summarise
from lora_replication.report.verdicts import Verdict, judge

ARTICLE = {"last_layers": 86.22, "lora_default": 89.44, "lora_tuned": 92.39, "full": 92.31}
COUNTS = {
    "last_layers": 592_130,
    "lora_default": 147_456,
    "lora_tuned": 516_096,
    "full": 66_955_010,
}
SPREAD = (-0.03, 0.01, 0.0, 0.04, -0.02)


@cache
def base() -> Summary:
    study = load_study(PARAMS)
    return summarise(study, make_records(study))


def world(
    means: dict[str, float],
    spread: Sequence[float] = SPREAD,
    *,
    summary: Summary | None = None,
    counts: dict[str, int] = COUNTS,
) -> Summary:
    """The article's study with runs at ``means`` + ``spread`` percent of 10,000 test reviews."""
    summary = summary or base()
    rows = []
    for place, row in enumerate(summary.methods):
        runs = tuple(
            altered(
                run,
                test=count(
                    round(100 * (means[row.name] + spread[(seed + 2 * place) % len(spread)])),
                    10_000,
                ),
                trainable_parameters=counts[row.name],
            )
            for seed, run in enumerate(row.runs[: len(spread)])
        )
        rows.append(replace(row, runs=runs))
    return replace(summary, methods=tuple(rows))


def words(summary: Summary) -> dict[str, str]:
    return {verdict.claim.name: verdict.word for verdict in judge(summary)}


def by_name(summary: Summary) -> dict[str, Verdict]:
    return {verdict.claim.name: verdict for verdict in judge(summary)}


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
    verdict = by_name(world(ARTICLE, (-0.8, 0.4, 0.0, 0.9, -0.5)))["test_accuracy_of_full"]
    assert verdict.word == "inconclusive"
    assert "its half is wider than 1 points" in verdict.reason
    assert verdict.seeds_needed is None or verdict.seeds_needed > 5
    # sd 0.4: t(0.975; 7) sqrt(9 / 8) 0.4 = 1.003, t(0.975; 8) sqrt(10 / 9) 0.4 = 0.972.
    spread = (-0.4, 0.4, -0.4, 0.4, 0.0)
    assert by_name(world(ARTICLE, spread))["test_accuracy_of_full"].seeds_needed == 9


def test_the_place_of_a_fresh_run_ends_at_100_percent_and_the_decision_rests_on_the_whole_interval() -> (
    None
):
    near = world({**ARTICLE, "full": 99.0}, (-1.0, 1.0, 0.0, 0.9, -0.9))
    verdict = by_name(near)["test_accuracy_of_full"]
    assert verdict.measured.high == 100.0
    assert verdict.measured.low < 97
    assert "to 100.00" in verdict.reason


def test_a_gain_may_be_a_loss_and_is_not_cut_at_0() -> None:
    verdict = by_name(world({**ARTICLE, "full": 89.5}, (-0.8, 0.4, 0.0, 0.9, -0.5)))["gain_of_full"]
    assert verdict.measured.low < -1
    assert f"{verdict.measured.low:.2f} to " in verdict.reason


def test_where_holm_alone_stands_in_the_way_more_seeds_than_there_are_would_decide() -> None:
    summary = world({**ARTICLE, "full": 90.0}, (-0.25, 0.1, 0.0, 0.3, -0.15))
    verdict = by_name(summary)["full_above_lora"]
    assert verdict.word == "inconclusive"
    assert verdict.p_difference[0] < 0.05 < verdict.p_difference[1]
    assert verdict.seeds_needed > 5


def test_consistent_lies_between() -> None:
    verdict = by_name(world(ARTICLE, (-0.25, 0.1, 0.0, 0.3, -0.15)))["test_accuracy_of_full"]
    assert verdict.word == "consistent"
    assert verdict.seeds_needed is None


def test_equal_methods_are_no_order() -> None:
    found = by_name(world({**ARTICLE, "lora_tuned": 89.44}, (-0.3, 0.1, 0.0, 0.4, -0.2)))[
        "tuned_above_default"
    ]
    assert found.word == "inconclusive"
    assert found.p_difference is not None
    assert found.p_difference[1] >= found.p_difference[0]


def test_one_run_decides_counts_alone() -> None:
    found = by_name(world(ARTICLE, (0.0,)))
    assert found["full_above_lora"].word == found["test_accuracy_of_full"].word == "inconclusive"
    assert "at least 2 are needed" in found["full_above_lora"].reason
    assert found["parameters_of_full"].word == "reproduced"


def test_no_run_decides_arithmetic_alone() -> None:
    found = words(summarise(load_study(PARAMS), []))
    assert {name for name, word in found.items() if word == "reproduced"} == {
        "ratio_example_layer",
        "parameters_of_example_layer",
    }


def test_counts_are_exact_and_rounded_ones_at_their_digits() -> None:
    found = by_name(
        world(
            ARTICLE,
            counts={**COUNTS, "full": 66_955_011, "lora_tuned": 549_999, "lora_default": 130_000},
        )
    )
    assert found["parameters_of_full"].word == "not reproduced"
    assert found["parameters_of_lora_tuned"].word == "reproduced"
    assert found["ratio_last_layers"].word == "not reproduced"
    assert found["ratio_last_layers"].count == pytest.approx(592_130 / 130_000)


def test_margins_and_levels_change_verdicts() -> None:
    wide = (-0.25, 0.1, 0.0, 0.3, -0.15)
    content = merge_files(PARAMS)

    def word(claim: str, **report: float) -> Verdict:
        study = check_study(content | {"report": content["report"] | report})
        return by_name(world(ARTICLE, wide, summary=replace(base(), study=study)))[claim]

    assert word("test_accuracy_of_full").word == "consistent"
    assert word("test_accuracy_of_full", value_margin=3.0).word == "reproduced"
    assert word("test_accuracy_of_full", precision=0.3).word == "inconclusive"
    assert (
        word("tuned_as_good_as_full").word
        != word("tuned_as_good_as_full", sameness_margin=2.0).word
        == "reproduced"
    )
    equal = {**ARTICLE, "lora_tuned": 89.5}
    needed = []
    for power in (0.8, 0.99):
        study = check_study(content | {"report": content["report"] | {"power": power}})
        needed.append(
            by_name(world(equal, wide, summary=replace(base(), study=study)))[
                "tuned_above_default"
            ].seeds_needed
        )
    assert needed[0] < needed[1]


def test_another_study_gets_orders_and_ratios_only_marked_as_its_own() -> None:
    study = make_study()
    found = judge(summarise(study, make_records(study)))
    for verdict in found:
        assert (verdict.word == "not judged") == (verdict.claim.kind not in ("order", "ratio"))
        if verdict.word != "not judged" and not verdict.claim.layer:
            assert (
                verdict.scope == "about the study minilm-small, not DistilBERT on the whole of IMDb"
            )
    assert {verdict.claim.name for verdict in found if verdict.word == "reproduced"} >= {
        "lora_above_last_layers"
    }


def test_another_configuration_and_an_absent_method_are_not_judged() -> None:
    study = make_study(run={"methods": ["last_layers", "lora_default"], "seeds": [1, 2]})
    assert (
        by_name(summarise(study, make_records(study)))["full_above_lora"].reason
        == "this study does not train full"
    )
    lora = study.methods["lora_tuned"]
    other = study.model_copy(update={"methods": {**study.methods, "lora_default": lora}})
    assert "configured otherwise" in by_name(summarise(other, []))["lora_above_last_layers"].reason


def selection(chosen: int, best: int) -> Verdict:
    cells = list(base().grid.cells)
    place = next(i for i, cell in enumerate(cells) if cell.asked.name == "r8-a1-query-value-mlp")
    other = 0 if place else 1
    cells[place] = altered(cells[place], val=count(chosen, 5000))
    cells[other] = altered(cells[other], val=count(best, 5000))
    cells = [
        altered(cell, val=count(4000, 5000)) if i not in (place, other) else cell
        for i, cell in enumerate(cells)
    ]
    cells.sort(key=lambda cell: -cell.happened.val.correct)
    return by_name(replace(base(), grid=replace(base().grid, cells=tuple(cells))))[
        "best_configuration"
    ]


def test_the_choice_against_the_whole_grid() -> None:
    assert selection(4700, 4600).word == "reproduced"
    assert selection(4648, 4668).word == "consistent"
    assert "number 2 of 576 by validation here, 0.40 points behind" in selection(4648, 4668).reason
    assert selection(4300, 4700).word == "not reproduced"
    assert (
        words(replace(base(), grid=replace(base().grid, cells=base().grid.cells[:-1])))[
            "best_configuration"
        ]
        == "inconclusive"
    )


@pytest.mark.parametrize(
    "seeds", [pytest.param(3, marks=pytest.mark.slow), 5, pytest.param(10, marks=pytest.mark.slow)]
)
def test_when_nothing_differs_at_most_five_per_cent_of_studies_get_a_false_verdict(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All methods scatter around 90 %, and the article's numbers are single runs of the same
    kind.
    """
    study = make_study(
        **{key: value for key, value in merge_files(PARAMS).items() if key != "run"},
        run={"methods": list(ARTICLE), "seeds": list(range(1, seeds + 1))},
    )
    summary = summarise(study, make_records(study))
    generator = np.random.default_rng(seeds)
    tries, false = 300, 0
    for _ in range(tries):
        runs = {name: generator.normal(90, 0.3, seeds) for name in ARTICLE}
        numbers = {name: float(generator.normal(90, 0.3)) for name in ARTICLE}
        monkeypatch.setattr(
            module,
            "claims",
            lambda numbers=numbers: tuple(renumbered(claim, numbers) for claim in claims()),
        )
        rows = tuple(
            replace(
                row,
                runs=tuple(
                    altered(run, test=count(round(v * 100), 10_000))
                    for run, v in zip(row.runs, runs[row.name], strict=True)
                ),
            )
            for row in summary.methods
        )
        decided = [
            v
            for v in judge(replace(summary, methods=rows))
            if v.claim.kind in ("value", "order", "sameness")
        ]
        assert len(decided) == 9
        false += any(
            v.word == "not reproduced" or (v.claim.kind == "order" and v.word == "reproduced")
            for v in decided
        )
    assert false / tries <= 0.05


def renumbered(claim: module.Claim, numbers: dict[str, float]) -> module.Claim:
    if claim.kind != "value":
        return claim
    first, *rest = (numbers[name] for name in claim.methods)
    return replace(claim, number=rest[0] - first if rest else first)


def test_every_p_value_recomputed_by_another_library() -> None:
    """Raw ones from statsmodels and its regression intervals' t, both families corrected by
    statsmodels' Holm.
    """
    summary = world({**ARTICLE, "lora_default": 89.9}, (-0.25, 0.1, 0.0, 0.3, -0.15))
    percent = {
        row.name: [run.happened.test.correct / 100 for run in row.runs] for row in summary.methods
    }
    difference, sameness = {}, {}
    for verdict in judge(summary):
        claim = verdict.claim
        if claim.kind not in ("value", "order", "sameness"):
            continue
        series = [percent[name] for name in claim.methods]
        values = np.array(series[0]) if len(series) == 1 else np.subtract(series[1], series[0])
        stats = DescrStatsW(values)
        if claim.kind == "value":
            # One run more scatters by sqrt(1 + n) times the error of the mean; the same t values
            # come from a rescaled sample.
            n = len(values)
            rescaled = DescrStatsW(
                values.mean() - claim.number + (values - values.mean()) * np.sqrt(n + 1)
            )
            difference[claim.name], sameness[claim.name] = (
                rescaled.ttest_mean(0)[1],
                rescaled.ttost_mean(-0.5, 0.5)[0],
            )
        elif claim.kind == "order":
            difference[claim.name] = stats.ttest_mean(0)[1]
        else:
            beyond = abs(values.mean()) - 0.5
            difference[claim.name] = (
                1.0 if beyond <= 0 else stats.ttest_mean(np.sign(values.mean()) * 0.5)[1]
            )
            sameness[claim.name] = stats.ttost_mean(-0.5, 0.5)[0]
    difference["best_configuration"] = by_name(summary)["best_configuration"].p_difference[0]
    found = by_name(summary)
    for family, pick in ((difference, "p_difference"), (sameness, "p_sameness")):
        assert set(family) == {name for name, verdict in found.items() if getattr(verdict, pick)}
        adjusted = multipletests([family[name] for name in found if name in family], method="holm")[
            1
        ]
        for name, corrected in zip(
            [name for name in found if name in family], adjusted, strict=True
        ):
            assert getattr(found[name], pick) == pytest.approx((family[name], corrected), abs=1e-9)
