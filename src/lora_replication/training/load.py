"""The layers of a classifier of ``transformers``, with an encoder's weights."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lora_replication.encoders import CONFIG, Encoder
from lora_replication.errors import DataError
from lora_replication.training.layouts import Layout


def load_classifier(encoder: Encoder, classes: int = 2) -> nn.Module:
    """The layers of the classifier of ``transformers``, with the same parameters under the same
    names, in float32 on the CPU; its head has no values yet. ``transformers`` itself, whose forward
    pass is not used, takes three seconds to import. No code of the encoder's folder can run.

    Raises:
        DataError: tensors are missing, unknown, not finite, or of another shape.
    """
    with torch.device("meta"):
        model = _layers(encoder.layout, encoder.config, classes)
    found = _fitting(encoder, model.state_dict())
    model.to_empty(device="cpu").load_state_dict(found, strict=False)
    return model


def _layers(layout: Layout, config: Mapping[str, Any], classes: int) -> nn.Module:
    model = nn.Module()
    model.config = SimpleNamespace(**config)  # type: ignore[assignment]  # no module, as in theirs
    width, inner = config[layout.width], config[layout.inner]
    linear = partial(nn.Linear, width)
    norm = partial(nn.LayerNorm, width, eps=config.get("layer_norm_eps", 1e-12))
    prefix = f"{layout.base}.embeddings."
    sizes = {"word": config["vocab_size"], "position": config["max_position_embeddings"]}
    if layout.has_token_types:
        sizes["token_type"] = config["type_vocab_size"]
    for name, size in sizes.items():
        _place(model, f"{prefix}{name}_embeddings", nn.Embedding(size, width))
    _place(model, f"{prefix}LayerNorm", norm())
    for layer in range(config[layout.depth]):
        prefix = f"{layout.layers}.{layer}."
        for name in (layout.query, layout.key, layout.value, layout.projection):
            _place(model, prefix + name, linear(width))
        _place(model, prefix + layout.attention_norm, norm())
        _place(model, prefix + layout.mlp_input, linear(inner))
        _place(model, prefix + layout.mlp_output, nn.Linear(inner, width))
        _place(model, prefix + layout.mlp_norm, norm())
    for name, outputs in zip(layout.head, (width, classes), strict=True):
        _place(model, name, linear(outputs))
    return model


def _place(model: nn.Module, name: str, module: nn.Module) -> None:
    *parents, child = name.split(".")
    for parent in parents:
        if parent not in dict(model.named_children()):
            model.add_module(parent, nn.Module())
        model = model.get_submodule(parent)
    model.add_module(child, module)


def _fitting(encoder: Encoder, shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors in float32, without a head's; ``DataError`` unless they fit."""
    layout = encoder.layout
    heads = tuple(f"{name}." for name in layout.head)
    found = {
        name: tensor for name, tensor in read_encoder(encoder).items() if not name.startswith(heads)
    }
    expected = {name: shape for name, shape in shapes.items() if not name.startswith(heads)}
    check_fit(found, expected, f"{encoder.weights} does not fit {CONFIG} next to it")
    return found


def read_encoder(encoder: Encoder) -> dict[str, Tensor]:
    """The tensors of an encoder's file in float32, under their names in the classifier."""
    layout = encoder.layout
    tensors = read_tensors(encoder.weights, "fetch it again")
    named = {_name_in_classifier(name, layout): tensor.float() for name, tensor in tensors.items()}
    return {name: t for name, t in named.items() if not name.startswith(tuple(layout.ignored))}


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
