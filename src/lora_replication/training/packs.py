"""The linear layers of a pack: a frozen layer, and low-rank terms of some of its configurations.

A pack is a number of configurations of LoRA, or of other methods of its form, that train together.
Each is a classifier of its own whose frozen parameters are shared, so what trains, its names and
what is saved are as in a run by itself.
The terms are computed together, as batched products; ranks are padded to the largest with zeros,
which receive no gradient and add nothing.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.training.methods import LowRank


def shared_copy(model: nn.Module, trains: Callable[[str], bool]) -> nn.Module:
    """A copy of ``model`` whose layers can be replaced, with the same parameters and buffers but
    for those of the parameters that train.
    """
    frozen = [tensor for name, tensor in model.named_parameters() if not trains(name)]
    memo = {id(tensor): tensor for tensor in (*frozen, *model.buffers())}
    twin: nn.Module = copy.deepcopy(model, memo)
    return twin


def packed_linear(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The same linear layer in each configuration of a pack.

    Args:
        modules: one per configuration, ``nn.Linear`` or ``LowRank`` around one: the same for all,
            but where a configuration trains it.
        x: (copies, tokens, in), one copy for all configurations or one for each.

    Returns:
        (copies, tokens, out); one copy if there was one and no configuration adds or trains here.
    """
    if len(modules) == 1:
        result: Tensor = modules[0](x)
        return result
    outputs = _linear([m.linear if isinstance(m, LowRank) else m for m in modules], x)
    adapted = [module for module in modules if isinstance(module, LowRank)]
    if not adapted:
        return outputs
    dropout = adapted[0].dropout  # of one seed and one probability throughout the pack
    terms = [module.low_rank() if isinstance(module, LowRank) else None for module in modules]
    A, B = _stacked(terms)
    return outputs + (dropout(x) if dropout else x) @ A @ B


def _linear(modules: Sequence[Any], x: Tensor) -> Tensor:
    """One frozen layer for all, or layers of their own."""
    if all(module.weight is modules[0].weight for module in modules):
        result: Tensor = modules[0](x)
        return result
    weight = torch.stack([module.weight.T for module in modules])
    bias = torch.stack([module.bias for module in modules])
    return torch.baddbmm(bias[:, None], x.expand(len(modules), -1, -1), weight)


def _stacked(terms: Sequence[tuple[Tensor, Tensor] | None]) -> tuple[Tensor, Tensor]:
    """A (configurations, in, rank) and B (configurations, rank, out), zero for None."""
    known = [term for term in terms if term]
    rank = max(A.shape[1] for A, _ in known)
    none = tuple(tensor.new_zeros(tensor.shape) for tensor in known[0])
    pairs = [term or none for term in terms]
    padded = [
        (F.pad(A, (0, rank - A.shape[1])), F.pad(B, (0, 0, 0, rank - B.shape[0]))) for A, B in pairs
    ]
    A, B = (torch.stack(each) for each in zip(*padded, strict=True))
    return A, B
