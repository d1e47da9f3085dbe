"""Methods of fine-tuning: what each adds next to a linear layer, and what trains. One file each.

A file here, or one of a user's own, has one subclass of ``Method``; docs/extending.md shows how.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lora_replication.allowed import Part, Target
from lora_replication.study import LoraParams
from lora_replication.training.randomness import generator


@dataclass(frozen=True)
class Site:
    """A linear layer that a method may put a module in the place of.

    Attributes:
        linear: the layer, with the encoder's weights; ``name``: in the classifier.
        role: query, key, value, projection, mlp_input, mlp_output, head_hidden or head_output.
        linears: all layers of the method's targets by name, this one included.
        seed: of the run.
        dropout: for the input of what is added, as ``lora.dropout`` asks; None without.
    """

    linear: nn.Linear
    name: str
    role: str
    linears: Mapping[str, nn.Linear]
    seed: int
    dropout: Callable[[Tensor], Tensor] | None = None

    def draw(self, *purpose: str) -> torch.Generator:
        """The generator for a purpose at this layer: every random number comes from one."""
        return generator(self.seed, *purpose, self.name)


class Method:
    """What is added to a classifier, and what of it trains: nothing, unless a method says so.

    What ``stand_in`` adds trains where its parameters require gradients; its buffers are saved with
    the adapter unless they are not persistent, and are then to be the same for every build.

    Attributes:
        words: its name, or what trains, for tables; rank, alpha, targets, options and a trained
            head follow there. A literal string: reports read it and run nothing.
        Options: the method's own settings, ``options`` in params.yaml, with their defaults.
        packs: whether all that it adds is ``LowRank`` and nothing else trains but the head, so that
            its configurations train together with those of other such methods.
        lora, options: the settings of this one.
        file: of a method outside the package.
    """

    words: ClassVar[str] = ""
    Options: ClassVar[type[Part]] = Part
    packs: ClassVar[bool] = False
    file: ClassVar[Path | None] = None

    def __init__(self, lora: LoraParams | None, options: Part) -> None:
        # A method knows which options are its own, and whether it is asked for with lora.
        self.lora: Any = lora
        self.options: Any = options

    @property
    def targets(self) -> Sequence[Target]:
        """Which linear layers are sites."""
        return self.lora.targets if self.lora else ()

    def trains(self, parameter: str, in_head: bool) -> bool:
        """Whether this parameter of the classifier itself trains."""
        return False

    def stand_in(self, site: Site) -> nn.Module | None:
        """What computes in the place of a linear layer, with a method ``merged`` that returns one
        ``nn.Linear`` that does the same; None leaves the layer alone.
        """
        return None

    def rate_factor(self, parameter: str) -> float:
        """What the learning rate is multiplied by for this parameter."""
        return 1.0


class LowRank(nn.Module):
    """A frozen linear layer plus a low-rank term, y = linear(x) + dropout(x) @ A @ B: it packs."""

    def __init__(
        self, linear: nn.Linear, dropout: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.linear, self.dropout = linear, dropout

    def low_rank(self) -> tuple[Tensor, Tensor]:
        """A, (in, rank), and B, (rank, out), whose product is added to the transposed weight."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        A, B = self.low_rank()
        result: Tensor = self.linear(x) + (self.dropout(x) if self.dropout else x) @ A @ B
        return result

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """One linear layer, of weight W + (A B)^T, that computes the same without dropout."""
        A, B = self.low_rank()
        return linear_of(self.linear.weight + (A @ B).T, self.linear.bias)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer of these, (out, in) and (out,), copied, in the weight's type."""
    out_features, in_features = weight.shape
    linear = nn.Linear(in_features, out_features, bias is not None, "meta")  # draws nothing
    linear.weight = nn.Parameter(weight.detach().clone())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().to(weight, copy=True))
    return linear


def merge(model: nn.Module) -> None:
    """Make each layer to which a method added something a plain one, in place."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "merged"):
            replace(model, name, module.merged())


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put ``module`` where ``model`` has ``name``."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
