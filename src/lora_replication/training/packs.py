"""The linears of a pack: one frozen linear, and for each configuration its own low-rank term, or
none.

A pack holds LoRA configurations that train together. Each is a classifier of its own whose frozen
parameters are shared, so what trains, what it is called and what is saved are those of a
configuration trained alone. Its terms are computed together, as batched products; ranks are padded
to the widest with zeros, which take no gradient and add nothing.
"""

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.training.lora import LinearWithLoRA


def shared_copy(model: nn.Module) -> nn.Module:
    """``model`` with modules of its own, in which other layers can be put, and the same parameters
    and buffers.
    """
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    twin: nn.Module = copy.deepcopy(model, memo)
    return twin


def packed(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    """The same linear in each configuration of a pack.

    Args:
        modules: one for each configuration, ``nn.Linear`` or ``LinearWithLoRA`` on top of the same
            ``nn.Linear``.
        x: (copies, tokens, in), one copy for all configurations or one for each.

    Returns:
        (copies, tokens, out); one copy where there was one and no configuration has a low-rank term
        here.
    """
    adapted = [module for module in modules if isinstance(module, LinearWithLoRA)]
    if len(modules) == 1 or not adapted:
        result: Tensor = modules[0](x)
        return result
    dropout = adapted[0].lora.dropout  # of one seed and one probability throughout the pack
    rank = max(module.lora.A.shape[1] for module in adapted)
    terms = [_padded(module, rank, adapted[0]) for module in modules]
    A, B = (torch.stack(each) for each in zip(*terms, strict=True))
    together: Tensor = adapted[0].linear(x) + (dropout(x) if dropout else x) @ A @ B
    return together


def _padded(module: nn.Module, rank: int, example: LinearWithLoRA) -> tuple[Tensor, Tensor]:
    """A (in, ``rank``) and the scaled B (``rank``, out) of one configuration, zero where it has
    none.
    """
    if not isinstance(module, LinearWithLoRA):
        A, B = example.lora.A, example.lora.B
        return A.new_zeros(A.shape[0], rank), B.new_zeros(rank, B.shape[1])
    lora = module.lora
    missing = rank - lora.A.shape[1]
    return F.pad(lora.A, (0, missing)), F.pad(lora.scale * lora.B, (0, 0, 0, missing))
