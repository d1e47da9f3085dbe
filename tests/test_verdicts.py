"""Verdicts: worlds built by hand for each word, and who is judged."""

import math
from typing import Any

import numpy as np
import pytest

from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Verdict
from lora_replication.report.verdicts import judge
from tests.report_records import (
    article_study,
    diverged,
    make_predictions,
    make_records,
    make_study,
    make_workspace,
)
from tests.worlds import ARTICLE, COUNTS, judged_records, narrow, selection, summed, world

SPREAD = (-0.03, 0.01, 0.0, 0.04, -0.02)
WIDE = (-0.25, 0.1, 0.0, 0.3, -0.15)
STUDY = article_study()


def words(found: dict[str, Verdict]) -> dict[str, str]:
    return {name: verdict.word for name, verdict in found.items()}


def test_a_world_like_the_articles_reproduces_all_but_what_reviews_leave_open() -> None:
    found = words(world(ARTICLE, SPREAD, review_sd=0.02))
    others = {name: word for name, word in found.items() if word != "reproduced"}
    assert others == {"best_configuration": "inconclusive"}


def test_a_world_against_the_article() -> None:
    means = {"last_layers": 90.5, "lora_default": 88.0, "lora_tuned": 87.0, "full": 95.0}
    found = words(world(means, SPREAD))
    wrong = ("lora_above_last_layers", "tuned_above_default", "tuned_as_good_as_full",
             "test_accuracy_of_full", "gain_of_full")  # fmt: skip
    assert {found[name] for name in wrong} == {"not reproduced"}
    assert found["full_above_lora"] == "reproduced"


def test_reviews_that_favour_one_method_by_chance_decide_nothing() -> None:
    """Seeds alone would be sure of 0.3 points; the test reviews are not."""
    near = {**ARTICLE, "lora_tuned": 89.74}
    sure, open_ = (world(near, SPREAD, review_sd=sd)["tuned_above_default"] for sd in (0.02, 0.35))
    assert (sure.word, open_.word) == ("reproduced", "inconclusive")
    assert open_.measured_percent.low < 0 < open_.measured_percent.high
    assert open_.seeds_needed is None
    assert "no number of seeds shows 0.5 points with these reviews" in open_.reason


def test_seeds_needed_are_for_the_margin_whatever_was_seen() -> None:
    needed = {
        world({**ARTICLE, "lora_tuned": mean}, WIDE, review_sd=0.02)["tuned_above_default"]
        .seeds_needed
        for mean in (89.44, 89.54)
    }  # fmt: skip
    assert len(needed) == 1
    assert needed.pop() > 5


def test_a_wide_prediction_decides_nothing_and_one_run_forbids_more() -> None:
    verdict = world(ARTICLE, (-0.8, 0.4, 0.0, 0.9, -0.5))["test_accuracy_of_full"]
    assert verdict.word == "inconclusive"
    assert "wider than ±1 points; no number of seeds shows a single run" in verdict.reason
    # sd 0.14: Holm's first step of n tests is at most 0.05 / 14, whose quantile is 2.7 sd = 0.38.
    narrow = world({**ARTICLE, "full": 93.0}, (-0.2, 0.1, 0.0, 0.15, -0.05))
    assert narrow["test_accuracy_of_full"].seeds_needed > 5


def test_a_prediction_is_clipped_to_what_an_accuracy_can_be_but_a_gain_may_be_a_loss() -> None:
    near = world({**ARTICLE, "full": 99.0}, (-1.0, 1.0, 0.0, 0.9, -0.9))["test_accuracy_of_full"]
    assert near.measured_percent.high == 100.0
    assert "to 100.0" in near.reason
    loss = world({**ARTICLE, "full": 89.5}, (-0.8, 0.4, 0.0, 0.9, -0.5))["gain_of_full"]
    assert loss.measured_percent.low < -1


def test_where_holm_alone_stands_in_the_way_it_is_said() -> None:
    verdict = world({**ARTICLE, "full": 90.0}, WIDE, review_sd=0.02)["full_above_lora"]
    assert verdict.p_difference.raw < 0.05 < verdict.p_difference.holm
    assert verdict.measured_percent.low > 0
    assert verdict.word == "inconclusive"
    assert "a difference before Holm's correction, none after it" in verdict.reason


@pytest.mark.parametrize("review_sd", [0.02, 0.2])
@pytest.mark.parametrize("mean", [88.9, 89.2, 89.44, 89.8, 90.2])
def test_interval_and_verdict_disagree_by_holm_alone(mean: float, review_sd: float) -> None:
    found = world({**ARTICLE, "lora_tuned": mean}, WIDE, review_sd=review_sd)
    for name in ("lora_above_last_layers", "full_above_lora", "tuned_above_default"):
        verdict = found[name]
        excludes = not verdict.measured_percent.low <= 0 <= verdict.measured_percent.high
        assert excludes == (verdict.word != "inconclusive" or verdict.why == "holm")


def test_consistent_lies_between() -> None:
    verdict = world(ARTICLE, WIDE)["test_accuracy_of_full"]
    assert (verdict.word, verdict.seeds_needed) == ("consistent", None)


def test_no_run_decides_arithmetic_alone() -> None:
    found = words(judged_records(STUDY, []))
    decided = {name for name, word in found.items() if word == "reproduced"}
    assert decided == {"ratio_example_layer", "parameters_of_example_layer"}


def test_counts_are_exact_and_rounded_ones_at_their_digits() -> None:
    other = {"full": 66_955_011, "lora_tuned": 549_999, "lora_default": 130_000}
    found = world(ARTICLE, SPREAD, counts=COUNTS | other)
    assert found["parameters_of_full"].word == "not reproduced"
    assert found["parameters_of_lora_tuned"].word == "reproduced"
    assert found["ratio_last_layers"].word == "not reproduced"
    assert found["ratio_last_layers"].measured_count == pytest.approx(592_130 / 130_000)


def test_margins_and_levels_change_verdicts() -> None:
    def word(claim: str, **report: float) -> str:
        return world(ARTICLE, WIDE, study=narrow(**report), review_sd=0.02)[claim].word

    assert word("test_accuracy_of_full") == "consistent"
    assert word("test_accuracy_of_full", value_margin=3.0) == "reproduced"
    assert word("test_accuracy_of_full", precision=0.3) == "inconclusive"
    assert word("tuned_as_good_as_full") != "reproduced"
    assert word("tuned_as_good_as_full", sameness_margin=2.0) == "reproduced"
    equal = {**ARTICLE, "lora_tuned": 89.5}
    low, high = (
        world(equal, WIDE, study=narrow(power=power), review_sd=0.02)["tuned_above_default"]
        for power in (0.8, 0.99)
    )
    assert low.seeds_needed < high.seeds_needed


def test_a_diverged_run_that_would_change_the_word_takes_it_back() -> None:
    sure = world(ARTICLE, SPREAD, review_sd=0.02)["full_above_lora"]
    gone = world(ARTICLE, SPREAD, review_sd=0.02, gone=[("full", 5)])["full_above_lora"]
    assert (sure.word, gone.word) == ("reproduced", "inconclusive")
    assert "reproduced without the diverged runs, inconclusive with each" in gone.reason
    assert gone.measured_percent.n == 4
    # Both methods' runs with this seed are 50 %: the difference is 0, and the word survives.
    both = world({**ARTICLE, "full": 99.0, "lora_default": 60.0}, SPREAD, gone=[("full", 5)])
    assert both["test_accuracy_of_lora_default"].word == "not reproduced"


def test_three_of_five_diverged_runs_leave_nothing_reproduced() -> None:
    gone = [("full", seed) for seed in (1, 3, 5)]
    for name, verdict in world(ARTICLE, SPREAD, review_sd=0.02, gone=gone).items():
        about_full = "full" in verdict.claim.methods and not verdict.claim.is_about_sizes
        assert (verdict.word == "inconclusive") or not about_full, name
        assert (verdict.why == "few_runs") == about_full or name == "best_configuration"


def test_runs_that_are_all_alike_decide_nothing() -> None:
    """Such as runs that all predict one class: no scatter was seen, so none can be ruled out."""
    for means in (ARTICLE, dict.fromkeys(ARTICLE, 50.0)):
        for name, verdict in world(means, (0.0,) * 5).items():
            if not verdict.claim.is_about_sizes and name != "best_configuration":
                assert (verdict.word, verdict.why) == ("inconclusive", "alike"), name
                assert "how much they scatter is not known" in verdict.reason


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("one seed", "1 run with a result"), ("two seeds", "2 runs with a result"),
        ("one method diverged", "0 runs with a result"), ("24 reviews", "fewer than 100 test"),
        ("one class", "all runs have the same result"), ("without movies", ""),
        ("without predictions", "0 runs with a result and predictions"),
    ],
)  # fmt: skip
def test_bad_input_has_an_interval_or_a_sentence_and_no_decisive_word(
    case: str, sentence: str
) -> None:
    seeds = {"one seed": [1], "two seeds": [1, 2]}.get(case, [1, 2, 3])
    study = make_study(run={"methods": list(ARTICLE), "seeds": seeds})
    records = make_records(make_workspace(study))
    if case == "one method diverged":
        records = [diverged(r) if r.asked.name == "lora_default" else r for r in records]
    right = dict(make_predictions(records).right)
    if case == "one class":
        right = dict.fromkeys(right, np.arange(1000) % 2 == 0)
    if case == "24 reviews":
        right = {name: one[::42] for name, one in right.items()}
    movies = None if case == "without movies" else np.arange(len(next(iter(right.values()))))
    tested = Predictions({} if case == "without predictions" else right, movies=movies)
    results = summed(study, records, tested)
    rows = [*results.methods, *results.comparisons]
    for interval in (row.interval for row in rows if row.interval):
        assert interval.low is None or math.isfinite(interval.low + interval.high)
        assert interval.source
    assert "NaN" not in results.model_dump_json()
    for verdict in judge(results, tested, study).verdicts:
        if verdict.claim.kind == "order" and case != "without movies":
            assert verdict.word == "inconclusive"
            assert sentence in verdict.reason


def other_study(**changes: Any) -> dict[str, Verdict]:
    study = make_study(**changes)
    records = make_records(make_workspace(study))
    return judged_records(study, records, make_predictions(records))


def test_another_encoder_gets_orders_marked_as_its_own_and_no_counts() -> None:
    found = other_study()
    for name, verdict in found.items():
        kind = verdict.claim.kind
        if kind == "order":
            assert (
                verdict.scope == "about the study minilm-small, not DistilBERT on the whole of IMDb"
            )
        elif "example_layer" in name:
            assert verdict.word == "reproduced"
        else:
            sizes = kind in ("count", "ratio")
            assert verdict.word == ("does not apply" if sizes else "not judged")
    rate = {"device": "cpu", "precision": "fp32", "learning_rate": 3e-5}
    said = other_study(train=rate)["full_above_lora"].scope
    assert said.endswith("on the whole of IMDb, each method at the rate of this study")
    assert found["lora_above_last_layers"].word == "reproduced"
    assert "148,610 here, 592,130 in the article" in found["parameters_of_last_layers"].reason


def test_methods_at_rates_of_their_own_are_said_in_another_study() -> None:
    methods = {name: m.model_dump(mode="json") for name, m in make_study().methods.items()}
    methods["full"] |= {"learning_rate": 1e-5}
    found = other_study(methods=methods)
    assert found["full_above_lora"].scope.endswith(", each method at the rate of this study")
    assert found["tuned_above_default"].scope.endswith("IMDb")


def test_a_method_at_a_rate_of_its_own_is_not_the_articles() -> None:
    methods = {name: m.model_dump(mode="json") for name, m in STUDY.methods.items()}
    methods["full"] |= {"learning_rate": 4e-5}
    found = world(ARTICLE, SPREAD, study=article_study(methods=methods), review_sd=0.02)
    for name in ("full_above_lora", "test_accuracy_of_full", "tuned_as_good_as_full"):
        assert found[name].word == "not judged"
        assert found[name].reason == "rates differ: full is not trained at the article's rate"
    assert found["tuned_above_default"].word == "reproduced"
    assert found["parameters_of_full"].word == "reproduced"


@pytest.mark.parametrize(
    "train", [{"epochs": 1}, {"batch_size": 512}, {"precision": "fp32"}, {"learning_rate": 1e-3}]
)
def test_other_training_is_judged_on_no_claim_of_the_article(train: dict[str, Any]) -> None:
    found = world(ARTICLE, SPREAD, study=article_study(train=train), review_sd=0.02)
    for verdict in found.values():
        if not verdict.claim.is_about_sizes:
            assert verdict.word == "not judged" or verdict.scope.startswith("about the study")
    if "learning_rate" in train:
        assert {found[name].word for name in ("full_above_lora", "gain_of_full")} == {"not judged"}
        return
    assert found["test_accuracy_of_full"].word == "not judged"
    assert "other epochs, batch size or precision" in found["test_accuracy_of_full"].reason
    assert found["full_above_lora"].word == "reproduced"
    assert "trained otherwise than the article's" in found["full_above_lora"].scope
    assert found["parameters_of_full"].word == "reproduced"


def test_another_configuration_and_an_absent_method_are_not_judged() -> None:
    found = other_study(run={"methods": ["last_layers", "lora_default"], "seeds": [1, 2]})
    assert found["full_above_lora"].reason == "this study does not train full"
    study = make_study()
    methods = study.methods | {"lora_default": study.methods["lora_tuned"]}
    found = judged_records(study.model_copy(update={"methods": methods}), [])
    reason = found["lora_above_last_layers"].reason
    assert reason == "LoRA default is configured otherwise in this study"


@pytest.mark.parametrize(
    ("ahead", "fresh", "word"),
    [(5.0, 5, "not reproduced"), (0.1, 5, "consistent"), (-5.0, 5, "consistent"),
     (5.0, 2, "inconclusive"), (5.0, 0, "inconclusive")],
)  # fmt: skip
def test_the_choice_against_the_winner_on_fresh_seeds(ahead: float, fresh: int, word: str) -> None:
    verdict = selection(ahead, fresh)
    assert verdict.word == word
    assert "by validation here" in verdict.reason


def test_a_choice_that_is_first_on_validation_is_not_shown_to_be_best() -> None:
    assert selection(0.0, 0, first=True).word == "consistent"
    incomplete = selection(0.0, 0, done=575, winner_by_validation=None)
    assert incomplete.word == "inconclusive"
    assert "575 of 576 configurations have a result" in incomplete.reason
