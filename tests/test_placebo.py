"""Placebos and known effects: what is drawn, and what the committed result says."""

import re
from itertools import combinations

import numpy as np
import pytest
import torch

from benchmarks import placebo
from lora_replication.reading import read_study
from lora_replication.record import Settings
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from tests.study_files import ROOT
from tests.training_runs import encoder_of, random_tokens

RESULT = ROOT / "benchmarks" / "results" / "placebo.md"


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


def test_a_placebo_draws_another_a_and_a_known_loss_swaps_its_share_of_the_answers() -> None:
    study, tokens = read_study("placebo", ROOT), random_tokens([6] * 1000)
    lora, one, two, worse = (
        Classifier(encoder_of(), Settings.of(study, study.methods[name]), 1)
        for name in ("lora", "renamed_01", "renamed_02", "worse_3")
    )
    drawn = [next(iter(own.trainable(0).values())).detach() for own in (lora, one, two, worse)]
    assert not any(torch.equal(*pair) for pair in combinations(drawn, 2))
    plain, swapped = (predict_logits(own, tokens)[0] for own in (lora, worse))  # B is zero
    changed = (plain != swapped).any(1)
    assert np.array_equal(plain[changed], swapped[changed, ::-1])
    assert changed.mean() == pytest.approx(study.methods["worse_3"].options["swapped"], abs=0.02)
    assert np.array_equal(predict_logits(worse, tokens)[0], swapped)


def test_of_the_committed_placebos_at_most_one_in_twenty_is_called_different() -> None:
    variants, halves = (
        [int(n) for n in re.findall(r"\d+", " ".join(row))] for row in cells("Placebos")
    )
    assert variants[0] == 20 == sum(variants[2:])
    assert variants[2] <= 1
    assert halves[0] == 126 == sum(halves[2:])
    assert halves[2] / halves[0] <= 0.05


def test_trained_losses_are_found_and_the_committed_power_grows_with_effect_and_seeds() -> None:
    rows = cells("Known effects")
    assert len(rows) == 8
    assert not any(row[1].startswith("better") for row in rows)
    assert rows[-1][1].startswith("worse")
    powers = np.array([[int(cell.split(" ")[0]) for cell in row[3:]] for row in rows])
    assert (powers[-1] >= powers[0] + 40).all()
    assert (powers[4:, 1::2] > powers[4:, ::2]).all()
