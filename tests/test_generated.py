"""The generated reviews: what a study may rely on. Whether sentences are well made was looked at
when the digest below was taken; it moves with every phrase.
"""

import hashlib
import json
import re
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from lora_replication.data.generated import generate
from tests.tiny_encoders import words

SIZES = {"train": 600, "val": 150, "test": 300}
REVIEWS = generate(SIZES, seed=1)


def test_every_review_has_30_to_80_words_in_whole_sentences_and_none_occurs_twice() -> None:
    texts = [text for part in REVIEWS.values() for text, _ in part]
    assert len(set(texts)) == len(texts) == sum(SIZES.values())
    for text in texts:
        assert 30 <= len(text.split()) <= 80, text
        assert re.fullmatch(r"[A-Z0-9][^{}]*[.?]", text), text


@settings(max_examples=15, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(SIZES, st.integers(0, 25))), st.integers(0, 2**32 - 1))
def test_sizes_and_balance(sizes: dict[str, int], seed: int) -> None:
    for part, rows in generate(sizes, seed).items():
        labels = Counter(label for _, label in rows)
        assert len(rows) == sizes[part]
        assert set(labels) <= {0, 1}
        assert abs(labels[0] - labels[1]) <= 1


def test_a_larger_part_begins_with_the_smaller_and_another_seed_gives_other_reviews() -> None:
    small = generate({"test": 7, "train": 20}, seed=1)
    assert small == {"test": REVIEWS["test"][:7], "train": REVIEWS["train"][:20]}
    one, two = ({text for text, _ in generate({"train": 50}, seed)["train"]} for seed in (1, 2))
    assert not one & two


def test_the_reviews_are_those_that_published_reports_were_made_of() -> None:
    """Whatever the platform, the Python and its hash seed."""
    made = generate({"train": 100, "val": 24, "test": 80}, 2)
    digest = hashlib.sha256(json.dumps(made).encode()).hexdigest()
    assert digest == "eeaa35559f2182be1034beab7c9b30f9169f0e4ba325f0d79d7dd590d1556601"


def test_words_cover_every_token_of_bert() -> None:
    vocabulary = words()
    assert vocabulary == sorted(set(vocabulary))
    lower, split = BertNormalizer(lowercase=True), BertPreTokenizer()
    for text, _ in (row for part in REVIEWS.values() for row in part):
        tokens = split.pre_tokenize_str(lower.normalize_str(text))
        assert {token for token, _ in tokens} <= set(vocabulary), text
