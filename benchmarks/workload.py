"""What every contender works on: reviews with IMDb's lengths and random words, at two sizes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_replication.data.tokens import Tokens
from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS, locate_encoder
from lora_replication.study import ModelParams

LENGTHS = Path(__file__).with_name("review_lengths.json")
BATCH_SIZE = 12
SIZES = ("distilbert-size", "minilm")

GROUPED_BATCHES = 50
"""Batches that the HF Trainer sorts by length together under ``group_by_length``."""

CLS, SEP, FIRST_WORD = 101, 102, 1000
"""Token ids of BERT's vocabulary."""


def batch_rows(reviews: Tokens) -> list[NDArray[np.int64]]:
    """The rows of each batch."""
    return np.split(np.arange(len(reviews)), len(reviews) // BATCH_SIZE)


def review_lengths(count: int) -> NDArray[np.int64]:
    """``count`` lengths, ascending, at evenly spaced quantiles of IMDb's."""
    return np.array(quantiles(json.loads(LENGTHS.read_text("utf-8"))["quantiles"], count))


def quantiles(lengths: NDArray[np.int64], count: int) -> list[int]:
    """Of ``count`` equal shares of the lengths, the middle of each."""
    places = (np.arange(count) + 0.5) / count
    return np.quantile(lengths, places, method="hazen").round().astype(int).tolist()


def mean_tokens() -> float:
    """Of a review of IMDb."""
    return float(review_lengths(10_000).mean())


@cache
def make_workload(batches: int, vocabulary: int) -> tuple[Tokens, Tokens]:
    """The reviews of one turn, batch after batch, of IMDb's lengths, the same on every machine:
    random ones, as the article trains; and batches of reviews of similar length, evenly spaced
    among those that grouping by length makes.
    """
    draw = np.random.default_rng(1)
    lengths = draw.permutation(review_lengths(batches * BATCH_SIZE))
    batched = review_lengths(GROUPED_BATCHES * BATCH_SIZE).reshape(GROUPED_BATCHES, BATCH_SIZE)
    chosen = ((np.arange(batches) + 0.5) * GROUPED_BATCHES / batches).astype(int)
    # The longest batch first, as the HF Trainer has it, so that memory is taken once.
    by_length = batched[chosen[::-1]].ravel()
    return random_reviews(lengths, vocabulary, draw), random_reviews(by_length, vocabulary, draw)


def random_reviews(
    lengths: NDArray[np.int64], vocabulary: int, draw: np.random.Generator
) -> Tokens:
    """Reviews of these lengths, in tokens, with random labels and words of the ``vocabulary``."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    first = min(FIRST_WORD, vocabulary // 2)
    ids = draw.integers(first, vocabulary, starts[-1], dtype=np.int32)
    ids[starts[:-1]], ids[starts[1:] - 1] = CLS, SEP
    return Tokens(ids, starts, draw.integers(0, 2, len(lengths)))


def reviews_in(tokens: Tokens) -> list[dict[str, Any]]:
    """Reviews as the peers take them: ids and mask as lists, and a label."""
    ids = [each.tolist() for each in np.split(tokens.ids, tokens.starts[1:-1])]
    return [
        {"input_ids": own, "attention_mask": [1] * len(own), "labels": int(label)}
        for own, label in zip(ids, tokens.labels, strict=True)
    ]


@contextmanager
def model_of(size: str) -> Iterator[ModelParams]:
    """The encoder of ``size``, one of ``SIZES`` or a folder, for as long as the context lasts."""
    with TemporaryDirectory() as folder:
        if size == "minilm":
            yield ModelParams(encoder=size, max_tokens=512)
        else:
            path = distilbert_size(Path(folder)) if size == "distilbert-size" else size
            yield ModelParams(encoder="folder", path=str(path), max_tokens=512)


def distilbert_size(folder: Path) -> Path:
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
    minilm = locate_encoder(ModelParams(encoder="minilm", max_tokens=512))
    shutil.copy(minilm.vocabulary, folder / VOCABULARY)
    return folder
