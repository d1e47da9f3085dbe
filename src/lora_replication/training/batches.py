"""Batches as one sequence of real tokens: nothing is padded but small groups in attention.

The reviews of a batch are sorted by length. Losses are means over a batch, so their order means
nothing, and attention works on neighbours of similar length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_replication.data.tokens import Tokens

SLACK_ON_CPU = 1.0
"""Attention scores computed per score needed. On a GPU launching costs more than any padding."""

SCORES_OF_A_GROUP = 4096
"""The cost of the calls for another group on a CPU, in attention scores computed in that time."""

TOKENS_ROUNDED, LENGTH_ROUNDED = 512, 128
"""Where batches are to have few sizes, their tokens, and the length of attention, are multiples of
these: of 12 of IMDb's reviews, cut at 512 tokens, all but a few have one of eight sizes.
"""


@dataclass(frozen=True)
class AttentionGroup:
    """Neighbouring reviews of a batch that attend together, padded to the longest of them.

    Attributes:
        reviews: the slice of the batch's reviews; ``tokens``: the slice of its tokens.
        length: of the longest review.
        gather: (reviews * length,) which of the group's tokens is at each padded position (beyond
            a review's end its first token, which ``mask`` hides); None if all lengths are equal.
        scatter: (tokens,) the padded position of each real token; None likewise.
        mask: (reviews, 1, 1, length) true for real tokens; None likewise.
    """

    reviews: slice
    tokens: slice
    length: int
    gather: Tensor | None
    scatter: Tensor | None
    mask: Tensor | None


@dataclass(frozen=True)
class Batch:
    """Some reviews on a device.

    Attributes:
        rows: (reviews,) their indices in the split, by ascending length.
        ids, positions: (tokens,) token ids and their positions inside their reviews.
        first: (reviews,) the index of each review's first token, [CLS].
        labels: (reviews,) 0 negative, 1 positive, or the number of a class.
        groups: the reviews, in order, as groups of attention.
    """

    rows: np.ndarray
    ids: Tensor
    positions: Tensor
    first: Tensor
    labels: Tensor
    groups: tuple[AttentionGroup, ...]

    @property
    def tensors(self) -> list[Tensor]:
        """All that a forward pass reads."""
        of_groups = (t for each in self.groups for t in (each.gather, each.scatter, each.mask))
        own = [self.ids, self.positions, self.first, self.labels]
        return own + [tensor for tensor in of_groups if tensor is not None]


def training_rows(count: int, batch_size: int, order: torch.Generator) -> list[np.ndarray]:
    """The rows of each batch of one epoch: all ``count`` reviews once, in random order."""
    shuffled = torch.randperm(count, generator=order).numpy()
    return np.split(shuffled, range(batch_size, count, batch_size))


def evaluation_rows(tokens: Tokens, token_budget: int) -> Iterator[np.ndarray]:
    """Rows of batches of similar lengths, each of at most ``token_budget`` tokens or one review."""
    order = np.argsort(tokens.lengths, kind="stable")
    start = total = 0
    for index, length in enumerate(tokens.lengths[order]):
        if index > start and total + length > token_budget:
            yield order[start:index]
            start, total = index, 0
        total += int(length)
    yield order[start:]


def collate(
    tokens: Tokens, rows: np.ndarray, device: torch.device, *, rounded: bool = False
) -> Batch:
    """The reviews ``rows`` as one batch on ``device``.

    Args:
        rounded: have one group, and sizes that are multiples of ``TOKENS_ROUNDED`` and
            ``LENGTH_ROUNDED``: tokens of no review, which nothing reads, are at the end.
    """
    rows = rows[np.argsort(tokens.lengths[rows], kind="stable")]
    lengths = tokens.lengths[rows]
    ends = np.cumsum(lengths)
    first = ends - lengths
    positions = np.arange(ends[-1]) - np.repeat(first, lengths)
    ids = tokens.ids[np.repeat(tokens.starts[rows], lengths) + positions]

    def move(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    slack = SLACK_ON_CPU if device.type == "cpu" else float("inf")
    groups: tuple[AttentionGroup, ...]
    if rounded:
        end = np.zeros(-len(ids) % TOKENS_ROUNDED, np.int64)
        ids, positions = np.append(ids, end), np.append(positions, end)
        length = int(lengths[-1]) + -int(lengths[-1]) % LENGTH_ROUNDED
        whole = slice(0, len(rows)), slice(0, len(ids))
        groups = (_padded(lengths, first, *whole, length, move),)
    else:
        groups = tuple(
            _group(lengths, first, slice(*span), move) for span in _spans(lengths, slack)
        )
    return Batch(rows, move(ids), move(positions), move(first), move(tokens.labels[rows]), groups)


def _spans(lengths: np.ndarray, slack: float) -> Iterator[tuple[int, int]]:
    """Cut ascending ``lengths`` where padding costs more than ``slack`` and another group."""
    start, needed = 0, 0
    for index, length in enumerate(lengths.tolist()):
        padded = (index + 1 - start) * length**2
        if index > start and padded > slack * (needed + length**2) + SCORES_OF_A_GROUP:
            yield start, index
            start, needed = index, 0
        needed += length**2
    yield start, len(lengths)


def _group(
    lengths: np.ndarray, first: np.ndarray, reviews: slice, move: Callable[[np.ndarray], Tensor]
) -> AttentionGroup:
    own, longest = lengths[reviews], int(lengths[reviews][-1])
    tokens = slice(int(first[reviews][0]), int(first[reviews][-1] + own[-1]))
    if own[0] == longest:
        return AttentionGroup(reviews, tokens, longest, None, None, None)
    return _padded(own, first[reviews] - tokens.start, reviews, tokens, longest, move)


def _padded(
    lengths: np.ndarray,
    starts: np.ndarray,
    reviews: slice,
    tokens: slice,
    length: int,
    move: Callable[[np.ndarray], Tensor],
) -> AttentionGroup:
    """A group padded to ``length``; tokens after those of its reviews get any context."""
    real = np.arange(length) < lengths[:, None]
    gather = np.where(real, starts[:, None] + np.arange(length), starts[:, None]).ravel()
    scatter = np.flatnonzero(real)
    scatter = np.append(scatter, np.zeros(tokens.stop - tokens.start - len(scatter), np.int64))
    mask = move(real)[:, None, None, :].bool()
    return AttentionGroup(reviews, tokens, length, move(gather), move(scatter), mask)
