"""Floating-point operations that a method's mathematics needs, counted; and the rate at which this
machine multiplies matrices.

A multiplication and an addition are two operations. Only real tokens count, and only what the
logits or a trained weight depend on: of the last layer's query, projection and MLP the first token
of each review; no gradient below the lowest trained weight. Element-wise work is left out. So every
contender is held to the same count, whatever it does in vain.
"""

import time

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from benchmarks.contenders import finish
from benchmarks.results import Precision
from lora_replication.allowed import TARGETS
from lora_replication.encoders import Encoder
from lora_replication.record import Settings
from lora_replication.training.classifier import COMPUTE_TYPES
from lora_replication.training.layouts import Layout

MATRIX_SIDE = {"cpu": 3072, "cuda": 8192}
MATRIX_SECONDS = 0.5

OF_FIRST_TOKENS = ("query", "projection", "mlp")
"""Linears that the last layer needs for [CLS] alone."""

AFTER_INPUT = ("query", "key", "value")
"""Linears of the first layer whose input's gradient reaches nothing but the embeddings."""


def empty_model(encoder: Encoder) -> torch.nn.Module:
    """The classifier of ``encoder`` without memory for its weights."""
    kind = getattr(transformers, encoder.layout.classifier)
    with torch.device("meta"):
        model: torch.nn.Module = kind(kind.config_class.from_pretrained(encoder.folder))
    return model


def needed_flops(
    model: torch.nn.Module,
    layout: Layout,
    settings: Settings,
    lengths: NDArray[np.int64],
    *,
    training: bool,
) -> int:
    """Operations for one pass over reviews of ``lengths`` tokens: forward, and backward too where
    ``training``.

    Raises:
        ValueError: for targets of LoRA without one in the first layer, whose backward pass would
            end elsewhere.
    """
    lora = settings.lora
    if lora and not set(lora.targets) & set(AFTER_INPUT):
        raise ValueError(f"LoRA needs one of {', '.join(AFTER_INPUT)}, not {lora.targets} alone")
    depth = int(getattr(model.config, layout.depth))
    reviews, tokens = len(lengths), int(lengths.sum())
    back_in_encoder = training and settings.trains != "head"
    total = 0
    for target in TARGETS:
        for name in layout.linears(target, depth):
            linear = model.get_submodule(name)
            layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
            of_first = target == "head" or (layer == depth - 1 and target in OF_FIRST_TOKENS)
            rows = reviews if of_first else tokens
            trained = settings.trains == "all" or (settings.trains == "head" and target == "head")
            lowest = (layer == 0 and target in AFTER_INPUT and settings.trains != "all") or (
                settings.trains == "head" and name == layout.head_hidden
            )
            backward = training and (target == "head" or back_in_encoder)
            product = 2 * rows * linear.in_features * linear.out_features
            total += product * (1 + (backward and trained) + (backward and not lowest))
            if lora and target in lora.targets:
                outer = 2 * rows * lora.rank * linear.in_features
                inner = 2 * rows * lora.rank * linear.out_features
                # Of x @ A @ B: gradients of A and B, of x @ A, and of x where something below is
                # trained.
                below = inner + outer * (not lowest)
                total += (outer + inner) * (1 + backward) + backward * below
    width = model.get_submodule(layout.linears("key", 1)[0]).out_features
    scores = (depth - 1) * int((lengths.astype(np.int64) ** 2).sum()) + tokens
    return total + 4 * width * scores * (3 if back_in_encoder else 1)


def matrix_rate(device: str, precision: Precision) -> float:
    """Operations per second of this machine's matrix products in ``precision``, now: square ones,
    large enough to hide their start.
    """
    side, kind = MATRIX_SIDE[device], COMPUTE_TYPES.get(precision, torch.float32)
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    product = torch.mm(a, b)  # untimed: libraries start
    finish(device)
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < MATRIX_SECONDS:
        for _ in range(4):
            torch.mm(a, b, out=product)
        finish(device)
        count += 4
    return count * 2 * side**3 / elapsed
