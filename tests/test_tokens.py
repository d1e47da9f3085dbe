"""Tokens are those that the encoders' own tokenizer makes, kept without padding."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lora_replication.data.tokens import (
    REVIEWS_AT_ONCE,
    Tokens,
    load_tokenizer,
    tokenise,
    tokens_from_bytes,
    tokens_to_bytes,
)
from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError
from lora_replication.study import ModelParams

TRICKY = [
    "",
    "NA",
    " \t\r\n ",
    "A great movie.<br /><br />10/10 — would watch again!!!",
    "Amélie's naïve café, ÅNGSTRÖM, İstanbul, straße",
    "映画 is film, кино too, العربية",
    "nul \0 bell \a zero-width \u200b soft\u00ad hyphen \ufeff",
    "🎬🍿 :-) <3",
    "don't o'clock 3.14 $5 50% #1 @home e-mail snake_case",
    "[CLS] a [SEP] b [MASK] [PAD] [UNK] [sep]",
    "x" * 101 + " " + "y" * 100,
    "ﬁne ligatures ① ½ Ⅷ",
    "word " * 1000,
]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A vocabulary whose ids are worked by hand: [UNK] 0, [CLS] 1, [SEP] 2, a 3, b 4, ##b 5."""
    (tmp_path / "vocab.txt").write_text("[UNK]\n[CLS]\n[SEP]\na\nb\n##b\n")
    return tmp_path / "vocab.txt"


@pytest.mark.parametrize("max_tokens", [3, 16, 512])
def test_tokens_are_those_of_the_encoders_own_tokenizer(max_tokens: int) -> None:
    encoder = locate_encoder(ModelParams(encoder="minilm", max_tokens=max_tokens))
    theirs = AutoTokenizer.from_pretrained(encoder.folder)
    ours = load_tokenizer(encoder.vocabulary, max_tokens)
    tokens, cut = tokenise(TRICKY, [0] * len(TRICKY), ours)
    whole = theirs(TRICKY, truncation=True, max_length=100_000)["input_ids"]
    expected = theirs(TRICKY, truncation=True, max_length=max_tokens)["input_ids"]
    assert [each.tolist() for each in np.split(tokens.ids, tokens.starts[1:-1])] == expected
    assert cut == sum(len(ids) > max_tokens for ids in whole)
    assert ours.get_vocab() == theirs.get_vocab()


def test_ids_starts_and_cut_by_hand(small: Path) -> None:
    tokens, cut = tokenise(
        ["a ab", "", "B c a a", "a b a b"], [1, 0, 0, 1], load_tokenizer(small, 5)
    )
    assert tokens.ids.tolist() == [1, 3, 3, 5, 2, 1, 2, 1, 4, 0, 3, 2, 1, 3, 4, 3, 2]
    assert tokens.starts.tolist() == [0, 5, 7, 12, 17]
    assert tokens.lengths.tolist() == [5, 2, 5, 5]
    assert tokens.labels.tolist() == [1, 0, 0, 1]
    assert len(tokens) == 4
    assert cut == 2
    arrays = (tokens.ids, tokens.starts, tokens.labels)
    assert [array.dtype.name for array in arrays] == ["int32", "int64", "int64"]


@pytest.mark.goal("property", "tokens ignore batches")
def test_what_is_tokenised_together_changes_nothing(small: Path) -> None:
    texts = ["a " * (number % 7) + "b" * (number % 3) for number in range(2 * REVIEWS_AT_ONCE + 1)]
    tokens, cut = tokenise(texts, [0] * len(texts), load_tokenizer(small, 6))
    alone = [tokenise([text], [0], load_tokenizer(small, 6)) for text in texts[:21]]
    assert tokens.ids[: tokens.starts[21]].tolist() == [t for piece, _ in alone for t in piece.ids]
    assert cut == sum(number % 7 + number % 3 > 4 for number in range(len(texts)))


PIECES = st.lists(st.integers(0, 2**31 - 1), min_size=2)


@given(st.lists(st.tuples(PIECES, st.integers(0, 1)), min_size=1))
@pytest.mark.goal("property", "tokens survive")
def test_bytes_keep_tokens(reviews: list[tuple[list[int], int]]) -> None:
    ids = np.array([token for piece, _ in reviews for token in piece], dtype=np.int32)
    starts = np.cumsum([0, *(len(piece) for piece, _ in reviews)])
    tokens = Tokens(ids, starts, np.array([label for _, label in reviews]))
    back = tokens_from_bytes(tokens_to_bytes(tokens))
    for name in ("ids", "starts", "labels"):
        assert getattr(back, name).dtype == getattr(tokens, name).dtype
        assert np.array_equal(getattr(back, name), getattr(tokens, name))
    assert tokens_to_bytes(back) == tokens_to_bytes(tokens)


def test_a_vocabulary_that_is_missing_or_is_none_is_told(tmp_path: Path) -> None:
    file = tmp_path / "vocab.txt"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"vocab\.txt: can't be read"):
        load_tokenizer(file, 512)
    file.write_text("a\n[CLS]\n")
    with pytest.raises(DataError, match=r"vocab\.txt: lacks \[UNK\] \[SEP\]"):
        load_tokenizer(file, 512)
