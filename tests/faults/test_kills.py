"""Faults 1 and 2, resuming and determinism: whatever ends a run, the next start ends alike."""

import random
from pathlib import Path

import pytest

from lora_replication.study import Study
from tests.faults.interrupted import METHODS, result, run, start
from tests.study_files import link_data

EPOCHS, STEPS = 3, 4
"""Epochs of the study below, and steps in each: 48 reviews in batches of 12."""

CUTS = [*(f"epoch {epoch}" for epoch in (1, 2, 3)), *(f"step {step}" for step in (1, 3, 6, 8, 11))]
"""After each epoch, and inside each: in the first step, in the middle, in the last."""


@pytest.fixture(scope="module")
def study(tiny_study: Study) -> Study:
    train = tiny_study.train.model_copy(update={"epochs": EPOCHS})
    return tiny_study.model_copy(update={"train": train})


@pytest.fixture(scope="module")
def unbroken(study, tiny_data, tmp_path_factory):
    root = link_data(tmp_path_factory.mktemp("unbroken") / "root", tiny_data)
    assert [run(study, root, name) for name in METHODS] == [0, 0, 0]
    return {name: result(study, root, name) for name in METHODS}


def told(root: Path) -> list[int]:
    """The epochs that were trained, in order."""
    return [int(line.split()[2]) for line in (root / "told").read_text().splitlines()]


@pytest.mark.fault(1)
@pytest.mark.goal("resume")
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("name", METHODS)
def test_an_interrupted_run_resumes_to_the_bits_of_the_unbroken_one(
    study, unbroken, tiny_data, tmp_path, name, cut
):
    root = link_data(tmp_path / "root", tiny_data)
    assert run(study, root, name, at=cut) == -9
    assert not list((root).rglob("record.json"))
    assert run(study, root, name) == 0
    assert result(study, root, name) == unbroken[name]
    assert told(root) == [1, 2, 3]  # no epoch was trained twice


@pytest.mark.fault(1)
def test_twenty_kills_at_random_moments(study, tiny_data, tmp_path):
    root, other = link_data(tmp_path / "root", tiny_data), link_data(tmp_path / "other", tiny_data)
    moments = random.Random(6)  # noqa: S311  # not for secrets
    kills, seed = 0, 0
    while kills < 20:
        seed += 1
        while True:
            process = start(study, root, "full", seed)
            process.join(moments.uniform(0.05, 2.0) if kills < 20 else None)
            if process.exitcode is not None:
                break
            process.kill()
            process.join()
            kills += 1
        assert process.exitcode == 0
    for one in range(1, seed + 1):
        assert run(study, other, "full", one) == 0
        assert result(study, root, "full", one) == result(study, other, "full", one)


@pytest.mark.fault(2)
@pytest.mark.parametrize("moment", ["half", "whole", "renamed"])
def test_a_checkpoint_that_was_being_written_leaves_the_old_one_or_the_new(
    study, unbroken, tiny_data, tmp_path, moment
):
    """It dies in the checkpoint of the second epoch, before that epoch is told."""
    root = link_data(tmp_path / "root", tiny_data)
    assert run(study, root, "lora_default", at=f"checkpoint 2 {moment}") == -9
    assert told(root) == [1]
    assert run(study, root, "lora_default") == 0
    assert result(study, root, "lora_default") == unbroken["lora_default"]
    assert told(root) == ([1, 3] if moment == "renamed" else [1, 2, 3])
