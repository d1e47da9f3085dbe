from itertools import product

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lora_replication.allowed import TARGETS
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.training.classifier import Classifier, device_for, make_trainable
from lora_replication.training.layouts import LAYOUTS
from tests.training_runs import encoder_of


def trainable_at_full_size(settings) -> int:
    """Of DistilBERT; only shapes: nothing is stored."""
    with torch.device("meta"):
        model = transformers.DistilBertForSequenceClassification(transformers.DistilBertConfig())
    make_trainable(model, LAYOUTS["distilbert"], settings, 1, lambda _dropout: None)
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
    assert trainable_at_full_size(settings(**changes)) == count


@pytest.mark.parametrize("switches", list(product([False, True], repeat=4)))
@pytest.mark.goal("property", "parameter counts")
def test_every_choice_of_targets_has_the_parameters_of_the_formula(switches, settings):
    """rank * (in + out) for each linear: 768 to 768 in attention, 768 to 3072 and back in the MLP,
    768 to 768 and 768 to 2 in the head.
    """
    sides = {"key": 6 * 1536, "projection": 6 * 1536, "mlp": 6 * 2 * 3840, "head": 1536 + 770}
    targets = [name for name, on in zip(sides, switches, strict=True) if on]
    lora = {"rank": 4, "targets": ["query", "value", *targets]}
    expected = 4 * (2 * 6 * 1536 + sum(sides[name] for name in targets))
    assert trainable_at_full_size(settings(lora=lora)) == expected


def test_the_head_is_drawn_from_the_seed_alone(settings):
    heads = [
        Classifier(encoder_of(), settings(**changes), seed).models[0]
        for changes, seed in (({}, 1), ({"lora": {}}, 1), ({}, 2))
    ]
    weights = [head.get_parameter("pre_classifier.weight") for head in heads]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert float(weights[0].detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not heads[0].get_parameter("classifier.bias").any()


def test_the_head_stays_frozen_under_lora_and_a_does_not_depend_on_the_other_targets(settings):
    few, many = (
        Classifier(encoder_of(), settings(lora={"targets": targets}), 1).trainable()
        for targets in (["query"], list(TARGETS))
    )
    assert any(name.startswith("pre_classifier.lora") for name in many)
    assert all(name.endswith((".A", ".B")) for name in many)
    assert few
    assert all(torch.equal(parameter, many[name]) for name, parameter in few.items())


@pytest.mark.parametrize("own", [{}, {"lora": {"targets": ["query", "head"]}}, {"trains": "all"}])
def test_an_adapter_brings_back_what_was_trained_and_the_head(settings, own, tmp_path):
    classifier = Classifier(encoder_of(), settings(**own), 1)
    with torch.no_grad():
        for parameter in classifier.trainable().values():
            parameter.add_(torch.randn_like(parameter))
    classifier.save_adapter(tmp_path / "adapter.safetensors")
    other = Classifier(encoder_of(), settings(**own), 2)
    other.load_adapter(tmp_path / "adapter.safetensors")
    for name, parameter in classifier.models[0].named_parameters():
        assert torch.equal(parameter, other.models[0].get_parameter(name)), name


DAMAGE = {
    "missing": lambda tensors, name: tensors.pop(name),
    r"\(1,\), not": lambda tensors, name: tensors.update({name: torch.zeros(1)}),
    "torch.float16, not": lambda tensors, name: tensors.update({name: tensors[name].half()}),
    "not finite": lambda tensors, name: tensors[name].view(-1)[-1:].fill_(float("nan")),
    "unknown": lambda tensors, name: tensors.update({name: tensors[name], "more": torch.ones(1)}),
}


@pytest.mark.parametrize("problem", DAMAGE)
@pytest.mark.fault(38)
def test_an_adapter_that_does_not_fit_is_refused(settings, tmp_path, problem):
    file = tmp_path / "adapter.safetensors"
    classifier = Classifier(encoder_of(), settings(lora={}), 1)
    classifier.save_adapter(file)
    tensors = load_file(file)
    DAMAGE[problem](tensors, "classifier.weight")
    save_file(tensors, file)
    with pytest.raises(DataError, match=rf"settings: (classifier\.weight|more) \({problem}"):
        classifier.load_adapter(file)
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match="not a whole safetensors file"):
        classifier.load_adapter(file)


def test_only_lora_configurations_with_all_else_equal_make_a_pack(settings):
    for one, other in (
        (settings(trains="head"), settings(lora={})),
        (settings(lora={}), settings(lora={}, epochs=7)),
    ):
        with pytest.raises(ValueError, match="differs in nothing else"):
            Classifier(encoder_of(), one, 1, [other])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.fault(36)
def test_a_gpu_that_is_asked_for_and_missing_is_named_with_the_way_out(settings):
    words = r"train\.device is cuda.*set train\.device to cpu"
    with pytest.raises(EnvironmentProblem, match=words) as problem:
        device_for(settings(device="cuda"))
    assert problem.value.exit_code == 4
