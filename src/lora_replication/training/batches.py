"""Batches of reviews as one run of real tokens: no padding anywhere but inside small groups of
attention.

A batch holds its reviews by ascending length. Losses are means over a batch, so the order inside it
means nothing, and attention can work on neighbours of similar length.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lora_replication.data.tokens import Tokens

SLACK_ON_CPU = 1.0
"""Attention scores computed per score needed.

Small matrix products are cheap on a CPU, so little padding is worth it; on a GPU launching costs
more than padding.
"""

SCORES_OF_A_GROUP = 4096
"""What a further group costs on a CPU in calls, as attention scores that could be computed in that
time.
"""


@dataclass(frozen=True)
class AttentionGroup:
    """Neighbouring reviews of a batch that attend together, padded to the longest of them.

    Attributes:
        reviews: the slice of the batch's reviews; ``tokens``: the slice of its tokens.
        length: of the longest review.
        gather: (reviews * length,) which of the group's tokens stands in each padded place (for
            places beyond a review's end its first token, which ``mask`` hides); null where all
            lengths are equal.
        scatter: (tokens,) the padded place of each real token; null likewise.
        mask: (reviews, 1, 1, length) true for real tokens; null likewise.
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
        rows: (reviews,) their places in the split, by ascending length.
        ids, positions: (tokens,) token ids and their positions inside their reviews.
        first: (reviews,) where each review's first token, [CLS], stands.
        labels: (reviews,) 0 negative, 1 positive.
        groups: the reviews, in order, as groups of attention.
    """

    rows: np.ndarray
    ids: Tensor
    positions: Tensor
    first: Tensor
    labels: Tensor
    groups: tuple[AttentionGroup, ...]


def training_rows(count: int, batch_size: int, order: torch.Generator) -> list[np.ndarray]:
    """The rows of each batch of one epoch: all ``count`` reviews once, in random order; the last
    batch may be smaller.
    """
    return np.split(
        torch.randperm(count, generator=order).numpy(), range(batch_size, count, batch_size)
    )


def evaluation_rows(tokens: Tokens, token_budget: int) -> Iterator[np.ndarray]:
    """Rows of batches of neighbouring lengths, each of at most ``token_budget`` tokens or one
    review.
    """
    order = np.argsort(tokens.lengths, kind="stable")
    start = total = 0
    for place, length in enumerate(tokens.lengths[order]):
        if place > start and total + length > token_budget:
            yield order[start:place]
            start, total = place, 0
        total += int(length)
    yield order[start:]


def collate(tokens: Tokens, rows: np.ndarray, device: torch.device) -> Batch:
    """The reviews ``rows`` as one batch on ``device``."""
    rows = rows[np.argsort(tokens.lengths[rows], kind="stable")]
    lengths = tokens.lengths[rows]
    ends = np.cumsum(lengths)
    first = ends - lengths
    positions = np.arange(ends[-1]) - np.repeat(first, lengths)
    ids = tokens.ids[np.repeat(tokens.starts[rows], lengths) + positions]

    def placed(array: np.ndarray) -> Tensor:
        return torch.from_numpy(array.astype(np.int64)).to(device, non_blocking=True)

    slack = SLACK_ON_CPU if device.type == "cpu" else float("inf")
    groups = tuple(_group(lengths, first, slice(*span), placed) for span in _spans(lengths, slack))
    return Batch(
        rows, placed(ids), placed(positions), placed(first), placed(tokens.labels[rows]), groups
    )


def _spans(lengths: np.ndarray, slack: float) -> Iterator[tuple[int, int]]:
    """Cut ascending ``lengths`` where padding would cost more than ``slack`` times the scores
    needed and a group of its own.
    """
    start, needed = 0, 0
    for place, length in enumerate(lengths.tolist()):
        if (
            place > start
            and (place + 1 - start) * length**2 > slack * (needed + length**2) + SCORES_OF_A_GROUP
        ):
            yield start, place
            start, needed = place, 0
        needed += length**2
    yield start, len(lengths)


def _group(
    lengths: np.ndarray, first: np.ndarray, reviews: slice, placed: Callable[[np.ndarray], Tensor]
) -> AttentionGroup:
    own, longest = lengths[reviews], int(lengths[reviews][-1])
    tokens = slice(int(first[reviews][0]), int(first[reviews][-1] + own[-1]))
    if own[0] == longest:
        return AttentionGroup(reviews, tokens, longest, None, None, None)
    starts = first[reviews] - tokens.start
    places = np.arange(longest)
    real = places < own[:, None]
    gather = np.where(real, starts[:, None] + places, starts[:, None]).ravel()
    return AttentionGroup(
        reviews,
        tokens,
        longest,
        placed(gather),
        placed(np.flatnonzero(real)),
        placed(real)[:, None, None, :].bool(),
    )
