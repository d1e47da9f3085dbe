"""LoRA from scratch, as the article defines it: y = linear(x) + s * (x @ A @ B).

A, of shape (in, rank), is drawn from a normal distribution with standard deviation 1 / sqrt(rank);
B, of shape (rank, out), starts at zero, so a new layer changes nothing. The article multiplies by
s = alpha; Hu et al. (2021), section 4.1, by s = alpha / rank; rsLoRA, Kalajdzievski (2023), by
s = alpha / sqrt(rank). LoRA+, Hayou et al. (2024), trains B at a higher rate than A.
"""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lora_replication.allowed import Part
from lora_replication.study import LoraParams
from lora_replication.training.methods import LowRank, Method, Site


class LoRALayer(nn.Module):
    """The factors of the low-rank term s * (x @ A @ B), from (..., in) to (..., out).

    Args:
        in_features, out_features: of the linear that it is added to.
        rank: columns of A; one above the linear's smaller side adds parameters but no expressive
            power.
        scale: s.
        generator: draws A.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        scale: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(in_features, rank, generator=generator) / math.sqrt(rank))
        self.B = nn.Parameter(torch.zeros(rank, out_features))
        self.scale = scale


class LinearWithLoRA(LowRank):
    """A linear layer plus a low-rank term."""

    def __init__(
        self,
        linear: nn.Linear,
        lora: LoRALayer,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__(linear, dropout)
        self.lora = lora

    def low_rank(self) -> tuple[Tensor, Tensor]:
        """A and s * B."""
        return self.lora.A, self.lora.scale * self.lora.B  # B is the smallest factor to scale


LoraplusRatio = Annotated[float, Field(ge=1, le=1e4, description="a number from 1 to 10000")]


class LoraOptions(Part):
    """What LoRA has beyond ``lora``: the rate of B as a multiple of that of A."""

    loraplus_ratio: LoraplusRatio = 1.0


class LoRA(Method):
    """LoRA, rsLoRA by its scaling, LoRA+ by its option."""

    words = "LoRA"
    Options = LoraOptions
    packs = True

    def stand_in(self, site: Site) -> nn.Module:
        """The linear plus the term."""
        return LinearWithLoRA(site.linear, lora_layer(self.lora, site), site.dropout)

    def rate_factor(self, parameter: str) -> float:
        """LoRA+'s for B."""
        return float(self.options.loraplus_ratio) if parameter.endswith(".lora.B") else 1.0


def lora_layer(lora: LoraParams, site: Site) -> LoRALayer:
    """A new term for ``site``."""
    sides = (site.linear.in_features, site.linear.out_features)
    return LoRALayer(*sides, lora.rank, scale_of(lora), site.draw("A"))


def scale_of(lora: LoraParams) -> float:
    """s, by the scaling: alpha, alpha / rank, or alpha / sqrt(rank)."""
    divisor = {"article": 1, "paper": lora.rank, "rslora": math.sqrt(lora.rank)}
    return lora.alpha / divisor[lora.scaling]
