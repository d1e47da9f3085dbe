import pytest
import torch
from torch import nn

from lora_replication.study import LoraParams
from lora_replication.training.methods import Site, merge
from lora_replication.training.methods.lora import (
    LinearWithLoRA,
    LoRA,
    LoRALayer,
    LoraOptions,
    scale_of,
)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def params(**changes) -> LoraParams:
    return LoraParams(**{"rank": 2, "alpha": 16, "targets": ("query",)} | changes)


def adapted(dropout=None, **changes) -> nn.Sequential:
    """Two linear layers with low-rank terms."""
    torch.manual_seed(0)
    linears = {"0": nn.Linear(6, 5), "2": nn.Linear(5, 3, bias=False)}
    method = LoRA(params(**changes), LoraOptions())
    first, second = (
        method.stand_in(Site(linear, name, "query", linears, 1, dropout))
        for name, linear in linears.items()
    )
    return nn.Sequential(first, nn.Tanh(), second)


def test_the_layer_by_hand():
    linear = nn.Linear(2, 2)
    layer = LinearWithLoRA(linear, LoRALayer(2, 2, 1, 3.0, seeded()))
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([0.0, 1.0]))
        layer.lora.A.copy_(torch.tensor([[1.0], [2.0]]))
        layer.lora.B.copy_(torch.tensor([[5.0, -1.0]]))
    # x @ A = 1 + 2 * 10 = 21; times B is (105, -21); times 3 is (315, -63); the bias adds 0 and 1.
    assert layer(torch.tensor([[1.0, 10.0]])).tolist() == [[315.0, -62.0]]


def test_a_starts_normal_with_sd_one_over_root_rank_and_b_at_zero():
    layer = LoRALayer(4000, 30, 16, 1.0, seeded())
    n = layer.A.numel()
    assert layer.A.shape == (4000, 16)
    assert float(layer.A.detach().std()) == pytest.approx(0.25, rel=5 / (2 * n) ** 0.5)
    assert float(layer.A.detach().mean()) == pytest.approx(0, abs=5 * 0.25 / n**0.5)
    assert layer.B.shape == (16, 30)
    assert not layer.B.any()
    wide = LoRALayer(5000, 10_000, 8, 1.0, seeded())
    assert sum(p.numel() for p in wide.parameters()) == 120_000


@pytest.mark.goal("property", "B = 0")
def test_a_new_layer_changes_no_output():
    model, x = adapted(), torch.randn(4, 6)
    plain = nn.Sequential(model[0].linear, nn.Tanh(), model[2].linear)
    assert torch.equal(model(x), plain(x))


def test_article_scaling_is_alpha_papers_alpha_over_rank_and_rsloras_over_its_root():
    assert scale_of(params(rank=4)) == 16
    assert scale_of(params(rank=4, scaling="paper")) == 4
    assert scale_of(params(rank=4, scaling="rslora")) == 8


@pytest.mark.parametrize("scaling", ["article", "paper"])
@pytest.mark.goal("property", "merged LoRA")
def test_merged_equals_unmerged_and_merging_again_changes_nothing(scaling):
    model, x = adapted(rank=3, alpha=4, scaling=scaling), torch.randn(7, 6)
    for layer in (model[0].lora, model[2].lora):
        nn.init.normal_(layer.B, generator=seeded())
    before, linear, lora = model(x), model[0].linear, model[0].lora
    scale = 4 if scaling == "article" else 4 / 3
    expected = linear.weight + scale * (lora.A @ lora.B).T
    merge(model)
    assert [type(module) for module in model] == [nn.Linear, nn.Tanh, nn.Linear]
    assert torch.allclose(model[0].weight, expected, atol=1e-6)
    assert torch.equal(model[0].bias, linear.bias)
    assert torch.allclose(model(x), before, atol=1e-5)
    weights = [parameter.clone() for parameter in model.parameters()]
    merge(model)
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))


def test_dropout_acts_on_the_input_of_the_low_rank_term_alone():
    layer, x = adapted(dropout=torch.zeros_like)[0], torch.randn(3, 6)
    nn.init.normal_(layer.lora.B)
    assert torch.equal(layer(x), layer.linear(x))
