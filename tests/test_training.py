import numpy as np
import pytest
import torch

from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from tests.training_runs import (
    PowerCutError,
    close,
    encoder_of,
    epochs_of,
    run_training,
    spoil_outputs,
    weights_of,
)

METHODS = [
    {"trains": "head"},
    {"lora": {"targets": ["query", "value"], "dropout": 0.1}},
    {"trains": "all", "learning_rate": 1e-3},
]


@pytest.fixture
def run(tokens, settings, tmp_path):
    """Trains one configuration; returns its classifier with the outcome."""

    def start(name="run", **changes):
        options = {key: changes.pop(key) for key in ("cut_after", "on_epoch") if key in changes}
        file = tmp_path / f"{name}.safetensors"
        classifier, (result,) = run_training(tokens, [settings(**changes)], file, **options)
        return classifier, result

    return start


@pytest.mark.parametrize("changes", METHODS)
@pytest.mark.goal("property", "frozen weights")
def test_frozen_weights_stay_bit_for_bit_and_trained_ones_move(run, settings, changes):
    before = Classifier(encoder_of(), settings(**changes), 1).models[0]
    classifier, _ = run(**changes)
    after, trained = classifier.models[0], classifier.trainable()
    for name, weight in before.named_parameters():
        if not name.endswith(("position_embeddings.weight", "word_embeddings.weight")):
            assert torch.equal(weight, after.get_parameter(name)) == (name not in trained), name


@pytest.mark.parametrize("changes", [*METHODS, {"precision": "fp16-mixed"}])
@pytest.mark.parametrize("cut_after", [1, 2])
def test_an_interrupted_run_continues_to_the_bits_of_an_uninterrupted_one(
    run, tokens, changes, cut_after
):
    whole, expected = run("whole", epochs=3, **changes)
    with pytest.raises(PowerCutError):
        run("cut", epochs=3, cut_after=cut_after, **changes)
    heard = []
    resumed, result = run("cut", epochs=3, on_epoch=lambda *both: heard.append(both), **changes)
    assert [(index, epoch.epoch) for index, epoch in heard] == [
        (0, number) for number in range(cut_after + 1, 4)
    ]
    assert close(weights_of(whole), weights_of(resumed), 0)
    assert np.array_equal(expected.val_logits, result.val_logits)
    assert epochs_of(expected) == epochs_of(result)
    assert expected.tokens == result.tokens == 3 * len(tokens["train"].ids)


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy_and_is_kept(run, tokens):
    classifier, result = run(trains="all", epochs=6, learning_rate=3e-3)
    accuracies = [epoch.val_accuracy for epoch in result.epochs]
    assert len(set(accuracies)) > 1
    assert result.best_epoch == accuracies.index(max(accuracies)) + 1
    assert np.array_equal(predict_logits(classifier, tokens["val"])[0], result.val_logits)
    predicted = result.val_logits.argmax(1)
    assert (predicted == tokens["val"].labels).mean() == max(accuracies)


def test_adam_without_decay_or_clipping_starts_with_a_step_of_the_learning_rate(run, settings):
    """Adam's first step is lr * g / (|g| + 1e-8) whatever the gradient's size, so every bias that
    has a gradient moves by lr.
    """
    before = weights_of(Classifier(encoder_of(), settings(), 1))
    after = weights_of(run(epochs=1, batch_size=48, learning_rate=1e-3)[0])
    moved = (after["classifier.bias"] - before["classifier.bias"]).abs()
    assert moved.tolist() == pytest.approx([1e-3, 1e-3], rel=1e-3)


def test_training_learns(run):
    _, result = run(trains="all", epochs=8, learning_rate=3e-3)
    assert result.epochs[-1].train_loss < 0.8 * result.epochs[0].train_loss
    assert result.epochs[-1].train_accuracy > 0.75


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_mixed_precision_is_close_to_fp32_but_not_equal(run, precision):
    exact, rounded = (
        run(name, precision=name, lora={}, epochs=1)[1].epochs[0].train_loss
        for name in ("fp32", precision)
    )
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


@pytest.mark.fault(23)
def test_a_run_that_diverges_says_so(run):
    """1e6 times anything overflows 16 bits, as soon as B is not zero."""
    lora = {"alpha": 1e6, "rank": 8}
    _, result = run(lora=lora, learning_rate=1.0, epochs=3, precision="fp16-mixed")
    assert result.diverged
    assert result.epochs[-1].val_loss is None


@pytest.mark.fault(23)
def test_not_a_number_at_step_3_is_found_there(run, monkeypatch):
    spoil_outputs(monkeypatch, 3, float("nan"))
    _, result = run(lora={}, epochs=2)
    assert (result.diverged, result.first_bad_step, result.best_epoch) == (True, 3, None)
    (epoch,) = result.epochs
    assert epoch.train_loss is epoch.train_accuracy is epoch.val_accuracy is None


def test_fp16_skips_a_step_that_overflowed_and_goes_on(run, monkeypatch):
    spoil_outputs(monkeypatch, 2, float("inf"))
    _, result = run(lora={}, epochs=2, precision="fp16-mixed")
    assert (result.diverged, result.first_bad_step) == (False, 2)
    assert result.best_epoch is not None
