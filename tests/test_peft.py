"""Every method against Hugging Face PEFT's on the same weights, in logits, gradients and count of
trainable parameters. The article's alpha is PEFT's over the rank; A and B are transposed.
"""

import numpy as np
import peft
import pytest
import torch
import torch.nn.functional as F
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor, nn

from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier
from lora_replication.training.loop import new_state
from lora_replication.training.methods import merge
from lora_replication.training.methods.vera import LinearWithVeRA
from tests.training_runs import CPU, KINDS, encoder_of, random_tokens, their_classifier

RANK, ALPHA, LENGTH, REVIEWS = 3, 4, 20, 6
LORA = {"rank": RANK, "alpha": ALPHA, "targets": ("query", "value", "mlp")}
PLUS = {"lora": LORA, "options": {"loraplus_ratio": 16.0}}


def lora_config(alpha=ALPHA * RANK, **options):
    return lambda names: peft.LoraConfig(r=RANK, lora_alpha=alpha, target_modules=names, **options)


METHODS = {
    "lora": ({"lora": LORA}, lora_config()),
    "lora of the paper": ({"lora": LORA | {"scaling": "paper"}}, lora_config(ALPHA)),
    "rslora": ({"lora": LORA | {"scaling": "rslora"}}, lora_config(ALPHA, use_rslora=True)),
    "lora+": (PLUS, lora_config()),
    "dora": ({"trains": "dora", "lora": LORA}, lora_config(use_dora=True)),
    "pissa": ({"trains": "pissa", "lora": LORA}, lora_config(init_lora_weights="pissa")),
    "vera": (
        {"trains": "vera", "lora": LORA | {"alpha": 1}},
        lambda names: peft.VeraConfig(r=RANK, target_modules=names),
    ),
    "ia3": (
        {"trains": "ia3"},
        lambda names: peft.IA3Config(
            target_modules=[
                name for name in names if "lin1" not in name and ".intermed" not in name
            ],
            feedforward_modules=[n for n in names if n.endswith(("lin2", "output.dense"))],
        ),
    ),
    "bitfit": ({"trains": "bitfit"}, None),
}


def ours(kind, name, settings, **more) -> Classifier:
    """Moved away from its start, where B = 0 would hide the gradient of A."""
    classifier = Classifier(encoder_of(kind), settings(**METHODS[name][0] | more), 1)
    for number, parameter in enumerate(classifier.trainable().values()):
        drawn = torch.Generator().manual_seed(number)
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=drawn))
    return classifier


def theirs(own: Classifier, name: str, train_head: bool) -> tuple[nn.Module, dict[str, str]]:
    """PEFT's model with the weights of ``own``, and its parameters by the names of ours."""
    layout, state = own.layout, own.models[0].state_dict()
    base = their_classifier(encoder_of(layout.base))
    with torch.no_grad():
        for part in layout.head:
            nn.init.normal_(base.get_parameter(f"{part}.weight"))
    config = METHODS[name][1]
    if config is None:
        base.load_state_dict(state)
        for parameter, tensor in base.named_parameters():
            head = train_head and parameter.startswith(layout.head)
            tensor.requires_grad_(parameter.endswith(".bias") or head)
        return base, {parameter: parameter for parameter in own.trainable()}
    targets = ("key", "value", "mlp") if name == "ia3" else LORA["targets"]
    names = [site for target in targets for site in layout.linears(target, 2)]
    made = config(names)
    made.modules_to_save = list(layout.head) if train_head else None
    model = peft.get_peft_model(base, made)
    start = "base_model.model."
    found = {}
    for parameter in own.trainable():
        part, _, leaf = parameter.rpartition(".")
        if parameter.startswith(layout.head):
            found[parameter] = f"{start}{part}.modules_to_save.default.{leaf}"
        elif part.endswith(".lora"):
            found[parameter] = f"{start}{part[:-5]}.lora_{leaf}.default.weight"
        else:
            known = {
                "magnitude": "lora_magnitude_vector.default.weight", "vector": "ia3_l.default",
                "d": "vera_lambda_d.default", "b": "vera_lambda_b.default",
            }  # fmt: skip
            found[parameter] = f"{start}{part}.{known[leaf]}"
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for mine, other in found.items():
            parameters[other].copy_(as_theirs(mine, state[mine]).view_as(parameters[other]))
        for part in layout.head:
            for leaf in ("weight", "bias"):
                middle = ".modules_to_save.default" if train_head else ""
                parameters[f"{start}{part}{middle}.{leaf}"].copy_(state[f"{part}.{leaf}"])
        if name == "vera":
            layers = [m for m in own.models[0].modules() if isinstance(m, LinearWithVeRA)]
            A, B = max((m.A for m in layers), key=len), max((m.B.T for m in layers), key=len)
            model.base_model.vera_A["default"].copy_(A.T)
            model.base_model.vera_B["default"].copy_(B)
    return model, found


def as_theirs(name: str, tensor: Tensor) -> Tensor:
    return tensor.T if name.endswith((".lora.A", ".lora.B")) else tensor


@pytest.mark.parametrize("train_head", [False, True])
@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_logits_gradients_and_counts_equal_those_of_peft(kind, name, train_head, settings):
    own = ours(kind, name, settings, train_head=train_head)
    model, pairs = theirs(own, name, train_head)
    assert len(pairs) == sum(p.requires_grad for p in model.parameters())
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert own.parameter_counts()[0] == count
    batch = collate(random_tokens([LENGTH] * REVIEWS), np.arange(REVIEWS), CPU)
    own_logits = own.logits(batch)[0]
    model.eval()
    ids = batch.ids.view(REVIEWS, LENGTH)
    their_logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    assert torch.allclose(own_logits, their_logits, atol=1e-5)
    F.cross_entropy(own_logits, batch.labels).backward()
    F.cross_entropy(their_logits, batch.labels).backward()
    parameters = dict(model.named_parameters())
    for mine, parameter in own.trainable().items():
        other = parameters[pairs[mine]].grad
        assert parameter.grad is not None
        expected = as_theirs(mine, parameter.grad).reshape(other.shape)
        assert torch.allclose(expected, other, atol=1e-5), mine


@pytest.mark.parametrize("name", METHODS)
def test_in_bf16_logits_equal_those_of_peft_within_rounding(name, settings):
    own = ours("distilbert", name, settings, precision="bf16-mixed")
    exact = ours("distilbert", name, settings)
    model, _ = theirs(exact, name, train_head=False)
    batch = collate(random_tokens([LENGTH] * REVIEWS), np.arange(REVIEWS), CPU)
    ids = batch.ids.view(REVIEWS, LENGTH)
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rounded = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.float()
    with torch.no_grad():
        logits, reference = own.logits(batch)[0], exact.logits(batch)[0]
        merge(own.models[0])
        merged = own.logits(batch)[0]
    allowed = 4 * float((rounded - reference).abs().max()) + 1e-3
    for found in (logits, merged):
        assert 0 < float((found - reference).abs().max()) < allowed


@pytest.mark.parametrize("name", METHODS)
def test_merged_equals_unmerged(name, settings):
    own = ours("bert", name, settings)
    batch = collate(random_tokens([LENGTH] * REVIEWS), np.arange(REVIEWS), CPU)
    with torch.no_grad():
        before = own.logits(batch)
        merge(own.models[0])
        assert not any(hasattr(module, "merged") for module in own.models[0].modules())
        assert torch.allclose(own.logits(batch), before, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_an_adapter_brings_back_a_method(name, settings, tmp_path):
    own = ours("distilbert", name, settings, train_head=True)
    own.save_adapter(tmp_path / "adapter.safetensors")
    again = Classifier(encoder_of(), own.settings, 1)
    again.load_adapter(tmp_path / "adapter.safetensors")
    batch = collate(random_tokens([LENGTH] * REVIEWS), np.arange(REVIEWS), CPU)
    assert torch.equal(own.logits(batch), again.logits(batch))


@pytest.mark.parametrize("name", [name for name in METHODS if name != "bitfit"])
def test_the_start_is_the_encoders(name, settings):
    own = Classifier(encoder_of(), settings(**METHODS[name][0]), 1)
    plain = Classifier(encoder_of(), settings(), 1)
    batch = collate(random_tokens([LENGTH] * REVIEWS), np.arange(REVIEWS), CPU)
    assert torch.allclose(own.logits(batch), plain.logits(batch), atol=1e-5)
    assert own.notes == [[]]


def test_rates_are_those_of_lora_plus(settings):
    own = ours("distilbert", "lora+", settings)
    model, pairs = theirs(own, "lora+", train_head=False)
    expected = create_loraplus_optimizer(
        model, torch.optim.Adam, lr=own.settings.learning_rate, loraplus_lr_ratio=16.0
    )
    parameters = {id(p): name for name, p in model.named_parameters()}
    rates = {
        parameters[id(p)]: group["lr"] for group in expected.param_groups for p in group["params"]
    }
    groups = new_state(own, 0).optimizer.param_groups
    own_rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(groups) == 2
    for name, parameter in own.trainable().items():
        assert own_rates[id(parameter)] == pytest.approx(rates[pairs[name]])


def test_doras_other_axis_is_another_method_and_equals_its_equation(settings):
    outputs = {}
    for axis in ("output", "input"):
        own = ours("distilbert", "dora", settings, options={"axis": axis})
        layer = own.models[0].get_submodule("distilbert.transformer.layer.0.attention.q_lin")
        lora, x = layer.lora, torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
        moved = layer.linear.weight + lora.scale * (lora.A @ lora.B).T
        dim = 1 if axis == "output" else 0
        weight = layer.magnitude.unsqueeze(dim) * moved / moved.norm(dim=dim, keepdim=True)
        outputs[axis] = layer(x)
        assert torch.allclose(outputs[axis], F.linear(x, weight, layer.linear.bias), atol=1e-5)
    assert not torch.allclose(outputs["output"], outputs["input"], atol=1e-2)


def test_dropout_of_dora_is_on_the_input_of_all_but_the_frozen_product(settings):
    own = ours("distilbert", "dora", settings, lora=LORA | {"dropout": 0.5})
    layer = own.models[0].get_submodule("distilbert.transformer.layer.0.attention.q_lin")
    x = torch.randn(4, 32)
    layer.dropout = torch.zeros_like
    assert torch.allclose(layer(x), layer.linear(x), atol=1e-6)
    layer.dropout = None
    whole = layer(x)
    layer.dropout = torch.clone
    assert torch.allclose(layer(x), whole, atol=1e-5)
