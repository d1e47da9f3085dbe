import pytest
import torch
from torch import nn

from lora_replication.study import LoraParams
from lora_replication.training.lora import (
    LinearWithLoRA,
    LoRALayer,
    inject_lora,
    lora_parameters,
    merge_lora,
    scale_of,
)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def no_dropout(_name):
    raise AssertionError("no dropout was asked for")


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3, bias=False))


def injected(lora: LoraParams) -> nn.Sequential:
    model = small_model()
    inject_lora(model, ["0", "2"], lora, lambda _name: seeded(), no_dropout)
    for module in model.modules():
        if isinstance(module, LoRALayer):
            nn.init.normal_(module.B, generator=seeded())
    return model


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


@pytest.mark.goal("property", "B = 0")
def test_injection_changes_no_output_at_the_start():
    model, x = small_model(), torch.randn(4, 6)
    before = model(x)
    inject_lora(
        model,
        ["0", "2"],
        LoraParams(rank=2, alpha=16, targets=("query",)),
        lambda _name: seeded(),
        no_dropout,
    )
    assert torch.equal(model(x), before)


def test_article_scaling_is_alpha_and_paper_scaling_alpha_over_rank():
    assert scale_of(LoraParams(rank=8, alpha=16, targets=("query",))) == 16
    assert scale_of(LoraParams(rank=8, alpha=16, targets=("query",), scaling="paper")) == 2


@pytest.mark.parametrize("scaling", ["article", "paper"])
@pytest.mark.goal("property", "merged LoRA")
def test_merged_equals_unmerged_and_merging_again_changes_nothing(scaling):
    model, x = (
        injected(LoraParams(rank=3, alpha=4, targets=("query",), scaling=scaling)),
        torch.randn(7, 6),
    )
    before = model(x)
    merge_lora(model)
    assert [type(module) for module in model] == [nn.Linear, nn.Tanh, nn.Linear]
    assert torch.allclose(model(x), before, atol=1e-5)
    weights = [parameter.clone() for parameter in model.parameters()]
    merge_lora(model)
    assert all(
        torch.equal(one, other) for one, other in zip(weights, model.parameters(), strict=True)
    )


def test_merging_adds_alpha_times_a_b():
    linear, lora = nn.Linear(3, 2), LoRALayer(3, 2, 2, 5.0, seeded())
    nn.init.normal_(lora.B, generator=seeded())
    merged = LinearWithLoRA(linear, lora).merged()
    assert torch.allclose(merged.weight, linear.weight + 5.0 * (lora.A @ lora.B).T)
    assert torch.equal(merged.bias, linear.bias)


def test_a_5000_by_10000_weight_at_rank_8_takes_120000_parameters():
    assert lora_parameters(5000, 10_000, 8) == 120_000
    assert sum(
        p.numel() for p in LoRALayer(50, 100, 8, 1.0, seeded()).parameters()
    ) == lora_parameters(50, 100, 8)


def test_a_rank_above_the_smaller_side_is_noted():
    lora = LoraParams(rank=4, alpha=1, targets=("query",))
    notes = inject_lora(small_model(), ["0", "2"], lora, lambda _name: seeded(), no_dropout)
    assert notes == ["rank 4 exceeds the smaller side of 2 (3)"]


def test_dropout_acts_on_the_input_of_the_low_rank_term_alone():
    model = nn.Sequential(nn.Linear(4, 4))
    lora = LoraParams(rank=2, alpha=1, targets=("query",), dropout=0.5)
    inject_lora(model, ["0"], lora, lambda _name: seeded(), lambda _name: torch.zeros_like)
    nn.init.normal_(model[0].lora.B)
    x = torch.randn(3, 4)
    assert torch.equal(model(x), model[0].linear(x))


def test_only_linears_take_lora():
    with pytest.raises(TypeError, match="1 is a Tanh"):
        inject_lora(
            small_model(),
            ["1"],
            LoraParams(rank=1, alpha=1, targets=("query",)),
            lambda _name: seeded(),
            no_dropout,
        )
