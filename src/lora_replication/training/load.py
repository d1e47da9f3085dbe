"""The classifier of ``transformers`` with an encoder's weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lora_replication.encoders import CONFIG, Encoder
from lora_replication.errors import DataError
from lora_replication.training.layouts import Layout


def load_classifier(encoder: Encoder) -> nn.Module:
    """The classifier with two classes, in float32 on the CPU; its head is yet to be drawn.

    Its class comes from ``LAYOUTS``, never from the folder, so no code of the folder can run.

    Raises:
        DataError: tensors are missing, unknown, not finite, or of another shape.
    """
    layout = encoder.layout
    kind = getattr(transformers, layout.classifier)
    config = kind.config_class(**encoder.config, num_labels=2)
    # Without memory, until the sizes are known to be those of the weights.
    with torch.device("meta"):
        shapes: dict[str, Tensor] = kind(config).to(torch.float32).state_dict()
    tensors = read_tensors(encoder.weights, "fetch it again")
    found = {_name_in_classifier(name, layout): tensor.float() for name, tensor in tensors.items()}
    unused = (*layout.ignored, *(f"{name}." for name in layout.head))
    found, expected = (
        {name: tensor for name, tensor in given.items() if not name.startswith(unused)}
        for given in (found, shapes)
    )
    check_fit(found, expected, f"{encoder.weights} does not fit {CONFIG} next to it")
    model: nn.Module = kind(config).to(torch.float32)
    model.load_state_dict(found, strict=False)
    return model


def read_tensors(file: Path, remedy: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises ``DataError``, which ends with ``remedy``."""
    try:
        return load_file(file)
    except (SafetensorError, OSError) as problem:
        raise DataError(f"{file}: not a whole safetensors file ({problem}); {remedy}") from None


def check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], message: str) -> None:
    """Raise ``DataError`` unless ``found`` is finite, with names, shapes and types as expected."""
    names = sorted(found.keys() | expected.keys())
    problems = [(name, _problem(found.get(name), expected.get(name))) for name in names]
    wrong = [f"{name} ({problem})" for name, problem in problems if problem]
    if wrong:
        more = " ..." if len(wrong) > 5 else ""
        raise DataError(f"{message}: {', '.join(wrong[:5])}{more}")


def _problem(found: Tensor | None, expected: Tensor | None) -> str | None:
    if found is None or expected is None:
        return "missing" if found is None else "unknown"
    if found.shape != expected.shape:
        return f"{tuple(found.shape)}, not {tuple(expected.shape)}"
    if found.dtype != expected.dtype:
        return f"{found.dtype}, not {expected.dtype}"
    return None if found.isfinite().all() else "not finite"


def _name_in_classifier(name: str, layout: Layout) -> str:
    name = name.replace(".gamma", ".weight").replace(".beta", ".bias")  # early BERT checkpoints
    known = (f"{layout.base}.", *(f"{head}." for head in layout.head), *layout.ignored)
    return name if name.startswith(known) else f"{layout.base}.{name}"
