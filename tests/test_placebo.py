"""Placebos and known effects: what is drawn, and what the committed result says."""

import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import placebo

RESULT = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "placebo.md"


def cells(heading: str) -> list[list[str]]:
    """Of the committed table below this heading."""
    text = RESULT.read_text("utf-8").split(f"## {heading}")[1].split("##")[0]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return rows[2:]


def test_drawn_runs_scatter_as_recorded_and_an_effect_is_what_it_says() -> None:
    chance, known = np.random.default_rng(3), placebo.recorded("full")
    same, better = placebo.drawn(chance, known, 400), placebo.drawn(chance, known, 400, 0.03)
    assert known.shape == (10, 1000)
    assert same.mean() == pytest.approx(known.mean(), abs=0.004)
    assert same.mean(1).std() == pytest.approx(known.mean(1).std(ddof=1), rel=0.2)
    assert better.mean() - same.mean() == pytest.approx(0.03, abs=0.006)


def test_answers_go_through_folders_of_foreign_predictions_unchanged() -> None:
    labels, known = placebo.recorded_labels(), placebo.recorded("full")
    found = placebo.by_folders(placebo.recorded("lora_default"), known, labels)
    assert (found.word, found.seeds) == ("better", 10)
    assert found.difference.estimate == pytest.approx(0.0479)


def test_of_the_committed_placebos_at_most_one_in_twenty_is_called_different() -> None:
    variants, halves = (
        [int(n) for n in re.findall(r"\d+", " ".join(row))] for row in cells("Placebos")
    )
    assert variants[0] == 20 == sum(variants[2:])
    assert variants[2] <= 1
    assert halves[0] == 126 == sum(halves[2:])
    assert halves[2] / halves[0] <= 0.05


def test_the_committed_power_grows_with_the_effect_and_with_more_seeds() -> None:
    rows = cells("Known effects")
    assert [float(row[0]) for row in rows] == list(placebo.EFFECTS)
    powers = np.array([[int(cell.split(" ")[0]) for cell in row[2:]] for row in rows])
    assert (powers[-1] >= powers[0] + 40).all()
    assert (powers[4:, 1::2] > powers[4:, ::2]).all()
