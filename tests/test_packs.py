import numpy as np
import pytest
import torch

from lora_replication import classifier as classifier_module
from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training.batches import collate
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.loop import train
from lora_replication.training.lora import LinearWithLoRA, LoRALayer
from lora_replication.training.packs import packed

ENCODERS = ["tiny-distilbert", "tiny-bert"]
PACK = [
    {"rank": 1, "alpha": 1.0, "targets": ["query", "value"]},
    {"rank": 8, "alpha": 16.0, "targets": ["query", "value", "mlp"]},
    {"rank": 3, "alpha": 4.0, "targets": ["key", "projection", "head"]},
    {"rank": 4, "alpha": 64.0, "targets": ["query"]},
]


@pytest.fixture(autouse=True, params=[2, 32], ids=lambda together: f"together-{together}")
def together(request, monkeypatch):
    """A pack goes through the encoder in parts, as on a CPU, or at once, as on a GPU."""
    monkeypatch.setitem(classifier_module.TOGETHER, "cpu", request.param)
    return request.param


@pytest.fixture(scope="module")
def tokens(tiny_data):
    folder = tiny_data / "data" / "tiny"
    return {part: read_tokens(folder, part, read_manifest(folder)) for part in ("train", "val")}


@pytest.fixture
def pack_of(settings):
    """A classifier for a pack of LoRA configurations, all else as in ``changes``."""

    def make(loras, encoder="tiny-distilbert", **changes):
        first, *company = [settings(encoder=encoder, lora=lora, **changes) for lora in loras]
        return Classifier(
            locate_encoder(ModelParams(encoder=encoder, max_tokens=64)), first, 1, company
        )

    return make


@pytest.fixture
def trained(pack_of, tokens, tmp_path):
    """Trains a pack; gives it with what training came to."""

    def start(loras, double=False, name="pack", on_epoch=lambda _place, _epoch: None, **changes):
        classifier = pack_of(loras, **changes)
        if double:
            for model in classifier.models:
                model.double()
        checkpoint = Checkpoint(tmp_path / f"{name}.safetensors", [str(lora) for lora in loras])
        return classifier, train(
            classifier, 1, tokens["train"], tokens["val"], checkpoint, on_epoch, "test"
        )

    return start


def weights(classifier, place=0):
    return {
        name: parameter.detach().clone() for name, parameter in classifier.trainable(place).items()
    }


def close(one, other, tolerance):
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


def same(one, other):
    return close(one, other, 0)


def told(training):
    """What training came to, but for times."""
    return [epoch.model_dump(exclude={"seconds"}) for epoch in training.epochs]


def test_twice_as_many_go_through_the_encoder_at_once_in_16_bits(pack_of, together):
    at_once = [
        pack_of([*PACK, PACK[0]], precision=precision).together
        for precision in ("fp32", "bf16-mixed", "fp16-mixed")
    ]
    assert at_once == ([2, 4, 4] if together == 2 else [5, 5, 5])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_of_a_step_are_those_of_each_configuration_alone(encoder, pack_of, tokens):
    batch = collate(tokens["train"], np.arange(12), torch.device("cpu"))

    def gradients(classifier, place):
        return {name: parameter.grad for name, parameter in classifier.trainable(place).items()}

    def step(loras):
        classifier = pack_of(loras, encoder)
        for model in classifier.models:
            for name, parameter in model.named_parameters():
                if name.endswith(".B"):
                    torch.nn.init.normal_(
                        parameter, std=0.01, generator=torch.Generator().manual_seed(len(name))
                    )
        classifier.start_epoch(1)
        logits = classifier.logits(batch)
        torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.labels.repeat(len(loras)), reduction="sum"
        ).div(12).backward()
        return classifier, logits

    together, logits = step(PACK)
    for place, lora in enumerate(PACK):
        alone, own = step([lora])
        assert torch.allclose(logits[place], own[0], atol=1e-5)
        assert close(gradients(together, place), gradients(alone, 0), 1e-5)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_fifty_steps_in_float64_give_what_each_configuration_gives_alone(encoder, trained, tokens):
    loras = [lora | {"dropout": 0.1} for lora in PACK]
    changes = {
        "encoder": encoder,
        "double": True,
        "epochs": 5,
        "batch_size": 5,
        "learning_rate": 1e-3,
    }
    steps = 5 * -(-len(tokens["train"]) // 5)
    assert steps >= 50
    together, results = trained(loras, **changes)
    for place, lora in enumerate(loras):
        alone, (result,) = trained([lora], name=str(place), **changes)
        assert close(weights(together, place), weights(alone), 1e-9)
        assert results[place].best_epoch == result.best_epoch
        for ours, theirs in zip(results[place].epochs, result.epochs, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-9)
            assert ours.val_loss == pytest.approx(
                theirs.val_loss, abs=1e-7
            )  # logits are handed over in float32
            assert (ours.train_accuracy, ours.val_accuracy) == (
                theirs.train_accuracy,
                theirs.val_accuracy,
            )


def test_order_and_company_change_nothing_beyond_rounding(trained):
    changes = {"double": True, "learning_rate": 1e-3}
    forwards, _ = trained(PACK, **changes)
    backwards, _ = trained(PACK[::-1], name="backwards", **changes)
    fewer, _ = trained(PACK[1:3], name="fewer", **changes)
    for place in range(4):
        assert close(weights(forwards, place), weights(backwards, 3 - place), 1e-9)
    assert close(weights(forwards, 1), weights(fewer, 0), 1e-9)


@pytest.fixture
def poison(monkeypatch):
    """Multiplies what one place of a pack answers in one training step, counted from 1."""
    original, steps = Classifier.parts, []

    def poisoned(self, batch, step, place, factor):
        if torch.is_grad_enabled():
            steps.append(1)
        factors = torch.ones(len(self.active), 1, 1)
        factors[place] = factor
        for logits in original(self, batch):
            own, factors = factors[: len(logits)], factors[len(logits) :]
            yield logits * own if torch.is_grad_enabled() and len(steps) == step else logits

    def start(step, place, factor):
        steps.clear()
        monkeypatch.setattr(
            Classifier, "parts", lambda self, batch: poisoned(self, batch, step, place, factor)
        )

    return start


@pytest.mark.parametrize("factor", [float("inf"), float("nan")])
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.fault(23)
def test_a_configuration_that_diverges_leaves_its_neighbours_as_they_were(
    trained, poison, precision, factor
):
    tame, quiet = trained(PACK[:3], precision=precision, epochs=2)
    poison(3, 1, factor)
    wild, loud = trained(PACK[:3], name="wild", precision=precision, epochs=2)
    assert loud[1].first_bad_step == 3
    assert loud[1].diverged
    assert len(loud[1].epochs) == 1
    assert loud[1].epochs[0].val_accuracy is loud[1].epochs[0].train_loss is None
    for place in (0, 2):
        assert (
            told(quiet[place])[0] == told(loud[place])[0]
        )  # bit for bit, as long as the pack has the same shape
        assert len(loud[place].epochs) == 2
        assert close(
            weights(tame, place), weights(wild, place), 1e-4 if precision == "fp32" else 0.02
        )


def test_a_step_that_overflows_in_one_configuration_is_skipped_there_alone(trained, poison):
    changes = {"precision": "fp16-mixed", "epochs": 1}
    clean, _ = trained(PACK[:2], **changes)
    poison(2, 1, float("inf"))
    hit, results = trained(PACK[:2], name="hit", **changes)
    assert [result.first_bad_step for result in results] == [None, 2]
    assert not any(result.diverged for result in results)
    assert same(weights(clean, 0), weights(hit, 0))
    assert not same(weights(clean, 1), weights(hit, 1))


def test_each_configuration_keeps_its_own_best_epoch(trained, tokens):
    classifier, results = trained(PACK, epochs=5, learning_rate=3e-3)
    assert len({result.best_epoch for result in results}) > 1
    logits = predict_logits(classifier, tokens["val"])
    for own, result in zip(logits, results, strict=True):
        accuracies = [epoch.val_accuracy for epoch in result.epochs]
        assert result.best_epoch == accuracies.index(max(accuracies)) + 1
        assert np.array_equal(own, result.val_logits)


def test_an_interrupted_pack_continues_to_the_bits_of_an_unbroken_one(trained):
    class PowerCutError(Exception):
        pass

    def cut(_place, epoch):
        if epoch.epoch == 2:
            raise PowerCutError

    unbroken, expected = trained(PACK, epochs=3, name="unbroken", precision="fp16-mixed")
    with pytest.raises(PowerCutError):
        trained(PACK, epochs=3, name="cut", precision="fp16-mixed", on_epoch=cut)
    resumed, results = trained(PACK, epochs=3, name="cut", precision="fp16-mixed")
    for place in range(4):
        assert same(weights(unbroken, place), weights(resumed, place))
        assert told(expected[place]) == told(results[place])


def test_a_configuration_that_answers_one_class_is_given_up_where_that_is_asked_for(
    trained, monkeypatch
):
    original = Classifier.logits

    def stuck(self, batch):
        logits = original(self, batch)
        if not torch.is_grad_enabled():
            for own, place in zip(logits, self.active, strict=True):
                own[:] = torch.tensor([0.0, 1.0])
                own[::2, 1] = 1.0 if place == 0 else -1.0
        return logits

    monkeypatch.setattr(Classifier, "logits", stuck)
    _, hasty = trained(PACK[:2], epochs=3, stop_one_class=True)
    _, patient = trained(PACK[:2], name="patient", epochs=3)
    assert [result.gave_up for result in hasty] == [True, False]
    assert [len(result.epochs) for result in hasty] == [1, 3]
    assert not any(result.gave_up for result in patient)
    assert [len(result.epochs) for result in patient] == [3, 3]


def test_a_configuration_that_diverged_was_not_given_up_for_its_answers(trained):
    """Its logits are no numbers, whose largest is the first: they answer one class, too."""
    _, (result,) = trained(PACK[:1], learning_rate=1e38, stop_one_class=True)
    assert (result.diverged, result.gave_up) == (True, False)


def test_what_no_configuration_adapts_costs_one_copy():
    linear = torch.nn.Linear(4, 3)
    assert packed([linear, linear], torch.ones(1, 5, 4)).shape == (1, 5, 3)


def test_a_linear_of_a_pack_is_the_sum_of_the_linear_and_each_own_term():
    linear = torch.nn.Linear(4, 3)
    terms = [
        LoRALayer(4, 3, rank, scale, torch.Generator().manual_seed(rank))
        for rank, scale in ((1, 2.0), (3, 0.5))
    ]
    for term in terms:
        torch.nn.init.normal_(term.B)
    x = torch.randn(3, 5, 4)
    together = packed(
        [LinearWithLoRA(linear, terms[0]), linear, LinearWithLoRA(linear, terms[1])], x
    )
    assert torch.allclose(
        together[0], linear(x[0]) + 2.0 * x[0] @ terms[0].A @ terms[0].B, atol=1e-6
    )
    assert torch.allclose(together[1], linear(x[1]), atol=1e-6)
    assert torch.allclose(
        together[2], linear(x[2]) + 0.5 * x[2] @ terms[1].A @ terms[1].B, atol=1e-6
    )


def test_configurations_share_what_is_frozen_and_nothing_else(pack_of):
    one, other = pack_of(PACK[:2]).models
    shared = {id(p) for p in one.parameters()} & {id(p) for p in other.parameters()}
    assert all((id(p) in shared) != p.requires_grad for p in one.parameters())


def test_only_lora_configurations_with_all_else_equal_make_a_pack(pack_of, settings):
    encoder = locate_encoder(ModelParams(encoder="tiny-distilbert", max_tokens=64))
    for one, other in (
        (settings(trains="head"), settings(lora={})),
        (settings(lora={}), settings(lora={}, learning_rate=0.5)),
    ):
        with pytest.raises(ValueError, match="differ in nothing else"):
            Classifier(encoder, one, 1, [other])
