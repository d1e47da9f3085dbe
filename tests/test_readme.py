"""The numbers in README are those of the records, results and sources that it names."""

import csv
import json
import re
import statistics
from pathlib import Path

import pytest

from benchmarks.results import Results
from benchmarks.table import speedup

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "reports" / "minilm-small"
NAMES = {
    "last_layers": "last layers",
    "lora_default": "LoRA, default",
    "lora_tuned": "LoRA, tuned",
    "full": "everything",
    "grid_winner": "LoRA, the grid's winner, fresh seeds",
}


@pytest.fixture(scope="module")
def text():
    return " ".join((ROOT / "README.md").read_text("utf-8").split())


def test_the_table_of_the_study_is_that_of_its_report(text):
    with (STUDY / "table.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["method"] for row in rows} >= set(NAMES)
    for row in rows:
        if row["method"] in NAMES:
            percent = {
                name: f"{100 * float(row[name]):.2f}"
                for name in ("val_accuracy", "test_accuracy", "wilson_low", "wilson_high")
            }
            counts = f"{int(row['trainable_parameters']):,} | {row['runs_done']}"
            line = "| {} | {} | {val_accuracy} | {test_accuracy} | {wilson_low} to {wilson_high} |"
            assert line.format(NAMES[row["method"]], counts, **percent) in text


def test_what_its_grid_says_is_in_its_report(text):
    grid = json.loads((STUDY / "results.json").read_bytes())["grid"]
    assert grid["configurations_done"] == grid["configurations_asked"]
    share = f"{grid['one_class']} of {grid['configurations_done']}"
    assert f"{share} answer one class for every review, all of them with alpha 16 or 64" in text
    assert {cell["lora"]["alpha"] for cell in grid["cells"] if cell["one_class"]} == {16, 64}
    assert grid["winner_by_validation"] == "r32-a4-query-value-mlp"
    assert "the best by validation has rank 32 and alpha 4 on query, value and MLP" in text


def test_what_the_study_took_is_what_its_report_says(text):
    (said,) = re.findall(
        r"Training and evaluation took (.*?) in all:", (STUDY / "report.md").read_text("utf-8")
    )
    assert f"Training and evaluation took {said}" in text


def test_what_the_published_grid_says_is_in_its_report(text):
    published = json.loads((ROOT / "reports" / "published" / "results.json").read_bytes())
    best = published["choices"][0]
    assert (best["rule"], best["configuration"]) == ("best on validation", "r32-a1-query-value-mlp")
    accuracies = [f"{100 * best[part]['estimate']:.2f} %" for part in ("val", "test")]
    assert f"{accuracies[0]} on validation, {accuracies[1]} on test" in text
    alike = published["not_told_from_the_best"]
    assert (
        f"{alike['on_validation']} of the {published['configurations']['found']} configurations cannot be told"
        in text
    )
    assert f"and {alike['on_test']} not from the best on test" in text
    assert f"{alike['on_validation']} configurations cannot be told from the best one" in text
    collapsed = {each["alpha"]: each["collapsed"] for each in published["collapse"]}
    assert published["collapse_below"] == 0.6
    assert (
        f"{sum(collapsed.values())} runs end below 60 % test accuracy, none of them with alpha 8 or less"
        in text
    )
    assert (
        f"{sum(collapsed.values())} of them end below 60 % test accuracy, none of those with alpha 8 or less"
        in text
    )
    assert not any(count for alpha, count in collapsed.items() if alpha <= 8)
    assert f"{published['configurations']['one_class']} of them answer one class" in text
    assert len(published["configurations"]["missing"]) == 6
    assert "lacks six of the 576 configurations" in text


@pytest.mark.parametrize(
    ("machine", "precision", "costs", "projection", "ratios"),
    [
        (
            "intel-r-xeon-r-processor-2-cores",
            "bf16-mixed",
            "{:.0f} ms a review here, {:.0f} ms with the HF Trainer, PEFT and batches of similar length, and {:,.0f} ms in the article",
            "a projection of {:.1f}, {:.1f} and {:.0f} hours",
            "Training everything is {} times as fast as in that loop, the last layers {} times, evaluation {} to {} times.",
        ),
        (
            "amd-epyc-2-cores",
            "fp32",
            "in fp32 (AMD EPYC): {:.0f}, {:.0f} and {:,.0f} ms a review",
            "or {:.1f}, {:.0f} and {:.0f} hours",
            "training everything {} times as fast as in the article's loop, the last layers {} times, evaluation {} to {} times.",
        ),
    ],
)
def test_what_a_run_costs_is_in_the_results_of_the_benchmark(
    text, machine, precision, costs, projection, ratios
):
    results = Results.model_validate_json(
        (ROOT / "benchmarks" / "results" / f"{machine}.json").read_bytes()
    )
    measured = {
        (m.method, m.phase, m.contender, m.precision): m
        for m in results.measurements
        if m.size == "distilbert-size"
    }

    def median(contender, precision=precision):
        return statistics.median(
            measured["lora_default", "training", contender, precision].seconds_per_review
        )

    def ratio(method, phase):
        ours, article = (
            measured[method, phase, contender, precision] for contender in ("ours", "article")
        )
        return f"{statistics.median(speedup(ours, article)):.1f}"

    seconds = [median(each) for each in ("ours", "peft", "article")]
    assert costs.format(*(1000 * each for each in seconds)) in text
    assert projection.format(*(3 * 35000 * each / 3600 for each in seconds)) in text
    evaluations = sorted(
        ratio(method, "evaluation") for method in ("last_layers", "lora_default", "full")
    )
    assert (
        ratios.format(
            ratio("full", "training"),
            ratio("last_layers", "training"),
            evaluations[0],
            evaluations[-1],
        )
        in text
    )
    if precision != "fp32":
        assert f"({1000 * median('article', 'fp32'):,.0f} ms in fp32;" in text
