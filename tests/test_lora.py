import pytest
import torch
from torch import nn

from lora_replication.study import LoraParams
from lora_replication.training.lora import (
    LinearWithLoRA,
    LoRALayer,
    inject_lora,
    merge_lora,
    scale_of,
)


def seeded(_name: str = "") -> torch.Generator:
    return torch.Generator().manual_seed(1)


def no_dropout(_name):
    raise AssertionError("no dropout was asked for")


def params(**changes) -> LoraParams:
    return LoraParams(**{"rank": 2, "alpha": 16, "targets": ("query",)} | changes)


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))


def test_the_layer_by_hand():
    layer = LoRALayer(2, 2, 1, 3.0, seeded())
    with torch.no_grad():
        layer.A.copy_(torch.tensor([[1.0], [2.0]]))
        layer.B.copy_(torch.tensor([[5.0, -1.0]]))
    # x @ A = 1 + 2 * 10 = 21; times B is (105, -21); times 3 is (315, -63).
    assert layer(torch.tensor([[1.0, 10.0]])).tolist() == [[315.0, -63.0]]


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
def test_injection_changes_no_output_at_the_start():
    model, x = small_model(), torch.randn(4, 6)
    before = model(x)
    assert inject_lora(model, ["0", "2"], params(), seeded, no_dropout) == []
    assert torch.equal(model(x), before)


def test_article_scaling_is_alpha_and_paper_scaling_alpha_over_rank():
    assert scale_of(params(rank=8)) == 16
    assert scale_of(params(rank=8, scaling="paper")) == 2


@pytest.mark.parametrize("scaling", ["article", "paper"])
@pytest.mark.goal("property", "merged LoRA")
def test_merged_equals_unmerged_and_merging_again_changes_nothing(scaling):
    model, x = small_model(), torch.randn(7, 6)
    inject_lora(model, ["0", "2"], params(rank=3, alpha=4, scaling=scaling), seeded, no_dropout)
    for layer in (model[0].lora, model[2].lora):
        nn.init.normal_(layer.B, generator=seeded())
    before, linear, lora = model(x), model[0].linear, model[0].lora
    scale = 4 if scaling == "article" else 4 / 3
    expected = linear.weight + scale * (lora.A @ lora.B).T
    merge_lora(model)
    assert [type(module) for module in model] == [nn.Linear, nn.Tanh, nn.Linear]
    assert torch.allclose(model[0].weight, expected)
    assert torch.equal(model[0].bias, linear.bias)
    assert torch.allclose(model(x), before, atol=1e-5)
    weights = [parameter.clone() for parameter in model.parameters()]
    merge_lora(model)
    assert all(torch.equal(*pair) for pair in zip(weights, model.parameters(), strict=True))


def test_a_rank_above_the_smaller_side_is_noted_and_only_linears_take_lora():
    notes = inject_lora(small_model(), ["0", "2"], params(rank=4), seeded, no_dropout)
    assert notes == ["rank 4 exceeds the smaller side of 2 (3)"]
    with pytest.raises(TypeError, match="1 is a Tanh"):
        inject_lora(small_model(), ["1"], params(), seeded, no_dropout)


def test_dropout_acts_on_the_input_of_the_low_rank_term_alone():
    model, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(3, 4)
    inject_lora(model, ["0"], params(dropout=0.5), seeded, lambda _name: torch.zeros_like)
    nn.init.normal_(model[0].lora.B)
    assert isinstance(model[0], LinearWithLoRA)
    assert torch.equal(model(x), model[0].linear(x))
