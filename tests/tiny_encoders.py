"""Random encoders of two layers and width 32, whose vocabulary is that of the generated reviews."""

import json
import os
import re
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

from lora_replication.data.generated import phrases
from lora_replication.files import write_whole

Kind = Literal["distilbert", "bert"]

CONFIGS = {
    "distilbert": {
        "model_type": "distilbert", "dim": 32, "hidden_dim": 64, "n_heads": 2, "n_layers": 2,
        "max_position_embeddings": 512, "activation": "gelu",
    },
    "bert": {
        "model_type": "bert", "hidden_size": 32, "intermediate_size": 64,
        "num_attention_heads": 2, "num_hidden_layers": 2,
        "max_position_embeddings": 512, "hidden_act": "gelu",
    },
}  # fmt: skip


def words() -> list[str]:
    """What a generated review can hold: words and marks in lower case, sorted, each once."""
    options = (phrase for both in phrases().values() for side in both for phrase in side)
    plain = (re.sub(r"\{[-?]?\w+\}", " ", phrase).lower() for phrase in options)
    return sorted({token for text in plain for token in re.findall(r"\w+|[^\w\s]", text)} | {"an"})


@cache
def tiny_encoder(kind: Kind) -> Path:
    """A folder with config.json, model.safetensors and vocab.txt, always of the same bytes.

    It is the machine's temporary folder's, named by the user and the content, so that all processes
    share it. Copy it before you alter it.
    """
    contents = _contents(kind)
    digest = sha256(b"".join(contents.values())).hexdigest()
    shared = Path(tempfile.gettempdir()) / f"lora-replication-tests-{os.getuid()}"
    folder = shared / f"tiny-{kind}-{digest[:16]}"
    for name, content in contents.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != content:
            write_whole(folder / name, content)
    return folder


def tiny_model(kind: Kind = "distilbert", max_tokens: int = 64) -> dict[str, object]:
    """The section ``model`` of a study's params for this encoder."""
    return {"encoder": "folder", "path": str(tiny_encoder(kind)), "max_tokens": max_tokens}


def _contents(kind: Kind) -> dict[str, bytes]:
    """Weights are normal with standard deviation 1 / sqrt(width); biases 0; norms 1."""
    import torch
    import transformers
    from safetensors.torch import save

    from lora_replication.training.layouts import LAYOUTS
    from lora_replication.training.randomness import generator

    characters = [*map(chr, range(33, 127)), *(f"##{chr(code)}" for code in range(97, 123))]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = list(dict.fromkeys([*special, *characters, *words()]))
    config = CONFIGS[kind] | {"vocab_size": len(vocabulary)}
    layout = LAYOUTS[kind]
    classifier = getattr(transformers, layout.classifier)
    tensors = {}
    for name, parameter in classifier(classifier.config_class(**config)).named_parameters():
        if not name.startswith(layout.base) or name.startswith(layout.head_hidden):
            continue
        drawn = torch.randn(parameter.shape, generator=generator(0, "tiny", name)) / 32**0.5
        one_or_zero = float("norm" in name.lower() and name.endswith("weight"))
        tensors[name] = drawn if drawn.dim() > 1 else torch.full_like(drawn, one_or_zero)
    return {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": save(tensors),
        "vocab.txt": "".join(f"{word}\n" for word in vocabulary).encode(),
    }
