"""What every contender works on: reviews with IMDb's lengths and random words, and encoders of two
sizes.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lora_replication.data.tokens import Tokens
from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS, locate_encoder
from lora_replication.study import ModelParams

LENGTHS = Path(__file__).with_name("review_lengths.json")

GROUPED_BATCHES = 50
"""Batches that the HF Trainer sorts by length together under ``group_by_length``."""

CLS, SEP, FIRST_WORD = 101, 102, 1000
"""Token ids of BERT's vocabulary."""


@dataclass(frozen=True)
class Workload:
    """The reviews of one turn, which a contender repeats as long as it is asked to.

    Both hold ``batches * batch_size`` reviews, one batch after another, and share the distribution
    of IMDb's lengths.

    Attributes:
        random: batches of random reviews, as the article trains.
        grouped: batches of reviews of similar length: evenly spaced ones of those that grouping by
            length makes.
        batch_size: reviews of a batch; ``batches``: of a turn.
        mean_tokens: real tokens of a review of IMDb.
    """

    random: Tokens
    grouped: Tokens
    batch_size: int
    batches: int
    mean_tokens: float

    def rows(self) -> list[NDArray[np.int64]]:
        """The rows of each batch."""
        return np.split(np.arange(self.batches * self.batch_size), self.batches)


def review_lengths(count: int) -> NDArray[np.int64]:
    """``count`` lengths, ascending, at evenly spaced quantiles of IMDb's."""
    table = json.loads(LENGTHS.read_text("utf-8"))["quantiles"]
    places = (np.arange(count) + 0.5) / count
    return np.quantile(table, places, method="hazen").round().astype(np.int64)


def quantiles(lengths: NDArray[np.int64], count: int) -> list[int]:
    """The table of ``review_lengths.json``: of ``count`` equal shares of the lengths, the middle of
    each.
    """
    places = (np.arange(count) + 0.5) / count
    return np.quantile(lengths, places, method="hazen").round().astype(int).tolist()


def make_workload(batches: int, batch_size: int, vocabulary_size: int) -> Workload:
    """The same reviews for every contender and on every machine.

    Args:
        vocabulary_size: token ids are below it.
    """
    draw = np.random.default_rng(1)
    lengths = review_lengths(batches * batch_size)
    sorted_batches = review_lengths(GROUPED_BATCHES * batch_size).reshape(
        GROUPED_BATCHES, batch_size
    )
    chosen = ((np.arange(batches) + 0.5) * GROUPED_BATCHES / batches).astype(int)
    # The longest batch first, as the HF Trainer has it, so that memory is taken once.
    grouped = sorted_batches[chosen[::-1]].ravel()
    return Workload(
        _random_reviews(draw.permutation(lengths), vocabulary_size, draw),
        _random_reviews(grouped, vocabulary_size, draw),
        batch_size,
        batches,
        float(review_lengths(10_000).mean()),
    )


def _random_reviews(
    lengths: NDArray[np.int64], vocabulary_size: int, draw: np.random.Generator
) -> Tokens:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = draw.integers(
        min(FIRST_WORD, vocabulary_size // 2), vocabulary_size, starts[-1], dtype=np.int32
    )
    ids[starts[:-1]], ids[starts[1:] - 1] = CLS, SEP
    return Tokens(ids, starts, draw.integers(0, 2, len(lengths)))


def distilbert_size(folder: Path) -> ModelParams:
    """An encoder of DistilBERT's size with random weights, written into ``folder``."""
    import torch
    import transformers
    from safetensors.torch import save_file

    torch.manual_seed(1)
    config = transformers.DistilBertConfig()
    encoder = transformers.DistilBertModel(config)
    save_file(encoder.state_dict(), folder / WEIGHTS)
    (folder / CONFIG).write_text(config.to_json_string(use_diff=False), "utf-8")
    # MiniLM's vocabulary is byte for byte DistilBERT's.
    shutil.copy(
        locate_encoder(ModelParams(encoder="minilm", max_tokens=512)).vocabulary,
        folder / VOCABULARY,
    )
    return ModelParams(encoder="folder", path=str(folder), max_tokens=512)
