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


def test_the_table_of_the_study_is_that_of_its_report(text):
    found = results("minilm-rates")
    for row, own in zip(found["methods"], found["tuned"], strict=True):
        assert (row["name"], row["runs_done"], own["runs_done"]) == (own["name"], 10, 10)
        at_one, at_own = (
            f"{100 * one['test']['estimate']:.1f} "
            f"({100 * one['interval']['low']:.1f} to {100 * one['interval']['high']:.1f})"
            for one in (row, own)
        )
        cells = (f"{row['trainable_parameters']:,}", at_one, f"{own['learning_rate']:g}", at_own)
        assert f" | {' | '.join(cells)} |" in text, row["name"]


def test_the_differences_in_the_first_table_are_those_of_the_report(text):
    found = results("minilm-rates")
    judged = {v["claim"]["name"]: v for v in found["verdicts"]}
    own_rates = {(c["first"], c["second"]): c["interval"] for c in found["tuned_comparisons"]}

    def ends(interval: dict[str, float], unit: int) -> str:
        return f"({unit * interval['low']:+.1f} to {unit * interval['high']:+.1f})"

    for name, first, second in (
        ("lora_above_last_layers", "last_layers", "lora_default"),
        ("full_above_lora", "lora_default", "full"),
        ("tuned_above_default", "lora_default", "lora_tuned"),
    ):
        measured, own = judged[name]["measured_percent"], own_rates[first, second]
        row = f"{measured['estimate']:+.1f} {ends(measured, 1)} | {judged[name]['word']} | "
        row += f"{100 * own['estimate']:+.1f} {ends(own, 100)} |"
        assert row in text, name


def test_the_accuracies_of_variants_are_those_of_their_report(text):
    rows = results("variants")["tuned"]
    said = {method_in_words(row["name"]): f"{100 * row['test']['estimate']:.1f}" for row in rows}
    assert [name for name, mean in said.items() if f"{name} {mean}" not in text] == []


def test_the_slopes_on_alpha_are_those_of_their_report(text):
    found = results("surface")["tuning"]["findings"]
    slopes = [one for one in found if one["claim"]["name"] == "rate_against_alpha"]
    numbers = [[f"{one[key]:.2f}" for key in ("measured", "low", "high")] for one in slopes]
    said = ["{} ({} to {})".format(*own) for own in numbers]
    plain = text.replace("\N{MINUS SIGN}", "-")
    assert [one in plain for one in said] == [True, True]


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
