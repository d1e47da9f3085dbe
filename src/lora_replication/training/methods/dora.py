"""DoRA, Liu et al. (2024): W' = m * (W + s (A B)^T) / norm, where m, a magnitude for each output,
trains too and starts as the norms of W.

The norm is over the inputs of each output, as PEFT has it, and not differentiated (section 4.3).
The paper's equation can be read the other way too, a magnitude for each input: ``axis: input``.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.allowed import Part
from lora_replication.training.methods import Method, Site, linear_of
from lora_replication.training.methods.lora import LoRALayer, lora_layer


class LinearWithDoRA(nn.Module):
    """A frozen linear layer whose weight is moved by a low-rank term and given new magnitudes."""

    def __init__(
        self,
        linear: nn.Linear,
        lora: LoRALayer,
        axis: Literal["output", "input"],
        dropout: Callable[[Tensor], Tensor] | None,
    ) -> None:
        super().__init__()
        self.linear, self.lora, self.axis, self.dropout = linear, lora, axis, dropout
        self.magnitude = nn.Parameter(self._norm(self._moved()))

    def _moved(self) -> Tensor:
        """W + s (A B)^T, (out, in), in full precision."""
        with torch.autocast(self.lora.A.device.type, enabled=False):
            moved: Tensor = self.linear.weight + self.lora.scale * (self.lora.A @ self.lora.B).T
        return moved

    def _norm(self, weight: Tensor) -> Tensor:
        """(out,), or (in,)."""
        norm: Tensor = weight.detach().norm(dim=1 if self.axis == "output" else 0)
        return norm

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out). Dropout is on the input of all but W x, as in PEFT."""
        if self.dropout is None:
            moved, bias = self._move(x), self.linear.bias
            return moved if bias is None else moved + bias.to(moved.dtype)
        dropped = self.dropout(x)
        unmoved: Tensor = self.linear(x) - F.linear(dropped, self.linear.weight)
        return unmoved + self._move(dropped)

    def _move(self, x: Tensor) -> Tensor:
        """W' x."""
        factor, lora = self.magnitude / self._norm(self._moved()), self.lora
        x = x * factor.to(x.dtype) if self.axis == "input" else x
        result: Tensor = F.linear(x, self.linear.weight) + x @ lora.A @ (lora.scale * lora.B)
        return result * factor.to(result.dtype) if self.axis == "output" else result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer of weight W'."""
        moved = self._moved()
        factor = self.magnitude / self._norm(moved)
        weight = moved * (factor[:, None] if self.axis == "output" else factor)
        return linear_of(weight, self.linear.bias)


class DoraOptions(Part):
    """What DoRA has beyond ``lora``."""

    axis: Literal["output", "input"] = "output"


class DoRA(Method):
    """DoRA. It packs with nothing: its form is no sum of the frozen layer and a low-rank term."""

    words = "DoRA"
    Options = DoraOptions

    def stand_in(self, site: Site) -> nn.Module:
        """The linear with LoRA's term and magnitudes."""
        lora = lora_layer(self.lora, site).to(site.linear.weight.device)
        return LinearWithDoRA(site.linear, lora, self.options.axis, site.dropout)
