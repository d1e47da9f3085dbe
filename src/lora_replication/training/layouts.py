"""The names of an encoder's parts, as data: another family of encoders is another entry."""

from dataclasses import dataclass
from typing import Literal

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
    ignored: tuple[str, ...]

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


LAYOUTS = {
    "distilbert": Layout(
        classifier="DistilBertForSequenceClassification",
        base="distilbert",
        has_token_types=False,
        layers="distilbert.transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        projection="attention.out_lin",
        attention_norm="sa_layer_norm",
        mlp_input="ffn.lin1",
        mlp_output="ffn.lin2",
        mlp_norm="output_layer_norm",
        head_hidden="pre_classifier",
        head_output="classifier",
        head_activation="relu",
        dropout_after_projection=False,
        activation="activation",
        width="dim",
        inner="hidden_dim",
        heads="n_heads",
        depth="n_layers",
        hidden_dropout="dropout",
        attention_dropout="attention_dropout",
        head_dropout="seq_classif_dropout",
        ignored=("vocab_",),
    ),
    "bert": Layout(
        classifier="BertForSequenceClassification",
        base="bert",
        has_token_types=True,
        layers="bert.encoder.layer",
        query="attention.self.query",
        key="attention.self.key",
        value="attention.self.value",
        projection="attention.output.dense",
        attention_norm="attention.output.LayerNorm",
        mlp_input="intermediate.dense",
        mlp_output="output.dense",
        mlp_norm="output.LayerNorm",
        head_hidden="bert.pooler.dense",
        head_output="classifier",
        head_activation="tanh",
        dropout_after_projection=True,
        activation="hidden_act",
        width="hidden_size",
        inner="intermediate_size",
        heads="num_attention_heads",
        depth="num_hidden_layers",
        hidden_dropout="hidden_dropout_prob",
        attention_dropout="attention_probs_dropout_prob",
        head_dropout="hidden_dropout_prob",
        ignored=("cls.", "bert.embeddings.position_ids"),
    ),
}
"""Layouts by the ``model_type`` of an encoder's config."""
