"""VeRA, Kopiczko et al. (2024): y = linear(x) + s * b * (d * (x @ A) @ B), where A and B are random
and frozen, one pair for the whole model, and the vectors d and b train.

As in PEFT layers of other sizes take the first rows of A and columns of B, d starts at 0.1, b at
zero, and A and B are uniform after He et al. (2015). PEFT has no s: there it is 1, as alpha is
here.
"""

import math
from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lora_replication.allowed import Part
from lora_replication.training.methods import LowRank, Method, Site
from lora_replication.training.methods.lora import scale_of
from lora_replication.training.randomness import generator


class LinearWithVeRA(LowRank):
    """A linear layer plus a low-rank term of frozen factors; A and B are drawn again by name."""

    def __init__(
        self,
        linear: nn.Linear,
        factors: tuple[Tensor, Tensor],
        scale: float,
        start: float,
        dropout: Callable[[Tensor], Tensor] | None,
    ) -> None:
        super().__init__(linear, dropout)
        self.A, self.B = (nn.Buffer(tensor, persistent=False) for tensor in factors)
        self.d = nn.Parameter(torch.full((self.A.shape[1],), start))
        self.b = nn.Parameter(torch.zeros(linear.out_features))
        self.scale = scale

    def low_rank(self) -> tuple[Tensor, Tensor]:
        """A, and B with the vectors in it."""
        return self.A, self.scale * self.d[:, None] * self.B * self.b


class VeraOptions(Part):
    """What VeRA has beyond ``lora``."""

    d_start: Annotated[float, Field(gt=0, le=1, description="a number above 0, at most 1")] = 0.1


class VeRA(Method):
    """VeRA."""

    Options = VeraOptions
    words = "VeRA"
    packs = True

    def stand_in(self, site: Site) -> nn.Module:
        """The linear with its two vectors, and its share of A and B."""
        lora, linears = self.lora, site.linears.values()
        widest = max(linear.in_features for linear in linears)
        A = _uniform(site.linear.in_features, lora.rank, widest, generator(site.seed, "vera", "A"))
        B = _uniform(
            site.linear.out_features, lora.rank, lora.rank, generator(site.seed, "vera", "B")
        )
        scale, start = scale_of(lora), self.options.d_start
        return LinearWithVeRA(site.linear, (A, B.T.contiguous()), scale, start, site.dropout)


def _uniform(rows: int, columns: int, fan_in: int, draw: torch.Generator) -> Tensor:
    """(rows, columns), the first rows of any longer one: torch draws uniform numbers one by one."""
    bound = math.sqrt(6 / fan_in)
    return (2 * torch.rand(rows, columns, generator=draw) - 1) * bound
