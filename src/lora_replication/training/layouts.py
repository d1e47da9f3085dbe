"""The names of an encoder's parts; ``layouts.yaml`` has them by family."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ruamel.yaml import YAML

from lora_replication.allowed import Target

ROLES = (
    "query", "key", "value", "projection", "mlp_input", "mlp_output", "head_hidden", "head_output",
)  # fmt: skip
"""What a linear layer can be."""


@dataclass(frozen=True)
class Layout:
    """Names in the ``transformers`` classifiers of one family, and how the families differ.

    Attributes:
        classifier: the class for sequence classification in ``transformers``.
        base: the encoder in the classifier; checkpoints of bare encoders lack this prefix.
        has_token_types: whether the embedding of token type 0 is added.
        layers: the list of layers; the names from ``query`` to ``mlp_norm`` are relative to one.
        head_hidden, head_output: the article's ``pre_classifier`` and ``classifier``, or what
            takes their place; ``head_activation`` is between them.
        dropout_after_projection: BERT has dropout on the attention's output, DistilBERT has not.
        activation, width, inner, heads, depth, hidden_dropout, attention_dropout, head_dropout:
            names in the encoder's config.
        ignored: prefixes of names in checkpoints that a classifier has no use for.
    """

    classifier: str
    base: str
    has_token_types: bool
    layers: str
    query: str
    key: str
    value: str
    projection: str
    attention_norm: str
    mlp_input: str
    mlp_output: str
    mlp_norm: str
    head_hidden: str
    head_output: str
    head_activation: Literal["relu", "tanh"]
    dropout_after_projection: bool
    activation: str
    width: str
    inner: str
    heads: str
    depth: str
    hidden_dropout: str
    attention_dropout: str
    head_dropout: str
    ignored: list[str]

    @property
    def head(self) -> tuple[str, str]:
        """The names of the two layers after the encoder."""
        return self.head_hidden, self.head_output

    def linears(self, target: Target, depth: int) -> list[str]:
        """Names of the linear layers of a LoRA target, in an encoder of ``depth`` layers."""
        if target == "head":
            return list(self.head)
        names = [self.mlp_input, self.mlp_output] if target == "mlp" else [getattr(self, target)]
        return [f"{self.layers}.{layer}.{name}" for layer in range(depth) for name in names]

    def role(self, name: str) -> str:
        """Which attribute of this layout names the linear layer ``name``."""
        _, _, inner = name.removeprefix(f"{self.layers}.").partition(".")
        return next(role for role in ROLES if getattr(self, role) in (name, inner))


NAMES = YAML(typ="safe", pure=True).load(Path(__file__).with_suffix(".yaml"))

LAYOUTS = {
    family: Layout(**{name: own[place] for name, own in NAMES.items()})
    for place, family in enumerate(("distilbert", "bert"))
}
"""Layouts by the ``model_type`` of an encoder's config."""
