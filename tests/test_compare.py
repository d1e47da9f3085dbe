"""``lora-replication compare``: sides, pairs, words, and what is refused."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from lora_replication.cli import cli
from lora_replication.compare.command import compare_recorded
from lora_replication.compare.decision import Pairs, Rule, decide
from lora_replication.compare.sides import read_side, runs_of
from lora_replication.errors import DataError, ParameterError
from lora_replication.grid.space import trial_runs
from lora_replication.plan import method_runs
from lora_replication.statistics import seeds_for_margin
from lora_replication.study import SweepParams
from tests import report_records as made

ROOT = Path(__file__).resolve().parents[1]
RULE = Rule(margin=0.02, confidence=0.95, power=0.8, looks=(4,))


def answers(*rights: int | None, reviews: int = 1000) -> list[Any]:
    """Of runs that answer so many of these reviews rightly, the first ones; None has diverged."""
    return [None if n is None else (np.arange(reviews) < n).astype(float) for n in rights]


def paired(first: list[Any], second: list[Any]) -> Pairs:
    return Pairs(tuple(zip(first, second, strict=True)))


def test_two_methods_are_compared_as_in_the_report() -> None:
    found = json.loads((ROOT / "reports/minilm-small/results.json").read_bytes())["comparisons"]
    assert len(found) == 6
    for pair in found:
        said = compare_recorded(pair["first"], pair["second"], "minilm-small", None, ROOT)
        interval = said.decision.difference
        assert interval is not None
        for end in ("estimate", "low", "high"):
            assert getattr(interval, end) == pytest.approx(pair["interval"][end], abs=1e-12)
        assert said.decision.p_difference == pytest.approx(pair["p_value"], abs=1e-12)
        low, high = pair["interval"]["low"], pair["interval"]["high"]
        assert said.decision.word == ("undecided" if low < 0 < high else "better")


@pytest.mark.parametrize(
    ("first", "second", "word"),
    [
        ((700, 710, 705, 708), (800, 805, 812, 806), "better"),
        ((800, 805, 812, 806), (700, 710, 705, 708), "worse"),
        ((700, 701, 702, 701), (701, 702, 702, 700), "as good"),
        ((700, 710, 705, 708), (760, 650, 790, 702), "undecided"),
    ],
)
def test_the_word_is_of_the_second_side(first, second, word) -> None:
    found = decide(paired(answers(*first), answers(*second)), RULE)
    assert (found.word, found.why) == (word, "open" if word == "undecided" else "")
    assert found.difference.estimate == pytest.approx((sum(second) - sum(first)) / 4000)


def test_seeds_needed_are_for_whichever_of_the_two_is_true() -> None:
    pairs = paired(answers(700, 710, 705, 708), answers(760, 650, 790, 702))
    found, difference = decide(pairs, replace(RULE, margin=0.04)), pairs.components(None)
    how = {"level": 0.95, "power": 0.8}
    each = [seeds_for_margin(difference, 0.04, **how, sameness=same) for same in (False, True)]
    assert found.seeds_needed == max(each) > min(each) > 4
    assert decide(pairs, replace(RULE, margin=1e-4)).seeds_needed is None


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (answers(700, 710), answers(800, 805), "few_runs"),
        (answers(None, None), answers(800, 805), "few_runs"),
        (answers(*[70, 71, 72], reviews=99), answers(*[80, 83, 81], reviews=99), "few_reviews"),
        (answers(700, 700, 700), answers(800, 800, 800), "alike"),
        (answers(600, 605, 610, 603), answers(710, 705, 700, None), "diverged"),
    ],
)
def test_what_may_decide_nothing_says_why(first, second, why) -> None:
    """A diverged run counts 500 of 1,000: the mean stays above 0, and it scatters too much."""
    found = decide(paired(first, second), RULE)
    assert (found.word, found.why) == ("undecided", why)


def test_a_diverged_run_that_changes_nothing_is_left_out() -> None:
    found = decide(paired(answers(500, 505, 510, None), answers(910, 905, 920, 915)), RULE)
    assert (found.word, found.seeds) == ("better", 3)


def side(root: Path, seeds: list[int], reviews_sha256: str = "a1" * 32) -> Any:
    study = made.make_study(run={"methods": ["last_layers", "full"], "seeds": seeds})
    workspace = made.make_workspace(study, root)
    imdb = {"article_csv_sha256": None}
    workspace.manifest = workspace.manifest.model_copy(update=imdb)
    test = workspace.manifest.parts["test"].model_copy(update={"reviews_sha256": reviews_sha256})
    parts = workspace.manifest.parts | {"test": test}
    workspace.manifest = workspace.manifest.model_copy(update={"parts": parts})
    records = made.make_records(workspace)[: 2 * len(seeds)]
    made.write_study(workspace, records, made.make_predictions(records))
    (root / "report").mkdir()
    (root / "runs" / "minilm-small").rename(root / "report" / "records")
    (root / "data" / "minilm-small").rename(root / "report" / "data")
    return read_side(f"{root / 'report'}:full", "article", ROOT)


def test_runs_of_other_seeds_are_paired_in_their_order_and_other_reviews_refused(tmp_path) -> None:
    folders = [tmp_path / name for name in "abc"]
    one, two = side(folders[0], [1, 2, 3, 4]), side(folders[1], [4, 5, 6])
    runs = Pairs.of(one, two).runs
    assert len(runs) == 3
    assert runs[0] == (one.answers[1], two.answers[4])
    three = side(folders[2], [2, 3, 4, 5], "0b" * 32)
    with pytest.raises(DataError, match=r"full of minilm-small .* were tested on other reviews"):
        Pairs.of(one, three)


def command(*words: str) -> Any:
    return CliRunner().invoke(cli, ["compare", *words], catch_exceptions=True)


def test_the_terminal_has_both_sides_and_the_word_and_json_has_all(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    shown = command("lora_default", "reports/minilm-small:full", "--study", "minilm-small").output
    lines = shown.splitlines()
    assert " ".join(lines[:2]).endswith("not DistilBERT and not all of IMDb")
    assert lines[2:4] == ["Method        Runs   Test", "LoRA default    10  74.89"]
    assert max(map(len, lines)) <= 60
    words = " ".join(lines[5:])
    assert "1,000 reviews of 870 movies. Full is better than LoRA default;" in words
    assert "+4.79 points (+3.13 to +6.45, 95 % for new seeds and reviews), p < 0.001" in words
    assert words.endswith("equally good means within 0.5 points.")
    found = json.loads(command("minilm-small:lora_default", "minilm-small:full", "--json").output)
    assert found["decision"]["word"] == "better"
    assert found["rule"] == {"margin": 0.005, "confidence": 0.95, "power": 0.8, "looks": [10]}
    assert found["seeds"] == [list(range(3, 13))] * 2


def test_the_page_has_the_sentence_and_its_numbers_next_to_it(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ("lora_default", "full", "--study", "minilm-small", "--page")
    assert command(*words, str(tmp_path / "a.html")).exit_code == 0
    page = (tmp_path / "a.html").read_text()
    assert '<h1 dir="auto">Comparison of full with LoRA default</h1>' in page
    assert "Full is better than LoRA default; difference +4.79 points" in page
    assert re.search(r"LoRA default</th>.*not DistilBERT.*>10<.*>74\.89<", page, re.DOTALL)
    assert '<a href="a.json">a.json</a>' in page
    assert json.loads((tmp_path / "a.json").read_bytes())["decision"]["word"] == "better"
    assert "--page is x; allowed: a name that ends in .html" in str(command(*words, "x").exception)


def test_a_single_run_has_an_interval_for_new_reviews_and_no_word() -> None:
    said = compare_recorded("full/seed-3", "lora_tuned/seed-3", "minilm-small", None, ROOT)
    assert said.names == ("full seed-3", "LoRA tuned seed-3")
    assert said.decision.why == "few_runs"
    assert "95 % for new reviews alone), p —, runs in pairs: 1;" in said.texts[0]


@pytest.mark.parametrize(
    ("words", "margin", "message"),
    [
        (("fulll", "full"), None, "no recorded run of 'fulll'; it has full, .*grid_winner, last"),
        (("full", "grid"), None, "no recorded run of 'grid'; it has .*; allowed: METHOD of"),
        (("none:full", "full"), None, r"'none' is neither a study \(article, demo, .* nor the fol"),
        (("article:full", "full"), None, "article: no run is recorded; run it first"),
        (("full", "full"), 0.0, "--margin is 0; allowed: points, above 0, at most 100"),
        (("full", "full"), float("nan"), "--margin is nan; allowed: points"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(words, margin, message) -> None:
    with pytest.raises(ParameterError, match=message):
        compare_recorded(*words, "minilm-small", margin, ROOT)


def test_runs_that_were_not_tested_are_refused() -> None:
    trial = "reports/minilm-rates:tuning/lora_default/lr0.001-r8-a16"
    with pytest.raises(DataError, match="has no run with predictions of the test reviews"):
        read_side(f"{ROOT}/{trial}", "article", ROOT)


def test_a_tuned_method_whose_own_setting_was_chosen_is_that_method(tmp_path) -> None:
    axes = {"learning_rate": [1e-5, 1e-4]}
    sweeps = {"seeds": [21], "nudges": 0, "unstable_beyond": 5.0, "methods": {"full": axes}}
    study = made.make_study().model_copy(update={"sweeps": SweepParams(**sweeps)})
    workspace = made.make_workspace(study, tmp_path)
    own = [made.make_record(run, 800, 9) for run in method_runs(workspace, "full")]
    trials = [made.make_record(run, 800, 9) for run in trial_runs(workspace)]
    assert runs_of("tuned/full", workspace, [*own, *trials]) == own
    assert runs_of("tuned/full", workspace, [*own, *trials[1:]]) == []
    assert runs_of("tuned/last_layers", workspace, [*own, *trials]) == []
    run = workspace.run("tuned", "full", trials[0].asked.settings, 1)
    tuned = made.make_record(run, 800, 9)
    assert runs_of("tuned/full", workspace, [*own, *trials, tuned]) == [tuned]
    assert runs_of("full/seed-2", workspace, own) == [own[1]]
