"""LoRA from scratch, as the article defines it: y = linear(x) + s * (x @ A @ B).

A, of shape (in, rank), starts normal with standard deviation 1 / sqrt(rank); B, of shape (rank,
out), starts at zero, so a new layer changes nothing. The article multiplies by s = alpha; Hu et al.
(2021), section 4.1, by s = alpha / rank.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from lora_replication.study import LoraParams


class LoRALayer(nn.Module):
    """The low-rank term s * (dropout(x) @ A @ B).

    Args:
        in_features, out_features: of the linear beside it.
        rank: columns of A; may exceed the linear's smaller side, which then adds parameters but no
            expressive power.
        scale: s.
        generator: draws A.
        dropout: applied to x, or null.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        scale: float,
        generator: torch.Generator,
        dropout: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.randn(in_features, rank, generator=generator) / math.sqrt(rank))
        self.B = nn.Parameter(torch.zeros(rank, out_features))
        self.scale = scale
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        low_rank: Tensor = (
            (self.dropout(x) if self.dropout else x) @ self.A @ (self.scale * self.B)
        )  # scaling B costs least
        return low_rank


class LinearWithLoRA(nn.Module):
    """A linear and the low-rank term beside it."""

    def __init__(self, linear: nn.Linear, lora: LoRALayer) -> None:
        super().__init__()
        self.linear = linear
        self.lora = lora

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        result: Tensor = self.linear(x) + self.lora(x)
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear with the weight W + s * (A B)^T that computes the same, dropout aside."""
        linear = nn.Linear(
            self.linear.in_features, self.linear.out_features, self.linear.bias is not None
        )
        linear = linear.to(self.lora.A)
        linear.weight.copy_(self.linear.weight + self.lora.scale * (self.lora.A @ self.lora.B).T)
        if self.linear.bias is not None:
            linear.bias.copy_(self.linear.bias)
        return linear


def scale_of(lora: LoraParams) -> float:
    """s: alpha under the article's scaling, alpha / rank under the paper's."""
    return lora.alpha if lora.scaling == "article" else lora.alpha / lora.rank


def inject_lora(
    model: nn.Module,
    names: Sequence[str],
    lora: LoraParams,
    generator_of: Callable[[str], torch.Generator],
    dropout_of: Callable[[str], Callable[[Tensor], Tensor]],
) -> list[str]:
    """Put a low-rank term beside each linear of ``model`` in ``names``, in place.

    Args:
        generator_of, dropout_of: give the generator of A, and the dropout, of the linear with this
            name.

    Returns:
        Notes on linears whose smaller side is below the rank.
    """
    notes = []
    for name in names:
        linear = model.get_submodule(name)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name} is a {type(linear).__name__}; LoRA sits beside a linear")
        smaller = min(linear.in_features, linear.out_features)
        if lora.rank > smaller:
            notes.append(f"rank {lora.rank} exceeds the smaller side of {name} ({smaller})")
        dropout = dropout_of(name) if lora.dropout else None
        layer = LoRALayer(
            linear.in_features,
            linear.out_features,
            lora.rank,
            scale_of(lora),
            generator_of(name),
            dropout,
        )
        _replace(model, name, LinearWithLoRA(linear, layer.to(linear.weight.device)))
    return notes


def merge_lora(model: nn.Module) -> None:
    """The inverse of ``inject_lora``: every linear with a low-rank term becomes one plain linear,
    in place.
    """
    for name, module in list(_with_lora(model)):
        _replace(model, name, module.merged())


def lora_parameters(in_features: int, out_features: int, rank: int) -> int:
    """How many scalars a low-rank term has: rank * (in + out)."""
    return rank * (in_features + out_features)


def _with_lora(model: nn.Module) -> Iterator[tuple[str, LinearWithLoRA]]:
    return (
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, LinearWithLoRA)
    )


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
