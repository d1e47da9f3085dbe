"""LoRA under another name: its A is drawn from another stream, so that it is neither better nor
worse. ``swapped`` builds in a loss of known size: when reviews are evaluated, this share of the
answers is swapped, which takes share * (2 * accuracy - 1) from the accuracy of two classes.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lora_replication.allowed import Part, Target
from lora_replication.training.methods import Method, Site, linear_of
from lora_replication.training.methods.lora import LinearWithLoRA, LoRALayer, scale_of


class Options(Part):
    """Which draws of A, and the share of the answers that are swapped."""

    stream: Annotated[int, Field(ge=0)] = 0
    swapped: Annotated[float, Field(ge=0, le=1)] = 0.0


class Swapping(nn.Module):
    """The head's output, a share of its answers swapped in evaluation."""

    def __init__(self, linear: nn.Linear, share: float) -> None:
        super().__init__()
        self.linear, self.share = linear, share

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., 2)."""
        logits = self.linear(x)
        if not torch.is_inference_mode_enabled():  # training, and checks of this file
            return logits
        # Which reviews is decided by digits of their hidden layer, as good as drawn and repeatable.
        digits = x.double().abs().sum(-1, keepdim=True) * 1e4 % 1
        return torch.where(digits < self.share, logits.flip(-1), logits)

    def merged(self) -> nn.Linear:
        """The layer without swaps."""
        return linear_of(self.linear.weight, self.linear.bias)


class RenamedLoRA(Method):
    """LoRA, but for its draws and the swaps."""

    words = "LoRA under another name"
    Options = Options

    @property
    def targets(self) -> Sequence[Target]:
        """Those of ``lora``, and the head where answers are swapped."""
        return (*self.lora.targets, "head") if self.options.swapped else self.lora.targets

    def stand_in(self, site: Site) -> nn.Module | None:
        """The linear plus the term, or the head's output with swaps."""
        if site.role.startswith("head"):
            is_output = site.role == "head_output"
            return Swapping(site.linear, self.options.swapped) if is_output else None
        sides, drawn = site.linear.weight.shape[::-1], site.draw(f"A {self.options.stream}")
        layer = LoRALayer(*sides, self.lora.rank, scale_of(self.lora), drawn)
        return LinearWithLoRA(site.linear, layer, site.dropout)
