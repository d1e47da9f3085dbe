"""The classifier's forward pass on real tokens only: the mathematics of ``transformers``' padded
one, without the padding.

Linears, norms, dropout and losses see each real token once; attention stays within each review. Of
the last layer only the first token, [CLS], is computed beyond its keys and values, because only
that one reaches the head.

The configurations of a pack go through together as copies of the batch, the first dimension of
everything here. Up to the first adapted linear they are one and the same, so there is one copy;
from there on there is one for each configuration.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lora_replication.training.batches import AttentionGroup, Batch
from lora_replication.training.layouts import Layout
from lora_replication.training.packs import packed
from lora_replication.training.randomness import Dropout


class RaggedForward:
    """Calls the modules of classifiers from ``transformers``, LoRA layers included, on a batch of
    reviews.

    Args:
        models: one for each configuration of the pack; all but their LoRA layers is shared, so that
            of the first is called.
        layout: names their parts.
        dropout: the stream of the encoder's and the head's dropout, shared by the pack.
        compute_type: what the input of the layers' linears is rounded to, or null.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        layout: Layout,
        dropout: Dropout,
        compute_type: torch.dtype | None,
    ) -> None:
        config = models[0].config
        self.models, self.layout, self.dropout, self.compute_type = (
            models,
            layout,
            dropout,
            compute_type,
        )
        self.depth = int(getattr(config, layout.depth))
        self.heads = int(getattr(config, layout.heads))
        self.hidden_dropout = float(getattr(config, layout.hidden_dropout))
        self.attention_dropout = float(getattr(config, layout.attention_dropout))
        self.head_dropout = float(getattr(config, layout.head_dropout))

    def __call__(self, batch: Batch) -> Tensor:
        """Logits, (configurations, reviews, classes)."""
        x = self._embed(batch)
        for layer in range(self.depth):
            x = self._layer(
                f"{self.layout.layers}.{layer}.", x, batch, last=layer == self.depth - 1
            )
        hidden = self._linear(self.layout.head_hidden, x)
        hidden = F.relu(hidden) if self.layout.head_activation == "relu" else torch.tanh(hidden)
        logits = self._linear(self.layout.head_output, self.dropout(hidden, self.head_dropout))
        return logits.expand(len(self.models), -1, -1)

    def _module(self, name: str) -> nn.Module:
        return self.models[0].get_submodule(name)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return packed([model.get_submodule(name) for model in self.models], x)

    def _embed(self, batch: Batch) -> Tensor:
        """(1, tokens, width)."""
        layout = self.layout
        x = self._module(layout.word_embeddings)(batch.ids)
        if layout.token_type_embeddings:
            x = x + self._module(layout.token_type_embeddings)(torch.zeros_like(batch.ids))
        x = x + self._module(layout.position_embeddings)(batch.positions)
        return self.dropout(self._module(layout.embedding_norm)(x)[None], self.hidden_dropout)

    def _layer(self, prefix: str, x: Tensor, batch: Batch, *, last: bool) -> Tensor:
        """(copies, tokens, width) to the same, or to (copies, reviews, width) for the last
        layer.
        """
        layout = self.layout
        narrow = self._narrow(x)
        key, value = (self._linear(prefix + name, narrow) for name in (layout.key, layout.value))
        if last:
            x, narrow = x[:, batch.first], narrow[:, batch.first]
        query = self._linear(prefix + layout.query, narrow)
        attended = self._linear(
            prefix + layout.projection, self._attention(query, key, value, batch, last=last)
        )
        if layout.dropout_after_projection:
            attended = self.dropout(attended, self.hidden_dropout)
        x = self._module(prefix + layout.attention_norm)(attended + x)
        hidden = F.gelu(self._linear(prefix + layout.mlp_input, self._narrow(x)))
        hidden = self.dropout(self._linear(prefix + layout.mlp_output, hidden), self.hidden_dropout)
        result: Tensor = self._module(prefix + layout.mlp_norm)(hidden + x)
        return result

    def _narrow(self, x: Tensor) -> Tensor:
        # Once for all that read it; autocast would do it for each.
        return x.to(self.compute_type) if self.compute_type else x

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, batch: Batch, *, last: bool
    ) -> Tensor:
        """Each review attends to itself: (copies, queries, width), (copies, tokens, width) twice,
        to (copies, queries, width).
        """
        reviews = [group.reviews.stop - group.reviews.start for group in batch.groups]
        tokens = [group.tokens.stop - group.tokens.start for group in batch.groups]
        queries, keys, values = (
            torch.split(query, reviews if last else tokens, 1),
            torch.split(key, tokens, 1),
            torch.split(value, tokens, 1),
        )
        contexts = []
        for group, asking, offered, told in zip(batch.groups, queries, keys, values, strict=True):
            asked = (
                self._heads(asking, None, reviews=asking.shape[1])
                if last
                else self._padded(asking, group)
            )
            context = self._attend(
                asked, self._padded(offered, group), self._padded(told, group), group.mask
            )
            context = context.transpose(2, 3).flatten(3).flatten(1, 2)
            contexts.append(
                context if last or group.scatter is None else context.index_select(1, group.scatter)
            )
        return torch.cat(contexts, 1)

    def _padded(self, x: Tensor, group: AttentionGroup) -> Tensor:
        """(copies, tokens, width) of a group to (copies, reviews, heads, length, width / heads)."""
        return self._heads(x, group.gather, reviews=group.reviews.stop - group.reviews.start)

    def _heads(self, x: Tensor, gather: Tensor | None, *, reviews: int) -> Tensor:
        x = x if gather is None else x.index_select(1, gather)
        return x.view(len(x), reviews, -1, self.heads, x.shape[-1] // self.heads).transpose(2, 3)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Softmax attention, with dropout on its weights, where ``mask`` is not false."""
        return (self._attend_with_dropout if self.dropout.active else self._attend_without)(
            query, key, value, mask
        )

    def _attend_with_dropout(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        """Step by step: torch's own is slower with dropout on a CPU, and its masks belong to no
        named stream.
        """
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if (
            mask is not None
            # -inf is added: filling the scores with it would copy them first, and fill their gradients
            # too
        ):
            scores += torch.zeros_like(mask, dtype=scores.dtype).masked_fill_(~mask, float("-inf"))
        return self.dropout(scores.softmax(-1, scores.dtype), self.attention_dropout) @ value

    def _attend_without(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        copies = max(
            len(query), len(key), len(value)
        )  # a term beside some of the three makes copies of these alone
        query, key, value = (
            x.expand(copies, -1, -1, -1, -1).flatten(0, 1) for x in (query, key, value)
        )
        context = F.scaled_dot_product_attention(
            query, key, value, None if mask is None else mask.repeat(copies, 1, 1, 1)
        )
        return context.view(copies, -1, *context.shape[1:])
