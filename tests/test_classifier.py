from itertools import product

import pytest
import torch
import transformers

from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.study import TARGETS, ModelParams
from lora_replication.training.classifier import Classifier, device_for, switch_on
from lora_replication.training.layouts import LAYOUTS


@pytest.fixture(scope="module")
def encoder():
    return locate_encoder(ModelParams(encoder="tiny-distilbert", max_tokens=64))


def distilbert_at_full_size() -> torch.nn.Module:
    """Only shapes: nothing is stored."""
    with torch.device("meta"):
        return transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig())


def trainable(model) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({"trains": "head"}, 592_130),
        ({"lora": {"rank": 8, "alpha": 16, "targets": ["query", "value"]}}, 147_456),
        ({"lora": {"rank": 8, "alpha": 1, "targets": ["query", "value", "mlp"]}}, 516_096),
        ({"trains": "all"}, 66_955_010),
    ],
)
def test_the_articles_counts_of_trainable_parameters(changes, count, settings):
    model = distilbert_at_full_size()
    switch_on(model, LAYOUTS["distilbert"], settings(**changes), 1, lambda _dropout: None)
    assert trainable(model) == count


@pytest.mark.parametrize("switches", list(product([False, True], repeat=4)))
@pytest.mark.goal("property", "parameter counts")
def test_every_choice_of_targets_has_the_parameters_of_the_formula(switches, settings):
    """rank * (in + out) for each linear: 768 to 768 in attention, 768 to 3072 and back in the MLP,
    768 to 768 and 768 to 2 in the head.
    """
    sides = {"key": 6 * 1536, "projection": 6 * 1536, "mlp": 6 * 2 * 3840, "head": 1536 + 770}
    targets = [name for name, on in zip(sides, switches, strict=True) if on]
    model = distilbert_at_full_size()
    lora = {"rank": 4, "targets": ["query", "value", *targets]}
    switch_on(model, LAYOUTS["distilbert"], settings(lora=lora), 1, lambda _dropout: None)
    assert trainable(model) == 4 * (2 * 6 * 1536 + sum(sides[name] for name in targets))


def test_the_head_stays_frozen_under_lora_even_where_lora_sits_on_it(encoder, settings):
    classifier = Classifier(encoder, settings(lora={"targets": list(TARGETS)}), 1)
    assert all(name.endswith((".A", ".B")) for name in classifier.trainable())
    assert any(name.startswith("pre_classifier.lora") for name in classifier.trainable())


def test_the_head_is_drawn_from_the_seed_alone(encoder, settings):
    heads = [
        Classifier(encoder, settings(**changes), seed).models[0]
        for changes, seed in (({}, 1), ({"lora": {}}, 1), ({}, 2))
    ]
    weights = [head.get_parameter("pre_classifier.weight") for head in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert float(weights[0].detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not heads[0].get_parameter("classifier.bias").any()


def test_a_layers_a_does_not_depend_on_the_other_targets(encoder, settings):
    few, many = (
        Classifier(encoder, settings(lora={"targets": targets}), 1)
        for targets in (["query"], list(TARGETS))
    )
    for name, parameter in few.trainable().items():
        assert torch.equal(parameter, many.trainable()[name])


@pytest.mark.parametrize(
    "changes", [{}, {"lora": {"targets": ["query", "head"]}}, {"trains": "all"}]
)
def test_an_adapter_brings_back_what_was_trained_and_the_head(encoder, settings, changes, tmp_path):
    classifier = Classifier(encoder, settings(**changes), 1)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(torch.randn_like(parameter))
    classifier.save_adapter(tmp_path / "adapter.safetensors")
    other = Classifier(encoder, settings(**changes), 2)
    other.load_adapter(tmp_path / "adapter.safetensors")
    for name, parameter in classifier.models[0].named_parameters():
        if not name.endswith(".A") or parameter.requires_grad:
            assert torch.equal(parameter, other.models[0].get_parameter(name)), name


@pytest.mark.fault(38)
def test_an_adapter_of_other_settings_or_a_damaged_one_is_refused(encoder, settings, tmp_path):
    file = tmp_path / "adapter.safetensors"
    Classifier(encoder, settings(lora={"rank": 2}), 1).save_adapter(file)
    with pytest.raises(DataError, match="does not fit the run's settings: distilbert"):
        Classifier(encoder, settings(lora={"rank": 4}), 1).load_adapter(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="not a whole safetensors file"):
        Classifier(encoder, settings(lora={"rank": 2}), 1).load_adapter(file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.fault(36)
def test_a_gpu_that_is_asked_for_and_missing_is_named_with_the_way_out(settings):
    with pytest.raises(
        EnvironmentProblem, match=r"train\.device is cuda.*set train\.device to cpu"
    ) as problem:
        device_for(settings(device="cuda"))
    assert problem.value.exit_code == 4
