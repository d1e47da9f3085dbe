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
        """All that training reads."""
        own = [self.ids, self.positions, self.first, self.labels]
        groups = [t for each in self.groups for t in (each.gather, each.scatter, each.mask)]
        return own + [tensor for tensor in groups if tensor is not None]


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
    """The reviews ``rows`` as one batch on ``device``; if ``rounded``, one group whose sizes are
    multiples of ``TOKENS_ROUNDED`` and ``LENGTH_ROUNDED``: nothing reads the tokens at its end.
    """
    rows = rows[np.argsort(tokens.lengths[rows], kind="stable")]
    lengths = tokens.lengths[rows]
    ends = np.cumsum(lengths)
    first = ends - lengths
    positions = np.arange(ends[-1]) - np.repeat(first, lengths)
    ids = tokens.ids[np.repeat(tokens.starts[rows], lengths) + positions]

    def move(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    end = None
    if rounded:
        end = len(ids) + -len(ids) % TOKENS_ROUNDED
        ids, positions = (np.pad(each, (0, end - len(each))) for each in (ids, positions))
    slack = SLACK_ON_CPU if device.type == "cpu" and not rounded else float("inf")
    spans = [slice(*span) for span in _spans(lengths, slack)]
    groups = tuple(_group(lengths, first, span, move, end) for span in spans)
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
    lengths: np.ndarray,
    first: np.ndarray,
    reviews: slice,
    move: Callable[[np.ndarray], Tensor],
    end: int | None = None,
) -> AttentionGroup:
    """Padded to the longest review; with an ``end`` of tokens after it that are of none, whose
    context is that of some other, to a multiple of ``LENGTH_ROUNDED``.
    """
    own, longest = lengths[reviews], int(lengths[reviews][-1])
    tokens = slice(int(first[reviews][0]), end or int(first[reviews][-1] + own[-1]))
    if end:
        longest += -longest % LENGTH_ROUNDED
    elif own[0] == longest:
        return AttentionGroup(reviews, tokens, longest, None, None, None)
    starts = first[reviews] - tokens.start
    real = np.arange(longest) < own[:, None]
    gather = np.where(real, starts[:, None] + np.arange(longest), starts[:, None]).ravel()
    scatter = np.pad(np.flatnonzero(real), (0, tokens.stop - tokens.start - own.sum()))
    mask = move(real)[:, None, None, :].bool()
    return AttentionGroup(reviews, tokens, longest, move(gather), move(scatter), mask)
