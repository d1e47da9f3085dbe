"""What is used of an encoder's ``config.json``, which anybody may have written."""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lora_replication.errors import DataError

MOST_CONFIG_BYTES = 1_000_000
"""BERT's has 600."""

Size = Annotated[int, Field(ge=1, le=100_000)]
Probability = Annotated[float, Field(ge=0, lt=1)]


class Config(BaseModel):
    """What is used of an encoder's ``config.json``, with the defaults of its family.

    ``WIDTH``, ``HEADS``, ``LAYERS`` and ``HIDDEN`` are the family's own names of these sizes.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    WIDTH: ClassVar[str]
    HEADS: ClassVar[str]
    LAYERS: ClassVar[str]
    HIDDEN: ClassVar[str]

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

    @property
    def arguments(self) -> dict[str, Any]:
        """For the constructor of the family's config in ``transformers``."""
        return self.model_dump(exclude={"model_type", "position_embedding_type", "is_decoder"})

    @property
    def fewest_parameters(self) -> int:
        """Of the embeddings and the linears' weights."""
        width: int = getattr(self, self.WIDTH)
        layers: int = getattr(self, self.LAYERS)
        hidden: int = getattr(self, self.HIDDEN)
        embeddings = self.vocab_size + self.max_position_embeddings
        return width * (embeddings + layers * (4 * width + 2 * hidden))


class DistilBertConfig(Config):
    """Of DistilBERT."""

    WIDTH, HEADS, LAYERS, HIDDEN = "dim", "n_heads", "n_layers", "hidden_dim"

    model_type: Literal["distilbert"]
    dim: Size = 768
    hidden_dim: Size = 3072
    n_layers: Size = 6
    n_heads: Size = 12
    activation: Literal["gelu"] = "gelu"
    sinusoidal_pos_embds: bool = False
    dropout: Probability = 0.1
    attention_dropout: Probability = 0.1
    seq_classif_dropout: Probability = 0.2


class BertConfig(Config):
    """Of BERT."""

    WIDTH, HEADS, LAYERS, HIDDEN = (
        "hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size",
    )  # fmt: skip

    model_type: Literal["bert"]
    hidden_size: Size = 768
    intermediate_size: Size = 3072
    num_hidden_layers: Size = 12
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


def read_config(file: Path) -> DistilBertConfig | BertConfig:
    """The checked config in ``file``. Raises ``DataError`` with key, value and what is allowed."""
    try:
        return _ANY_CONFIG.validate_json(read_bounded(file, MOST_CONFIG_BYTES))
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"][1:]))
        given = f"{key} is {repr(first['input'])[:80]}; " if key else ""
        allowed = first["msg"].removeprefix("Value error, ")
        raise DataError(
            f"{file}: {given}{allowed}; the config of an uncased DistilBERT or BERT in the "
            "hub's layout is needed"
        ) from None


def read_bounded(file: Path, most: int) -> bytes:
    """The content of ``file``. Raises ``DataError`` where it has more than ``most`` bytes."""
    if (size := file.stat().st_size) > most:
        raise DataError(f"{file}: has {size:,} bytes; allowed: at most {most:,}")
    return file.read_bytes()
