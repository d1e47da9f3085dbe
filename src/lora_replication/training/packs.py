"""The linear layers of a pack: a frozen layer, and low-rank terms of some of its configurations.

A pack is a number of LoRA configurations that train together. Each is a classifier of its own whose
frozen parameters are shared, so what trains, its names and what is saved are as in a run by itself.
The terms are computed together, as batched products; ranks are padded to the largest with zeros,
which receive no gradient and add nothing.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.training.lora import LinearWithLoRA


def shared_copy(model: nn.Module) -> nn.Module:
    """A copy of ``model`` whose layers can be replaced, with the same parameters and buffers."""
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin: nn.Module = copy.deepcopy(model, memo)
    return twin


def packed_linear(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The same linear layer in each configuration of a pack.

    Args:
        modules: one per configuration, ``nn.Linear`` or ``LinearWithLoRA`` around the same
            ``nn.Linear``.
        x: (copies, tokens, in), one copy for all configurations or one for each.

    Returns:
        (copies, tokens, out); one copy if there was one and no configuration has a term here.
    """
    adapted = [module for module in modules if isinstance(module, LinearWithLoRA)]
    if len(modules) == 1 or not adapted:
        result: Tensor = modules[0](x)
        return result
    dropout = adapted[0].lora.dropout  # of one seed and one probability throughout the pack
    rank = max(module.lora.A.shape[1] for module in adapted)
    terms = [_padded(module, rank, adapted[0]) for module in modules]
    A, B = (torch.stack(each) for each in zip(*terms, strict=True))
    outputs: Tensor = adapted[0].linear(x) + (dropout(x) if dropout else x) @ A @ B
    return outputs


def _padded(module: nn.Module, rank: int, example: LinearWithLoRA) -> tuple[Tensor, Tensor]:
    """A (in, ``rank``) and scaled B (``rank``, out) of one configuration, zero if it has none."""
    if not isinstance(module, LinearWithLoRA):
        A, B = example.lora.A, example.lora.B
        return A.new_zeros(A.shape[0], rank), B.new_zeros(rank, B.shape[1])
    lora = module.lora
    missing = rank - lora.A.shape[1]
    return F.pad(lora.A, (0, missing)), F.pad(lora.scale * lora.B, (0, 0, 0, missing))
