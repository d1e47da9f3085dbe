"""Reviews as token ids, made once from the encoder's vocabulary and kept without padding."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lora_replication.errors import DataError
from lora_replication.files import readable

if TYPE_CHECKING:
    from tokenizers import BertWordPieceTokenizer

NEEDED_TOKENS = ("[UNK]", "[CLS]", "[SEP]")
REVIEWS_AT_ONCE = 500
"""Enough for every core, few enough for a smooth progress bar and little memory."""


@dataclass(frozen=True)
class Tokens:
    """The reviews of one part of a split, one after another.

    Attributes:
        ids: (tokens,) int32, each review from its [CLS] to its [SEP].
        starts: (reviews + 1,) int64; review i is ``ids[starts[i]:starts[i + 1]]``.
        labels: (reviews,) int64, 0 negative or 1 positive, or the number of a class.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        """The number of reviews."""
        return len(self.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(reviews,) tokens of each review, [CLS] and [SEP] included."""
        return np.diff(self.starts)


def load_tokenizer(vocabulary: Path, max_tokens: int) -> "BertWordPieceTokenizer":
    """The uncased WordPiece tokenizer of BERT and DistilBERT, as the encoders' own packages set it
    up, with the ``vocab.txt`` of the encoder; it cuts longer reviews so that [CLS] and [SEP] fit.

    Raises:
        DataError: the vocabulary can't be read or lacks a token that every review needs.
    """
    from tokenizers import BertWordPieceTokenizer

    with readable(vocabulary, "get the encoder's files again", UnicodeDecodeError):
        lines = vocabulary.read_bytes().decode("utf-8").replace("\r\n", "\n").split("\n")
    known = {token: number for number, token in enumerate(lines) if token}
    if missing := [token for token in NEEDED_TOKENS if token not in known]:
        raise DataError(
            f"{vocabulary}: lacks {' '.join(missing)}; "
            "a vocab.txt of an uncased BERT or DistilBERT is needed"
        )
    tokenizer = BertWordPieceTokenizer(known, lowercase=True)
    tokenizer.enable_truncation(max_tokens)
    return tokenizer


def tokenise(
    texts: Sequence[str], labels: Sequence[int], tokenizer: "BertWordPieceTokenizer"
) -> tuple[Tokens, int]:
    """Tokenise reviews, without padding. Returns the tokens, and how many reviews were cut."""
    from tqdm import tqdm

    pieces: list[NDArray[np.int32]] = []
    cut = 0
    # disable=None: no bar where stderr is not a terminal.
    starts = range(0, len(texts), REVIEWS_AT_ONCE)
    for start in tqdm(starts, desc="tokens", leave=False, disable=None if starts[1:] else True):
        encodings = tokenizer.encode_batch(list(texts[start : start + REVIEWS_AT_ONCE]))
        pieces += [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]
        cut += sum(bool(encoding.overflowing) for encoding in encodings)
    places = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
    return Tokens(np.concatenate(pieces), places, np.array(labels, dtype=np.int64)), cut


def tokens_to_bytes(tokens: Tokens) -> bytes:
    """The content of a ``tokens-<part>.safetensors``: equal tokens, equal bytes."""
    from safetensors.numpy import save

    return bytes(save({"ids": tokens.ids, "starts": tokens.starts, "labels": tokens.labels}))


def tokens_from_bytes(content: bytes) -> Tokens:
    """The tokens that ``tokens_to_bytes`` wrote."""
    from safetensors.numpy import load

    return Tokens(**load(content))
