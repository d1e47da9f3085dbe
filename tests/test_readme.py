"""The numbers in README are those of the reports and results that it names."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Results
from lora_replication.study import method_in_words

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def text() -> str:
    return " ".join((ROOT / "README.md").read_text("utf-8").replace("\u2212", "-").split())


PRIVATE_WORDS = ("be told from", "one class for every", "neither holds", "as one should",
                 " beside ", "comes to ", "flattered", "what came of", "live runs", " told ",
                 "mended", "the way out", "in mid-")  # fmt: skip


def test_no_private_words_are_left_in_what_people_read():
    pages = ("*.md", "docs/*.md", "reports/*/report.md", "src/lora_replication/report/*.j2")
    files = {file: file.read_text("utf-8").lower() for page in pages for file in ROOT.glob(page)}
    assert len(files) > 12
    assert [(f.name, w) for f, text in files.items() for w in PRIVATE_WORDS if w in text] == []


def results(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "reports" / name / "results.json").read_bytes())
    return content


def in_percent(interval: dict[str, float], sign: str = "") -> str:
    """An interval of shares as README writes it: mean (low to high)."""
    numbers = (100 * interval[key] for key in ("estimate", "low", "high"))
    return "{} ({} to {})".format(*(f"{number:{sign}.1f}" for number in numbers))


def test_the_table_of_the_study_is_that_of_its_report(text):
    found = results("minilm-rates")
    for row, own in zip(found["methods"], found["tuned"], strict=True):
        assert (row["name"], row["runs_done"], own["runs_done"]) == (own["name"], 10, 10)
        at_one, at_own = in_percent(row["interval"]), in_percent(own["interval"])
        cells = (f"{row['trainable_parameters']:,}", at_one, f"{own['learning_rate']:g}", at_own)
        assert f" | {' | '.join(cells)} |" in text, row["name"]


def test_the_results_on_the_whole_split_are_those_of_their_report(text):
    found, said = results("minilm"), {}
    for row in found["methods"]:
        assert row["runs_done"] == 3
        said[row["name"]] = f"{method_in_words(row['name'])} {in_percent(row['interval'])}"
        cells = (f"{row['learning_rate']:g}", in_percent(row["interval"]))
        assert f" {row['trainable_parameters']:,} | {' | '.join(cells)} |" in text, row["name"]
    del said["lora_default_at_5e-5"]
    pairs = {(p["first"], p["second"]): p["interval"] for p in found["comparisons"]}
    gain = in_percent(pairs["lora_tuned", "full"]).replace(" (", " points (")
    assert f"Full training is {gain} better than tuned LoRA" in text
    assert f"With MiniLM on all of IMDb: {', '.join(said.values())}" in text


def test_the_differences_in_the_first_table_are_those_of_the_reports(text):
    small, whole = results("minilm-rates"), results("minilm")
    words = {verdict["claim"]["name"]: verdict["word"] for verdict in small["verdicts"]}
    for name, first, second in (
        ("lora_above_last_layers", "last_layers", "lora_default"),
        ("full_above_lora", "lora_default", "full"),
        ("tuned_above_default", "lora_default", "lora_tuned"),
    ):
        at_one, at_own, of_all = (
            in_percent(pair["interval"], "+")
            for pairs in (small["comparisons"], small["tuned_comparisons"], whole["comparisons"])
            for pair in pairs
            if (pair["first"], pair["second"]) == (first, second)
        )
        assert f"| {at_one} | {words[name]} | {at_own} | {of_all} |" in text, name


def test_the_accuracies_of_variants_are_those_of_their_report(text):
    rows = results("variants")["tuned"]
    said = {method_in_words(row["name"]): f"{100 * row['test']['estimate']:.1f}" for row in rows}
    assert [name for name, mean in said.items() if f"{name} {mean}" not in text] == []


def test_the_slopes_of_the_best_rate_are_those_of_their_report(text):
    explained = (ROOT / "docs/lora.md").read_text("utf-8").replace("\N{MINUS SIGN}", "-")
    slopes: dict[str, list[list[str]]] = {}
    for one in results("surface")["tuning"]["findings"]:
        numbers = [f"{one[key]:.2f}" for key in ("measured", "low", "high")]
        slopes.setdefault(one["claim"]["name"], []).append(numbers)
    on_alpha, on_rank = slopes["rate_against_alpha"], slopes["rate_against_rank_as_in_the_article"]
    assert ["{} ({} to {})".format(*slope) in text for slope in on_alpha] == [True, True]
    assert f"{on_alpha[0][0]} on query and value, {on_alpha[1][0]} with the MLP" in explained
    assert f"slope is {on_rank[0][0]} and {on_rank[1][0]}; three seeds" in explained


def test_what_the_grids_say_is_in_their_reports(text):
    grid = results("minilm-small")["grid"]
    share = f"{grid['one_class']} of the grid's {grid['done']} configurations"
    assert f"{share} predict a single class, all of them with alpha 16 or 64" in text
    published = results("published")
    fitted = published["best_sets"][1]
    tied = f"{fitted['corrected']} of {published['found']} configurations can't be excluded"
    assert tied in text
    assert f"standard deviation of {100 * fitted['sd']:.2f} points" in text
    shares = {row["source"]: row for row in published["variance"]}
    alpha, rank = shares["alpha"]["all"], shares["rank"]["all"]
    assert f"Alpha explains {100 * alpha:.0f} % of the variance" in text
    assert f"rank {100 * rank:.1f} %" in text
    assert f"rank explains {100 * shares['rank']['alpha 1 and 4']:.0f} %" in text
    collapsed = sum(row["collapsed"] for row in published["by_alpha_and_targets"])
    assert f"{collapsed} runs end below 60 % test accuracy" in text


@pytest.mark.parametrize(
    ("file", "precision", "row"),
    [
        ("intel-r-xeon-r-processor-2-cores", "bf16-mixed", "Intel Xeon with matrix units, bf16"),
        ("amd-epyc-2-cores", "fp32", "AMD EPYC, fp32"),
    ],
)
def test_what_a_run_costs_is_in_the_results_of_the_benchmark(text, file, precision, row):
    path = ROOT / "benchmarks" / "results" / f"{file}.json"
    measured = {
        m.contender: 1000 * statistics.median(m.seconds_per_review)
        for m in Results.model_validate_json(path.read_bytes()).measurements
        if (m.size, m.method, m.phase) == ("distilbert-size", "lora_default", "training")
        and m.precision == precision
    }
    costs = [measured[who] for who in ("ours", "peft", "article")]
    hours = [3 * 35_000 * cost / 3.6e6 for cost in costs]
    shown = " | ".join(f"{cost:,.0f}" for cost in costs)
    (projected,) = re.findall(rf"\| {row} \| {re.escape(shown)} \| ([\d./ ]+) \|", text)
    for words, value in zip(projected.split(" / "), hours, strict=True):
        assert words == f"{value:.{1 if '.' in words else 0}f}"
