"""Where things sit in an encoder's classifier, as data. Supporting another family of encoders is
one more entry in ``LAYOUTS``.
"""

from dataclasses import dataclass
from typing import Literal

from lora_replication.study import Target


@dataclass(frozen=True)
class Layout:
    """The names of one family of encoders in ``transformers``, and the few ways in which the
    families differ.

    Attributes:
        classifier: the class for sequence classification in ``transformers``.
        base: where the encoder sits in the classifier; checkpoints of bare encoders lack this
            prefix.
        layers: the list of layers; the names below, to ``mlp_norm``, are relative to one of them.
        head_hidden, head_output: the article's ``pre_classifier`` and ``classifier``, or what
            stands in their place.
        head_activation: between these two.
        dropout_after_projection: BERT drops the attention's output before adding it; DistilBERT
            does not.
        activation, heads, depth, hidden_dropout, attention_dropout, head_dropout: names in the
            encoder's config.
        ignored: starts of names in checkpoints that a classifier has no use for.
    """

    classifier: str
    base: str
    word_embeddings: str
    position_embeddings: str
    token_type_embeddings: str | None
    embedding_norm: str
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
    heads: str
    depth: str
    hidden_dropout: str
    attention_dropout: str
    head_dropout: str
    ignored: tuple[str, ...]

    def linears(self, target: Target, depth: int) -> list[str]:
        """Names of the linears that a LoRA target stands for, in an encoder of ``depth`` layers."""
        if target == "head":
            return [self.head_hidden, self.head_output]
        inner = {
            "query": (self.query,),
            "key": (self.key,),
            "value": (self.value,),
            "projection": (self.projection,),
            "mlp": (self.mlp_input, self.mlp_output),
        }[target]
        return [f"{self.layers}.{layer}.{name}" for layer in range(depth) for name in inner]


LAYOUTS = {
    "distilbert": Layout(
        classifier="DistilBertForSequenceClassification",
        base="distilbert",
        word_embeddings="distilbert.embeddings.word_embeddings",
        position_embeddings="distilbert.embeddings.position_embeddings",
        token_type_embeddings=None,
        embedding_norm="distilbert.embeddings.LayerNorm",
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
        word_embeddings="bert.embeddings.word_embeddings",
        position_embeddings="bert.embeddings.position_embeddings",
        token_type_embeddings="bert.embeddings.token_type_embeddings",
        embedding_norm="bert.embeddings.LayerNorm",
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
        heads="num_attention_heads",
        depth="num_hidden_layers",
        hidden_dropout="hidden_dropout_prob",
        attention_dropout="attention_probs_dropout_prob",
        head_dropout="hidden_dropout_prob",
        ignored=("cls.", "bert.embeddings.position_ids"),
    ),
}
"""Layouts by the ``model_type`` of an encoder's config."""
