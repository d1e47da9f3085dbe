"""The classifier's forward pass on real tokens only: that of ``transformers``, without padding.

Linear layers, norms, dropout and losses see each real token once; attention stays within a review.
Of the last layer only the first token, [CLS], is computed beyond its keys and values, because only
that one reaches the head.

The configurations of a pack are copies of the batch, in the first dimension of everything here. Up
to the first adapted layer they are identical, so there is one copy; from there on one for each.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.training.batches import AttentionGroup, Batch
from lora_replication.training.layouts import Layout
from lora_replication.training.packs import packed_linear
from lora_replication.training.randomness import DefaultStream, Dropout


class RaggedForward:
    """Runs the modules of ``transformers`` classifiers, and LoRA layers, on reviews of any lengths.

    Args:
        models: one per configuration of the pack; they share everything but what trains, which is
            in linear layers.
        layout: the names of their parts.
        dropout: the encoder's and the head's, shared by the pack.
        compute_type: what the input of the layers' linears is rounded to, or None.
        fused: the stream of torch's own attention with dropout, in training; None for ours.
        ragged_evaluation: whether attention without gradients is that for ragged batches.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        layout: Layout,
        dropout: Dropout,
        compute_type: torch.dtype | None,
        fused: DefaultStream | None = None,
        *,
        ragged_evaluation: bool = False,
    ) -> None:
        config = models[0].config
        self.models, self.layout, self.dropout = models, layout, dropout
        self.compute_type, self.fused = compute_type, fused
        self.ragged_evaluation = ragged_evaluation
        self.depth = int(getattr(config, layout.depth))
        self.heads = int(getattr(config, layout.heads))
        self.hidden_dropout = float(getattr(config, layout.hidden_dropout))
        self.attention_dropout = float(getattr(config, layout.attention_dropout))
        self.head_dropout = float(getattr(config, layout.head_dropout))

    def __call__(self, batch: Batch) -> Tensor:
        """Logits, (configurations, reviews, classes)."""
        layout = self.layout
        x = self._embed(batch)
        for layer in range(self.depth):
            x = self._layer(f"{layout.layers}.{layer}.", x, batch, last=layer == self.depth - 1)
        hidden = self._linear(layout.head_hidden, x)
        hidden = F.relu(hidden) if layout.head_activation == "relu" else torch.tanh(hidden)
        logits = self._linear(layout.head_output, self.dropout(hidden, self.head_dropout))
        return logits.expand(len(self.models), -1, -1)

    def _module(self, name: str) -> nn.Module:
        return self.models[0].get_submodule(name)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return packed_linear([model.get_submodule(name) for model in self.models], x)

    def _embed(self, batch: Batch) -> Tensor:
        """(1, tokens, width)."""
        prefix = f"{self.layout.base}.embeddings."
        x = self._module(prefix + "word_embeddings")(batch.ids)
        if self.layout.has_token_types:
            x = x + self._module(prefix + "token_type_embeddings")(torch.zeros_like(batch.ids))
        x = x + self._module(prefix + "position_embeddings")(batch.positions)
        return self.dropout(self._module(prefix + "LayerNorm")(x)[None], self.hidden_dropout)

    def _layer(self, prefix: str, x: Tensor, batch: Batch, *, last: bool) -> Tensor:
        """(copies, tokens, width) to the same, or to (copies, reviews, width) in the last layer."""
        layout = self.layout
        rounded = self._rounded(x)
        key, value = (self._linear(prefix + name, rounded) for name in (layout.key, layout.value))
        if last:
            x, rounded = x[:, batch.first], rounded[:, batch.first]
        query = self._linear(prefix + layout.query, rounded)
        context = self._attention(query, key, value, batch, last=last)
        attended = self._linear(prefix + layout.projection, context)
        if layout.dropout_after_projection:
            attended = self.dropout(attended, self.hidden_dropout)
        x = self._module(prefix + layout.attention_norm)(attended + x)
        hidden = F.gelu(self._linear(prefix + layout.mlp_input, self._rounded(x)))
        hidden = self.dropout(self._linear(prefix + layout.mlp_output, hidden), self.hidden_dropout)
        result: Tensor = self._module(prefix + layout.mlp_norm)(hidden + x)
        return result

    def _rounded(self, x: Tensor) -> Tensor:
        # Once for all that read it; autocast would do it for each.
        return x.to(self.compute_type) if self.compute_type else x

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, batch: Batch, *, last: bool
    ) -> Tensor:
        """Attention within each review: query (copies, queries, width), key and value (copies,
        tokens, width), to (copies, queries, width).

        There is one query per token, or, in the last layer, per review.
        """
        if self.ragged_evaluation and not torch.is_grad_enabled():
            return self._attend_ragged(query, key, value, batch, last=last)
        reviews = [group.reviews.stop - group.reviews.start for group in batch.groups]
        tokens = [group.tokens.stop - group.tokens.start for group in batch.groups]
        queries = torch.split(query, reviews if last else tokens, 1)
        keys, values = torch.split(key, tokens, 1), torch.split(value, tokens, 1)
        contexts = []
        for group, q, k, v in zip(batch.groups, queries, keys, values, strict=True):
            context = self._attend(
                self._heads(q, None, q.shape[1]) if last else self._padded(q, group),
                self._padded(k, group),
                self._padded(v, group),
                group.mask,
            )
            context = context.transpose(2, 3).flatten(3).flatten(1, 2)
            if not last and group.scatter is not None:
                context = context.index_select(1, group.scatter)
            contexts.append(context)
        return torch.cat(contexts, 1)

    def _padded(self, x: Tensor, group: AttentionGroup) -> Tensor:
        """(copies, tokens, width) of a group to (copies, reviews, heads, length, width / heads)."""
        return self._heads(x, group.gather, group.reviews.stop - group.reviews.start)

    def _heads(self, x: Tensor, gather: Tensor | None, reviews: int) -> Tensor:
        x = x if gather is None else x.index_select(1, gather)
        return x.view(len(x), reviews, -1, self.heads, x.shape[-1] // self.heads).transpose(2, 3)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax attention, with dropout on its weights, to the keys whose ``mask`` is true."""
        if self.fused and torch.is_grad_enabled():
            return self._attend_fused(query, key, value, mask, self.fused)
        attend = self._attend_with_dropout if self.dropout.active else self._attend_without
        return attend(query, key, value, mask)

    def _attend_with_dropout(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        # Torch's own is slower with dropout on a CPU, and its masks belong to no named stream.
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            # Filling the scores with -inf would copy them first, and fill their gradients too.
            scores += torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
        return self.dropout(scores.softmax(-1, scores.dtype), self.attention_dropout) @ value

    def _attend_without(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        # A low-rank term on some of the three makes copies of these alone.
        copies = max(len(query), len(key), len(value))
        query, key, value = (
            x.expand(copies, -1, -1, -1, -1).flatten(0, 1) for x in (query, key, value)
        )
        mask = None if mask is None else mask.repeat(copies, 1, 1, 1)
        context = F.scaled_dot_product_attention(query, key, value, mask)
        return context.view(copies, -1, *context.shape[1:])

    def _attend_fused(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, stream: DefaultStream
    ) -> Tensor:
        probability = self.attention_dropout if self.dropout.active else 0.0
        copies = max(len(query), len(key), len(value))
        start: Any = stream.position() if copies > 1 else None
        contexts = []
        for copy in range(copies):
            if copy > 0:  # with the masks of the first, which are those of each alone
                stream.return_to(start)
            q, k, v = (x[min(copy, len(x) - 1)] for x in (query, key, value))
            contexts.append(F.scaled_dot_product_attention(q, k, v, mask, probability))
        return torch.stack(contexts)

    def _attend_ragged(
        self, query: Tensor, key: Tensor, value: Tensor, batch: Batch, *, last: bool
    ) -> Tensor:
        """As ``_attention``; reviews, and copies of them, are told apart by where they begin."""
        from torch.nn.attention import varlen  # takes a second

        copies, tokens = max(len(query), len(key), len(value)), len(batch.ids)
        heads = (-1, self.heads, query.shape[-1] // self.heads)
        q, k, v = (
            self._rounded(x).expand(copies, -1, -1).reshape(heads) for x in (query, key, value)
        )
        copy = torch.arange(copies, device=batch.first.device)[:, None]
        first = (copy * tokens + batch.first).flatten()
        bounds = F.pad(first, (0, 1), value=copies * tokens).int()
        queries = torch.arange(len(bounds), device=bounds.device).int() if last else bounds
        most, longest = 1 if last else batch.groups[-1].length, batch.groups[-1].length
        context: Any = varlen.varlen_attn(q, k, v, queries, bounds, most, longest)
        return context.view(copies, -1, query.shape[-1])  # type: ignore[no-any-return]
