"""The classifier of ``transformers`` with an encoder's weights."""

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lora_replication.encoders import CONFIG, WEIGHTS, Encoder
from lora_replication.errors import DataError
from lora_replication.training.layouts import Layout


def load_classifier(encoder: Encoder) -> nn.Module:
    """The classifier of ``transformers`` with two classes, in float32 on the CPU, with the
    encoder's weights; its head is yet to be drawn.

    The class comes from our own table of layouts, never from the folder, so no code of the folder
    can run.

    Raises:
        DataError: tensors are missing, unknown, or of another shape.
    """
    layout = encoder.layout
    kind = getattr(transformers, layout.classifier)
    config = kind.config_class(**encoder.config, num_labels=2)
    model: nn.Module = kind(config).to(torch.float32)
    try:
        tensors = load_file(encoder.folder / WEIGHTS)
    except SafetensorError as problem:
        raise DataError(
            f"{encoder.folder / WEIGHTS}: not a whole safetensors file ({problem}); fetch it again"
        ) from None
    found = {
        _name_in_classifier(name, layout): tensor.to(torch.float32)
        for name, tensor in tensors.items()
    }
    head = (f"{layout.head_hidden}.", f"{layout.head_output}.")
    found = {
        name: tensor
        for name, tensor in found.items()
        if not name.startswith((*layout.ignored, *head))
    }
    expected = {
        name: tensor for name, tensor in model.state_dict().items() if not name.startswith(head)
    }
    wrong = [
        f"{name} ({_what_is_wrong(found.get(name), expected.get(name))})"
        for name in sorted(found.keys() | expected.keys())
        if name not in found or name not in expected or found[name].shape != expected[name].shape
    ]
    if wrong:
        raise DataError(
            f"{encoder.folder / WEIGHTS} does not fit {CONFIG} beside it: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}"
        )
    model.load_state_dict(found, strict=False)
    return model


def _what_is_wrong(found: Tensor | None, expected: Tensor | None) -> str:
    if found is None or expected is None:
        return "missing" if found is None else "unknown"
    return f"{tuple(found.shape)}, not {tuple(expected.shape)}"


def _name_in_classifier(name: str, layout: Layout) -> str:
    name = name.replace(".gamma", ".weight").replace(".beta", ".bias")  # early BERT checkpoints
    known = (f"{layout.base}.", f"{layout.head_hidden}.", f"{layout.head_output}.", *layout.ignored)
    return name if name.startswith(known) else f"{layout.base}.{name}"
