import numpy as np
import pytest
import torch

from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.loop import train

METHODS = [
    {"trains": "head"},
    {"lora": {"targets": ["query", "value"], "dropout": 0.1}},
    {"trains": "all", "learning_rate": 1e-3},
]


@pytest.fixture(scope="module")
def tokens(tiny_data):
    folder = tiny_data / "data" / "tiny"
    return {part: read_tokens(folder, part, read_manifest(folder)) for part in ("train", "val")}


@pytest.fixture
def run(tokens, settings, tmp_path):
    """Trains a classifier with changed settings; gives it with what training came to."""

    def start(seed=1, name="checkpoint", on_epoch=lambda _place, _epoch: None, **changes):
        chosen = settings(**changes)
        classifier = Classifier(
            locate_encoder(ModelParams(encoder=chosen.encoder, max_tokens=64)), chosen, seed
        )
        checkpoint = Checkpoint(tmp_path / f"{name}.safetensors", ["key"])
        (result,) = train(
            classifier, seed, tokens["train"], tokens["val"], checkpoint, on_epoch, "test"
        )
        return classifier, result

    return start


def weights(classifier):
    return {
        name: parameter.detach().clone()
        for name, parameter in classifier.models[0].named_parameters()
    }


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one.keys() | other.keys())


@pytest.mark.parametrize("changes", METHODS)
@pytest.mark.goal("property", "frozen weights")
def test_frozen_weights_stay_bit_for_bit_and_trained_ones_move(run, settings, changes):
    chosen = settings(**changes)
    before = weights(
        Classifier(locate_encoder(ModelParams(encoder=chosen.encoder, max_tokens=64)), chosen, 1)
    )
    classifier, _ = run(**changes)
    after, trained = weights(classifier), classifier.trainable()
    for name, weight in before.items():
        unused = name.endswith("position_embeddings.weight") or name.endswith(
            "word_embeddings.weight"
        )
        assert torch.equal(weight, after[name]) == (name not in trained) or unused, name


@pytest.mark.parametrize("changes", METHODS)
def test_a_seed_fixes_everything_and_another_changes_it(run, changes):
    first, second, other = (
        run(seed=seed, name=name, **changes)[0] for seed, name in ((1, "a"), (1, "b"), (2, "c"))
    )
    assert same(weights(first), weights(second))
    assert not same(weights(first), weights(other))


class PowerCutError(Exception):
    pass


@pytest.mark.parametrize("changes", [*METHODS, {"precision": "fp16-mixed"}])
@pytest.mark.parametrize("cut_after", [1, 2])
def test_an_interrupted_run_continues_to_the_bits_of_an_unbroken_one(
    run, tokens, changes, cut_after
):
    def cut(_place, epoch):
        if epoch.epoch == cut_after:
            raise PowerCutError

    unbroken, expected = run(name="unbroken", epochs=3, **changes)
    with pytest.raises(PowerCutError):
        run(name="cut", epochs=3, on_epoch=cut, **changes)
    told = []
    resumed, result = run(
        name="cut", epochs=3, on_epoch=lambda _place, epoch: told.append(epoch), **changes
    )
    assert [epoch.epoch for epoch in told] == list(range(cut_after + 1, 4))
    assert same(weights(unbroken), weights(resumed))
    assert np.array_equal(expected.val_logits, result.val_logits)
    assert [epoch.model_copy(update={"seconds": 0}) for epoch in expected.epochs] == [
        e.model_copy(update={"seconds": 0}) for e in result.epochs
    ]
    assert expected.tokens == result.tokens == 3 * len(tokens["train"].ids)


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy_and_its_weights_are_kept(
    run, tokens
):
    classifier, result = run(trains="all", epochs=6, learning_rate=3e-3)
    accuracies = [epoch.val_accuracy for epoch in result.epochs]
    assert len(set(accuracies)) > 1
    assert result.best_epoch == accuracies.index(max(accuracies)) + 1
    assert np.array_equal(predict_logits(classifier, tokens["val"])[0], result.val_logits)
    answers = result.val_logits.argmax(1)
    assert (answers == tokens["val"].labels).mean() == max(accuracies)


def test_adam_without_decay_or_clipping_starts_with_a_step_of_the_learning_rate(
    run, settings, tokens
):
    """Adam's first step is lr * g / (|g| + 1e-8) whatever the gradient's size, so every bias that
    has a gradient moves by lr.
    """
    start = weights(
        Classifier(
            locate_encoder(ModelParams(encoder="tiny-distilbert", max_tokens=64)), settings(), 1
        )
    )
    classifier, _ = run(epochs=1, batch_size=48, learning_rate=1e-3)
    moved = (weights(classifier)["classifier.bias"] - start["classifier.bias"]).abs()
    assert moved.tolist() == pytest.approx([1e-3, 1e-3], rel=1e-3)


def test_training_learns(run):
    _, result = run(trains="all", epochs=8, learning_rate=3e-3)
    assert result.epochs[-1].train_loss < 0.8 * result.epochs[0].train_loss
    assert result.epochs[-1].train_accuracy > 0.75


@pytest.mark.parametrize("precision", ["bf16-mixed", "fp16-mixed"])
def test_mixed_precision_is_close_to_fp32_but_not_equal(run, precision):
    results = [run(name=name, precision=name, lora={}, epochs=1)[1] for name in ("fp32", precision)]
    exact, rounded = (result.epochs[0].train_loss for result in results)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.02)


@pytest.mark.fault(23)
def test_a_run_that_diverges_says_so(run):
    _, result = run(
        lora={"alpha": 1e6, "rank": 8}, learning_rate=1.0, epochs=3, precision="fp16-mixed"
    )
    assert result.diverged  # 1e6 times anything overflows 16 bits, as soon as B is not zero
    assert result.epochs[-1].val_loss is None


def poison(monkeypatch, step, factor):
    """Multiply what is answered in one training step, counted from 1."""
    original, steps = Classifier.parts, []

    def poisoned(self, batch):
        if torch.is_grad_enabled():
            steps.append(1)
        for logits in original(self, batch):
            yield logits * factor if torch.is_grad_enabled() and len(steps) == step else logits

    monkeypatch.setattr(Classifier, "parts", poisoned)


@pytest.mark.fault(23)
def test_not_a_number_at_step_3_is_found_there(run, monkeypatch):
    poison(monkeypatch, 3, float("nan"))
    _, result = run(lora={}, epochs=2)
    assert result.diverged
    assert result.first_bad_step == 3
    assert result.best_epoch is None
    assert len(result.epochs) == 1
    assert result.epochs[0].train_loss is None
    assert result.epochs[0].train_accuracy is None
    assert result.epochs[0].val_accuracy is None


def test_fp16_skips_a_step_that_overflowed_and_goes_on(run, monkeypatch):
    poison(monkeypatch, 2, float("inf"))
    _, result = run(lora={}, epochs=2, precision="fp16-mixed")
    assert result.first_bad_step == 2
    assert not result.diverged
    assert result.best_epoch is not None
