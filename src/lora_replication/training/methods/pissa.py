"""PiSSA, Meng et al. (2024): LoRA whose A and B start as the principal singular vectors of W, times
the roots of their singular values, while what they hold is taken out of the frozen weight.

Here W stays as it is, shared in a pack, and -A0 B0, the start with its sign changed, is added:
y = linear(x) + x @ (s A B - s A0 B0). A0 and B0 are saved, as another machine may find other
vectors where singular values are close.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lora_replication.training.methods import LowRank, Method, Site
from lora_replication.training.methods.lora import LoRALayer, lora_layer


class LinearWithPiSSA(LowRank):
    """A linear layer plus the change of its principal part."""

    def __init__(
        self, linear: nn.Linear, lora: LoRALayer, dropout: Callable[[Tensor], Tensor] | None
    ) -> None:
        super().__init__(linear, dropout)
        self.lora, rank = lora, lora.A.shape[1]
        left, values, right = torch.linalg.svd(
            linear.weight.detach().float().cpu(), full_matrices=False
        )
        roots = (values[:rank] / lora.scale).sqrt()
        lora.A = nn.Parameter((roots[:, None] * right[:rank]).T.contiguous())
        lora.B = nn.Parameter((left[:, :rank] * roots).T.contiguous())
        self.A0, self.B0 = nn.Buffer(lora.A.detach().clone()), nn.Buffer(lora.B.detach().clone())

    def low_rank(self) -> tuple[Tensor, Tensor]:
        """A next to A0, and s * B above -s * B0."""
        B = self.lora.scale * torch.cat([self.lora.B, -self.B0])
        return torch.cat([self.lora.A, self.A0], 1), B


class PiSSA(Method):
    """PiSSA."""

    words = "PiSSA"
    packs = True

    def stand_in(self, site: Site) -> nn.Module:
        """The linear with LoRA's term, otherwise begun."""
        return LinearWithPiSSA(site.linear, lora_layer(self.lora, site), site.dropout)
