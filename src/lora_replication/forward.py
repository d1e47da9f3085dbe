"""The classifier's forward pass on real tokens only: the mathematics of ``transformers``' padded one, without the padding.

Linears, norms, dropout and losses see each real token once; attention stays within each review. Of the last layer only
the first token, [CLS], is computed beyond its keys and values, because only that one reaches the head.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.data.batches import AttentionGroup, Batch
from lora_replication.layouts import Layout
from lora_replication.randomness import Dropout


class RaggedForward:
    """Calls the modules of a classifier from ``transformers``, LoRA layers included, on a batch of reviews.

    Args:
        model: the classifier; its parameters stay where they are.
        layout: names its parts.
        dropout: the stream of the encoder's and the head's dropout.
    """

    def __init__(self, model: nn.Module, layout: Layout, dropout: Dropout) -> None:
        config = model.config
        self.model, self.layout, self.dropout = model, layout, dropout
        self.depth = int(getattr(config, layout.depth))
        self.heads = int(getattr(config, layout.heads))
        self.hidden_dropout = float(getattr(config, layout.hidden_dropout))
        self.attention_dropout = float(getattr(config, layout.attention_dropout))
        self.head_dropout = float(getattr(config, layout.head_dropout))

    def __call__(self, batch: Batch) -> Tensor:
        """Logits, (reviews, classes)."""
        x = self._embed(batch)
        for layer in range(self.depth):
            x = self._layer(f"{self.layout.layers}.{layer}.", x, batch, last=layer == self.depth - 1)
        hidden = self._module(self.layout.head_hidden)(x)
        hidden = F.relu(hidden) if self.layout.head_activation == "relu" else torch.tanh(hidden)
        logits: Tensor = self._module(self.layout.head_output)(self.dropout(hidden, self.head_dropout))
        return logits

    def _module(self, name: str) -> nn.Module:
        return self.model.get_submodule(name)

    def _embed(self, batch: Batch) -> Tensor:
        layout = self.layout
        x = self._module(layout.word_embeddings)(batch.ids)
        if layout.token_type_embeddings:
            x = x + self._module(layout.token_type_embeddings)(torch.zeros_like(batch.ids))
        x = x + self._module(layout.position_embeddings)(batch.positions)
        return self.dropout(self._module(layout.embedding_norm)(x), self.hidden_dropout)

    def _layer(self, prefix: str, x: Tensor, batch: Batch, *, last: bool) -> Tensor:
        """(tokens, width) to (tokens, width), or to (reviews, width) for the last layer."""
        layout = self.layout
        key, value = (self._module(prefix + name)(x) for name in (layout.key, layout.value))
        x = x[batch.first] if last else x
        query = self._module(prefix + layout.query)(x)
        attended = self._module(prefix + layout.projection)(self._attention(query, key, value, batch, last=last))
        if layout.dropout_after_projection:
            attended = self.dropout(attended, self.hidden_dropout)
        x = self._module(prefix + layout.attention_norm)(attended + x)
        hidden = F.gelu(self._module(prefix + layout.mlp_input)(x))
        hidden = self.dropout(self._module(prefix + layout.mlp_output)(hidden), self.hidden_dropout)
        result: Tensor = self._module(prefix + layout.mlp_norm)(hidden + x)
        return result

    def _attention(self, query: Tensor, key: Tensor, value: Tensor, batch: Batch, *, last: bool) -> Tensor:
        """Each review attends to itself: (queries, width), (tokens, width) twice, to (queries, width)."""
        contexts = []
        for group in batch.groups:
            count = group.reviews.stop - group.reviews.start
            padded = [self._heads(part[group.tokens], group, count) for part in (key, value)]
            if last:
                asked = query[group.reviews].view(count, 1, self.heads, -1).transpose(1, 2)
            else:
                asked = self._heads(query[group.tokens], group, count)
            context = self._attend(asked, padded[0], padded[1], group.mask).transpose(1, 2).flatten(0, 1).flatten(1)
            contexts.append(context if last or group.scatter is None else context.index_select(0, group.scatter))
        return torch.cat(contexts)

    def _heads(self, x: Tensor, group: AttentionGroup, count: int) -> Tensor:
        """(tokens, width) of a group to (reviews, heads, length, width / heads)."""
        x = x if group.gather is None else x.index_select(0, group.gather)
        return x.view(count, group.length, self.heads, -1).transpose(1, 2)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        if not self.dropout.active or self.attention_dropout == 0:
            return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        # torch's own attention with dropout is slow on a CPU, and its masks belong to no named stream.
        scores = (query / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return self.dropout(scores.softmax(-1), self.attention_dropout).to(value.dtype) @ value
