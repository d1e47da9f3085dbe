"""What a run looks like in MLflow, without MLflow."""

import math

import pytest

from lora_replication.record import Epoch
from lora_replication.tracking import content
from tests.tracking_runs import NO_RESULT, NOON, a_record, a_run


def test_a_run_is_described_in_words_and_its_settings_are_flat():
    run = a_run()
    tags = content.run_tags(run)
    assert tags["record_key"] == run.key[:16]
    assert tags["mlflow.note.content"] == (
        "Toy reviews, not IMDb. Trains LoRA, rank 8, alpha 0.5, query + value, "
        "at learning rate 0.0005, in fp32; epochs: 3."
    )
    head = run.model_copy(update={"settings": run.settings.model_copy(
        update={"trains": "head", "lora": None})})  # fmt: skip
    assert "Trains the two layers after the encoder" in str(content.run_tags(head))
    assert "lora" not in content.parameters(head)
    settings = content.parameters(run)
    assert settings["lora.targets"] == "query + value"
    assert settings["evaluate_train"] == "true"
    named = content.parameters(run.model_copy(update={"study": "study-1.0"}))
    assert (named["study"], named["lora.alpha"]) == ("study-1.0", "0.5")
    assert (settings["method"], settings["seed"], settings["lora.rank"]) == (run.name, "1", "8")


def test_the_outcome_is_tags():
    tags = content.outcome_tags(a_record(a_run(), one_class=True))
    assert (tags["collapsed"], tags["git_dirty"], tags["git_commit"]) == ("true", "true", "abc123")
    assert (tags["status"], tags["processor"], tags["gpu"]) == ("ok", "some", "none")
    assert tags["host"] == "2 cores, 0 GiB, Linux"


def test_a_parent_has_the_seeds_of_a_method_the_configurations_of_a_grid_or_all_trials():
    def group(role, **asked):
        name, tags = content.parent(a_run("r", role, **asked))
        return name, tags["group"]

    assert group("cell", rank=1) == group("cell", rank=2) != group("cell", rank=1, seed=2)
    assert group("trial") == group("trial", seed=2) != group("cell")
    assert group("method") == group("method", seed=2) != group("method", rank=2)
    assert group("tuned")[0] == "R at rate 0.0005"


def test_metrics_by_section_at_the_times_of_the_record():
    points = content.record_points(a_record(a_run()))
    once = {point.name: point.value for point in points if point.step == 0}
    assert once == {
        "accuracy/train": 0.75, "accuracy/validation": 0.75, "accuracy/test": 0.75,
        "loss/train": 1 / 3, "loss/validation": 2 / 3,
        "cost/training_minutes": 1.0, "cost/evaluation_minutes": 0.083,
        "cost/peak_memory_gib": 0.5, "cost/tokens_per_second": 1000.0,
        "parameters/trainable": 147_456, "parameters/total": 67_102_466,
    }  # fmt: skip
    losses = [point for point in points if point.name == "curve/validation_loss"]
    assert [point.value for point in losses] == [2.0, 1.0, 2 / 3]
    # Finished at 65 s, evaluated for 5 s, third epoch 30 s, second 20 s.
    assert [point.milliseconds - NOON for point in losses] == [10_000, 30_000, 60_000]
    failed = a_record(a_run(), status="failed", **NO_RESULT)
    names = {point.name for point in content.record_points(failed)}
    assert not [name for name in names if name.startswith(("accuracy", "loss", "curve"))]


@pytest.mark.fault(23)
def test_values_that_are_not_finite_are_left_out():
    accuracies = {"train_accuracy": 0.5, "val_accuracy": None}
    epoch = Epoch.model_construct(
        epoch=1, train_loss=math.inf, val_loss=math.nan, seconds=1.0, **accuracies
    )
    assert [point.name for point in content.epoch_points(epoch, 0)] == ["curve/train_accuracy"]
