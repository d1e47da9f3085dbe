"""LoRA from scratch, as the article defines it: y = linear(x) + s * (x @ A @ B).

A, of shape (in, rank), is drawn from a normal distribution with standard deviation 1 / sqrt(rank);
B, of shape (rank, out), starts at zero, so a new layer changes nothing. The article multiplies by
s = alpha; Hu et al. (2021), section 4.1, by s = alpha / rank.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lora_replication.study import LoraParams


class LoRALayer(nn.Module):
    """The low-rank term s * (dropout(x) @ A @ B), from (..., in) to (..., out).

    Args:
        in_features, out_features: of the linear that it is added to.
        rank: columns of A; one above the linear's smaller side adds parameters but no expressive
            power.
        scale: s.
        generator: draws A.
        dropout: applied to x, or None.
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
        x = self.dropout(x) if self.dropout else x
        term: Tensor = x @ self.A @ (self.scale * self.B)  # B is the smallest factor to scale
        return term


class LinearWithLoRA(nn.Module):
    """A linear layer plus a low-rank term."""

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
        """One linear layer, of weight W + s * (A B)^T, that computes the same without dropout."""
        old, lora = self.linear, self.lora
        linear = nn.Linear(old.in_features, old.out_features, old.bias is not None).to(lora.A)
        linear.weight.copy_(old.weight + lora.scale * (lora.A @ lora.B).T)
        if old.bias is not None:
            linear.bias.copy_(old.bias)
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
    """Add a low-rank term to each linear layer of ``model`` in ``names``, in place.

    ``generator_of`` and ``dropout_of`` return the generator of A, and the dropout, of a layer.

    Returns:
        Notes on layers whose smaller side is below the rank.
    """
    notes = []
    for name in names:
        linear = model.get_submodule(name)
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{name} is a {type(linear).__name__}; LoRA is added to linear layers")
        sides = (linear.in_features, linear.out_features)
        if lora.rank > min(sides):
            notes.append(f"rank {lora.rank} exceeds the smaller side of {name} ({min(sides)})")
        dropout = dropout_of(name) if lora.dropout else None
        layer = LoRALayer(*sides, lora.rank, scale_of(lora), generator_of(name), dropout)
        _replace(model, name, LinearWithLoRA(linear, layer.to(linear.weight.device)))
    return notes


def merge_lora(model: nn.Module) -> None:
    """The inverse of ``inject_lora``: each layer with a low-rank term becomes a plain one."""
    for name, module in list(model.named_modules()):
        if isinstance(module, LinearWithLoRA):
            _replace(model, name, module.merged())


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
