"""The article's split comes out bit for bit from every source that holds IMDb's reviews, and from
nothing else.
"""

import hashlib
import os
import random
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_replication.data import split
from lora_replication.data.imdb import read_archive, read_folder, read_parquet_folder
from lora_replication.data.reviews import PartName, Review
from lora_replication.data.split import article_split, canonical_order, csv_digest
from lora_replication.errors import DataError

ARTICLE = {
    "train": "6691a04a7b11a1e8a4528c78e662b1fa5170d6da7d4694c6fa5bdb55407ca278",
    "val": "183b015f89bec14cffae4ce68b1ca9dd8f6ba0114f0e3e054da06e06b7853cab",
    "test": "45d55eb057e04089131f8124ceeb8f161f69edb7721668fa4d9035f326b7e23d",
}

# In the article's order: test before train, pos before neg, names as plain strings. "same" stands
# twice with label 1, once with 0.
IN_ORDER = [
    Review("a", 1, "test/pos/10_7"), Review("same", 1, "test/pos/2_9"),
    Review("same", 0, "test/neg/1_1"), Review("b", 1, "train/pos/0_8"),
    Review("same", 1, "train/pos/11_8"), Review("c", 0, "train/neg/5_3"),
]  # fmt: skip


def order_of(reviews: list[Review]) -> bytes:
    """What ``article_order.bin`` holds: 8 bytes of sha256 of label and text, in order."""
    contents = (bytes([review.label]) + review.text.encode() for review in reviews)
    return b"".join(hashlib.sha256(content).digest()[:8] for content in contents)


ORDER = order_of(IN_ORDER)


@given(st.permutations(IN_ORDER))
@pytest.mark.goal("property", "order of the source")
def test_reviews_come_out_in_order_from_any_order_with_names_and_without(shuffled):
    assert canonical_order(shuffled, ORDER) == IN_ORDER
    bare = [review._replace(name=None) for review in shuffled]
    expected = [review[:2] for review in IN_ORDER]
    assert [review[:2] for review in canonical_order(bare, ORDER)] == expected


OTHERS = [Review("c", 1), Review("c ", 0, "train/neg/5_3")]


@pytest.mark.parametrize(
    ("reviews", "told"),
    [
        (IN_ORDER[:5], "5 labelled reviews, of which 0 are not .* lacks 1 of IMDb's 6;"),
        ([*IN_ORDER[:5], OTHERS[0]], "6 .* 1 are not .* lacks 1 .* first of those is row 5;"),
        ([*IN_ORDER, IN_ORDER[0]], "1 are not IMDb's or there too often, and lacks 0"),
        ([*IN_ORDER[:5], OTHERS[1]], "1 are not .* lacks 1 .* first of those is train/neg/5_3;"),
    ],
)
@pytest.mark.fault(16)
def test_what_is_missing_or_unknown_is_counted_and_named(reviews: list[Review], told: str) -> None:
    with pytest.raises(DataError, match=told):
        canonical_order(reviews, ORDER)


def test_the_csv_is_the_one_that_pandas_writes() -> None:
    texts = [
        'say "no"', "a, b", "plain", "", "line\nbreak", " spaces ", "café", "NA", "'", '"',
        "nul \0", "tab\t", "<br />",
    ]  # fmt: skip
    written = b'index,text,label\n0,"say ""no""",0\n0,"a, b",0\n0,plain,0\n'
    first = [Review(text, 0) for text in texts[:3]]
    assert csv_digest(first) == hashlib.sha256(written).hexdigest()
    table = pd.DataFrame({"index": 0, "text": texts, "label": 1}).to_csv(index=False)
    every = [Review(text, 1) for text in texts]
    assert csv_digest(every) == hashlib.sha256(table.encode()).hexdigest()


@pytest.fixture(scope="module")
def imdb() -> list[Review]:
    named = os.environ.get("IMDB_ARCHIVE")
    if not named:
        pytest.skip("IMDB_ARCHIVE names no archive of IMDb reviews")
    return read_archive(Path(named)).reviews


@pytest.fixture(scope="module")
def article(imdb: list[Review]) -> dict[PartName, list[Review]]:
    return article_split(imdb)


@pytest.mark.reviews
def test_the_archive_gives_the_articles_split(article: dict[PartName, list[Review]]) -> None:
    assert {part: csv_digest(reviews) for part, reviews in article.items()} == ARTICLE
    assert [len(article[part]) for part in ("train", "val", "test")] == [35_000, 5_000, 10_000]
    assert len({review.name for reviews in article.values() for review in reviews}) == 50_000


@pytest.mark.reviews
def test_the_shipped_order_and_the_split_are_the_archives_by_name(imdb, article):
    """Folder by folder, names in plain string order; then numpy's permutation."""
    folders = ["test/pos", "test/neg", "train/pos", "train/neg"]
    in_order = sorted(imdb, key=lambda r: (folders.index(r.name.rpartition("/")[0]), r.name))
    assert order_of(in_order) == split.ORDER_FILE.read_bytes()
    expected = [in_order[row].name for row in np.random.RandomState(1).permutation(50_000)]
    assert [review.name for reviews in article.values() for review in reviews] == expected


@pytest.mark.reviews
def test_a_shuffled_copy_in_parquet_gives_the_same(imdb, article, tmp_path):
    shuffled = random.Random(7).sample(imdb, len(imdb))  # noqa: S311
    for number, rows in enumerate((shuffled[:20_000], shuffled[20_000:])):
        table = pa.table({"text": [r.text for r in rows], "label": [r.label for r in rows]})
        pq.write_table(table, tmp_path / f"copy-{number}.parquet")
    copy = article_split(read_parquet_folder(tmp_path).reviews)
    for part, reviews in article.items():
        assert [review[:2] for review in copy[part]] == [review[:2] for review in reviews]


@pytest.mark.reviews
def test_an_unpacked_folder_gives_the_same_with_names(imdb, article, tmp_path):
    root = tmp_path / "aclImdb"
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        (root / part).mkdir(parents=True)
    for review in imdb:
        (root / f"{review.name}.txt").write_bytes(review.text.encode())
    copy = article_split(read_folder(tmp_path).reviews)
    for part, reviews in article.items():
        assert copy[part] == [review._replace(movie=None) for review in reviews]


@pytest.mark.reviews
def test_a_wrong_order_does_not_pass_for_the_articles(imdb, tmp_path, monkeypatch):
    order = split.ORDER_FILE.read_bytes()
    (tmp_path / "order.bin").write_bytes(order[8:16] + order[:8] + order[16:])
    monkeypatch.setattr(split, "ORDER_FILE", tmp_path / "order.bin")
    with pytest.raises(DataError, match="split: as the article's CSV it has sha256"):
        article_split(imdb)
