"""IA3, Liu et al. (2022), section 3.3: learned vectors, ones at the start, multiply the keys, the
values and the hidden units of the MLP; as in PEFT the latter as the input of its second layer.
"""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from lora_replication.allowed import Part, Target, Targets
from lora_replication.training.methods import Method, Site, linear_of


class ScaledLinear(nn.Module):
    """vector * linear(x), or linear(vector * x)."""

    def __init__(self, linear: nn.Linear, scales_input: bool) -> None:
        super().__init__()
        self.linear, self.scales_input = linear, scales_input
        size = linear.in_features if scales_input else linear.out_features
        self.vector = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        if self.scales_input:
            x = x * self.vector.to(x.dtype)
        result: Tensor = self.linear(x)
        return result if self.scales_input else result * self.vector.to(result.dtype)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer that computes the same."""
        weight, bias = self.linear.weight, self.linear.bias
        if self.scales_input:
            return linear_of(weight * self.vector, bias)
        return linear_of((weight.T * self.vector).T, None if bias is None else bias * self.vector)


class IA3Options(Part):
    """Which layers have a vector, of ``mlp`` the second one, and which have it on their inputs."""

    targets: Targets = ("key", "value", "mlp")
    inputs: Annotated[tuple[Target, ...], Field(strict=False)] = ("mlp",)


class IA3(Method):
    """IA3."""

    words = "IA3"
    Options = IA3Options

    @property
    def targets(self) -> Sequence[Target]:
        """Its own, as it has no rank and no alpha."""
        return self.options.targets  # type: ignore[no-any-return]

    def stand_in(self, site: Site) -> nn.Module | None:
        """The linear and its vector."""
        if site.role == "mlp_input":
            return None
        target, _, _ = site.role.partition("_")
        return ScaledLinear(site.linear, scales_input=target in self.options.inputs)
