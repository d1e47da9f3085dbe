"""The numbers in README are those of the reports and results that it names."""

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results import Results

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def text() -> str:
    return " ".join((ROOT / "README.md").read_text("utf-8").replace("\u2212", "-").split())


PRIVATE_WORDS = ("be told from", "one class for every", "neither holds", "as one should",
                 " beside ", "comes to ", "flattered", "what came of", "live runs")  # fmt: skip


def test_no_private_words_are_left_in_what_people_read():
    pages = ("*.md", "docs/*.md", "reports/*/report.md", "src/lora_replication/report/*.j2")
    files = {file: file.read_text("utf-8").lower() for page in pages for file in ROOT.glob(page)}
    assert len(files) > 12
    assert [(f.name, w) for f, text in files.items() for w in PRIVATE_WORDS if w in text] == []


def results(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((ROOT / "reports" / name / "results.json").read_bytes())
    return content


def test_the_table_of_the_study_is_that_of_its_report(text):
    found = results("minilm-small")
    for row in [*found["methods"], found["grid"]["winner"]]:
        cells = [f"{row['trainable_parameters']:,}", str(row["runs_done"])]
        cells += [f"{100 * row[part]['estimate']:.1f}" for part in ("val", "test")]
        low, high = (100 * row["interval"][end] for end in ("low", "high"))
        assert f" | {' | '.join(cells)} | {low:.1f} to {high:.1f} |" in text, row["name"]


def test_the_differences_in_the_first_table_are_those_of_the_report(text):
    judged = {v["claim"]["name"]: v for v in results("minilm-small")["verdicts"]}
    for name in ("lora_above_last_layers", "full_above_lora", "tuned_above_default"):
        measured, word = judged[name]["measured_percent"], judged[name]["word"]
        ends = f"{measured['low']:+.1f} to {measured['high']:+.1f})"
        points = re.escape(f"{measured['estimate']:+.1f} points (")
        assert re.search(rf"{points}[^|]*{re.escape(ends)} \| {word} \|", text), name


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
