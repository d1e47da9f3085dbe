from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lora_replication.training import classifier as classifier_module
from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.methods.lora import LinearWithLoRA, LoRALayer
from lora_replication.training.methods.registry import shared_in_pack
from lora_replication.training.packs import packed_linear
from tests.training_runs import (
    CPU,
    KINDS,
    PowerCutError,
    close,
    encoder_of,
    epochs_of,
    fill_b,
    run_training,
    spoil_outputs,
    weights_of,
)

PACK = [
    {"rank": 1, "alpha": 1.0, "targets": ["query", "value"]},
    {"rank": 8, "alpha": 16.0, "targets": ["query", "value", "mlp"]},
    {"rank": 3, "alpha": 4.0, "targets": ["key", "projection", "head"]},
    {"rank": 4, "alpha": 64.0, "targets": ["query"]},
]


@pytest.fixture(autouse=True, params=[2, 32], ids="chunks of {}".format)
def chunk(request, monkeypatch):
    """A pack goes through the encoder in chunks, as on a CPU, or at once, as on a GPU."""
    monkeypatch.setitem(classifier_module.CHUNK_SIZES, "cpu", request.param)
    return request.param


@pytest.fixture
def trained(settings, tokens, tmp_path):
    """Trains a pack of LoRA configurations, all else as in ``changes``."""

    def start(loras, name="pack", kind="distilbert", double=False, cut_after=None, **changes):
        rates = [{"learning_rate": lora["rate"]} if "rate" in lora else {} for lora in loras]
        plain = [{key: lora[key] for key in lora if key != "rate"} for lora in loras]
        both = zip(plain, rates, strict=True)
        pack = [settings(lora=lora, **changes | rate) for lora, rate in both]
        options = {"encoder": encoder_of(kind), "double": double, "cut_after": cut_after}
        return run_training(tokens, pack, tmp_path / f"{name}.safetensors", **options)

    return start


def test_twice_as_many_are_in_a_chunk_in_16_bits(settings, chunk):
    loras = [*PACK, PACK[0]]
    sizes = []
    for precision in ("fp32", "bf16-mixed", "fp16-mixed"):
        first, *others = [settings(lora=lora, precision=precision) for lora in loras]
        sizes.append(Classifier(encoder_of(), first, 1, others).chunk_size)
    assert sizes == ([2, 4, 4] if chunk == 2 else [5, 5, 5])


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_a_step_are_those_of_each_configuration_alone(kind, settings, tokens):
    batch = collate(tokens["train"], np.arange(12), CPU)

    def step(loras):
        first, *others = [settings(lora=lora) for lora in loras]
        classifier = Classifier(encoder_of(kind), first, 1, others)
        fill_b(classifier, 0.01)
        classifier.start_epoch(1)
        logits = classifier.logits(batch)
        labels = batch.labels.repeat(len(loras))
        F.cross_entropy(logits.flatten(0, 1), labels, reduction="sum").div(12).backward()
        return classifier, logits

    def gradients(classifier, index):
        return {name: p.grad for name, p in classifier.trainable(index).items()}

    pack, logits = step(PACK)
    for index, lora in enumerate(PACK):
        alone, own = step([lora])
        assert torch.allclose(logits[index], own[0], atol=1e-5)
        assert close(gradients(pack, index), gradients(alone, 0), 1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_fifty_steps_in_float64_are_those_of_each_configuration_alone(kind, trained, tokens):
    """With four rates, four ranks and two scalings, at which training is tame. Where it is chaotic,
    any rounding grows, and two ways to sum part, as one does from itself when a weight is nudged.
    """
    own = [{"rate": 1e-3}, {"rate": 3e-4, "scaling": "paper"}, {"rate": 2e-3}, {"rate": 1e-4}]
    loras = [lora | {"dropout": 0.1} | more for lora, more in zip(PACK, own, strict=True)]
    changes = {"kind": kind, "double": True, "epochs": 5, "batch_size": 5}
    assert 5 * -(-len(tokens["train"]) // 5) >= 50
    pack, results = trained(loras, **changes)
    for index, lora in enumerate(loras):
        alone, (result,) = trained([lora], name=str(index), **changes)
        assert close(weights_of(pack, index), weights_of(alone), 1e-9)
        assert results[index].best_epoch == result.best_epoch
        for ours, theirs in zip(results[index].epochs, result.epochs, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-9)
            # Logits are handed over in float32.
            assert ours.val_loss == pytest.approx(theirs.val_loss, abs=1e-7)
            assert ours.train_accuracy == theirs.train_accuracy
            assert ours.val_accuracy == theirs.val_accuracy


@pytest.mark.parametrize("kind", KINDS)
def test_methods_of_one_form_train_together_as_each_does_alone(kind, settings, tokens, tmp_path):
    """All that pack, with and without a trained head, beside a term on the frozen one."""
    forms = [
        {"trains": "vera", "lora": {"rank": 5, "alpha": 1.0}, "learning_rate": 2e-3},
        {"lora": {"scaling": "rslora"}, "options": {"loraplus_ratio": 8.0}, "train_head": True},
        {"trains": "pissa", "lora": {"rank": 3, "targets": ["query", "mlp"]}},
        {"lora": {"rank": 1, "targets": ["key", "head"]}},
        {"trains": "pissa", "lora": {"alpha": 1.0}, "train_head": True, "learning_rate": 3e-4},
    ]
    common = {"learning_rate": 1e-3, "epochs": 3, "batch_size": 5}
    asked = [settings(**common | form) for form in forms]
    asked = [
        own.model_copy(update={"lora": own.lora.model_copy(update={"dropout": 0.1})})
        for own in asked
    ]
    options = {"encoder": encoder_of(kind), "double": True}
    pack, results = run_training(tokens, asked, tmp_path / "pack", **options)
    for index, own in enumerate(asked):
        alone, (result,) = run_training(tokens, [own], tmp_path / str(index), **options)
        assert close(weights_of(pack, index), weights_of(alone), 1e-9)
        for ours, theirs in zip(results[index].epochs, result.epochs, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-9)
        before = weights_of(Classifier(encoder_of(kind), own, 1))
        after = weights_of(alone)
        assert all(not torch.equal(before[name].double(), after[name]) for name in before)
    for cut_after in (1, None):
        with pytest.raises(PowerCutError) if cut_after else nullcontext():
            cut = {"cut_after": cut_after, **options}
            resumed, _ = run_training(tokens, asked, tmp_path / "cut", **cut)
    for index in range(len(asked)):
        assert close(weights_of(pack, index), weights_of(resumed, index), 0)
    rounded = [own.model_copy(update={"precision": "bf16-mixed"}) for own in asked]
    batch = collate(tokens["train"], np.arange(6), CPU)
    for index, own in enumerate(
        Classifier(encoder_of(kind), rounded[0], 1, rounded[1:]).logits(batch)
    ):
        alone = Classifier(encoder_of(kind), rounded[index], 1).logits(batch)[0]
        assert torch.allclose(own, alone, atol=0.02)


@pytest.mark.parametrize("trains", ["dora", "ia3", "bitfit", "head", "all"])
def test_what_has_another_form_trains_in_no_pack(trains, settings):
    lora = {"lora": {}} if trains == "dora" else {}
    assert shared_in_pack(settings(trains=trains, **lora)) is None
    with pytest.raises(ValueError, match="has low-rank terms"):
        Classifier(encoder_of(), settings(lora={}), 1, [settings(trains=trains, **lora)])


def test_order_and_others_change_nothing_beyond_rounding(trained):
    changes = {"double": True, "learning_rate": 1e-3}
    forwards, _ = trained(PACK, **changes)
    backwards, _ = trained(PACK[::-1], name="backwards", **changes)
    fewer, _ = trained(PACK[1:3], name="fewer", **changes)
    for index in range(4):
        assert close(weights_of(forwards, index), weights_of(backwards, 3 - index), 1e-9)
    assert close(weights_of(forwards, 1), weights_of(fewer, 0), 1e-9)


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16-mixed", 0.02)])
@pytest.mark.fault(23)
def test_a_configuration_that_diverges_leaves_its_neighbours_as_they_were(
    trained, monkeypatch, precision, tolerance, factor
):
    tame, quiet = trained(PACK[:3], precision=precision)
    spoil_outputs(monkeypatch, 3, factor, [1])
    wild, loud = trained(PACK[:3], name="wild", precision=precision)
    assert (loud[1].first_bad_step, loud[1].diverged, len(loud[1].epochs)) == (3, True, 1)
    assert loud[1].epochs[0].val_accuracy is loud[1].epochs[0].train_loss is None
    for index in (0, 2):
        # Bit for bit, as long as the pack has the same shape.
        assert epochs_of(quiet[index])[0] == epochs_of(loud[index])[0]
        assert len(loud[index].epochs) == 2
        assert close(weights_of(tame, index), weights_of(wild, index), tolerance)


def test_a_step_that_overflows_in_one_configuration_is_skipped_there_alone(trained, monkeypatch):
    changes = {"precision": "fp16-mixed", "epochs": 1}
    clean, _ = trained(PACK[:2], **changes)
    spoil_outputs(monkeypatch, 2, float("inf"), [1])
    hit, results = trained(PACK[:2], name="hit", **changes)
    assert [result.first_bad_step for result in results] == [None, 2]
    assert not any(result.diverged for result in results)
    assert close(weights_of(clean, 0), weights_of(hit, 0), 0)
    assert not close(weights_of(clean, 1), weights_of(hit, 1), 0)


def test_each_configuration_keeps_its_own_best_epoch(trained, tokens):
    classifier, results = trained(PACK, epochs=5, learning_rate=3e-3)
    assert len({result.best_epoch for result in results}) > 1
    for own, result in zip(predict_logits(classifier, tokens["val"]), results, strict=True):
        accuracies = [epoch.val_accuracy for epoch in result.epochs]
        assert result.best_epoch == accuracies.index(max(accuracies)) + 1
        assert np.array_equal(own, result.val_logits)


def test_an_interrupted_pack_continues_to_the_bits_of_an_uninterrupted_one(trained):
    changes = {"epochs": 3, "precision": "fp16-mixed"}
    whole, expected = trained(PACK, name="whole", **changes)
    with pytest.raises(PowerCutError):
        trained(PACK, name="cut", cut_after=2, **changes)
    resumed, results = trained(PACK, name="cut", **changes)
    for index in range(4):
        assert close(weights_of(whole, index), weights_of(resumed, index), 0)
        assert epochs_of(expected[index]) == epochs_of(results[index])


def test_a_configuration_that_predicts_a_single_class_is_stopped_if_asked(trained, monkeypatch):
    original = Classifier.logits

    def stuck(self, batch):
        logits = original(self, batch)
        if not torch.is_grad_enabled():
            for own, index in zip(logits, self.active, strict=True):
                own[:] = torch.tensor([0.0, 1.0])
                own[::2, 1] = 1.0 if index == 0 else -1.0
        return logits

    monkeypatch.setattr(Classifier, "logits", stuck)
    _, hasty = trained(PACK[:2], epochs=3, stop_one_class=True)
    _, patient = trained(PACK[:2], name="patient", epochs=3)
    assert [(r.stopped_early, len(r.epochs)) for r in hasty] == [(True, 1), (False, 3)]
    assert [(r.stopped_early, len(r.epochs)) for r in patient] == [(False, 3), (False, 3)]


def test_a_configuration_that_diverged_was_not_stopped_for_its_predictions(trained):
    """Its logits are no numbers, whose largest is the first: a single class, too."""
    _, (result,) = trained(PACK[:1], learning_rate=1e38, stop_one_class=True)
    assert (result.diverged, result.stopped_early) == (True, False)


def test_a_packed_linear_is_the_sum_of_the_linear_and_each_own_term():
    linear, x = torch.nn.Linear(4, 3), torch.randn(3, 5, 4)
    terms = [
        LoRALayer(4, 3, rank, scale, torch.Generator().manual_seed(rank))
        for rank, scale in ((1, 2.0), (3, 0.5))
    ]
    for term in terms:
        torch.nn.init.normal_(term.B)
    one, other = (LinearWithLoRA(linear, term) for term in terms)
    outputs = packed_linear([one, linear, other], x)
    expected = [
        linear(x[0]) + 2.0 * x[0] @ terms[0].A @ terms[0].B,
        linear(x[1]),
        linear(x[2]) + 0.5 * x[2] @ terms[1].A @ terms[1].B,
    ]
    assert torch.allclose(outputs, torch.stack(expected), atol=1e-6)
    # What no configuration adapts costs one copy.
    assert packed_linear([linear, linear], x[:1]).shape == (1, 5, 3)


def test_configurations_share_what_is_frozen_and_nothing_else(settings):
    first, other = [settings(lora=lora) for lora in PACK[:2]]
    models = Classifier(encoder_of(), first, 1, [other]).models
    own, others = ({id(p): p for p in model.parameters()} for model in models)
    shared = own.keys() & others.keys()
    assert all((address in shared) != p.requires_grad for address, p in own.items())
