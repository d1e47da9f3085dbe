"""The article's split of the 50,000 labelled reviews, bit for bit, from any source that holds them.

The article's scripts read the reviews folder by folder, file names in plain string order, and
shuffled them with ``RandomState(1)``. A source without file names, or with another order, is put
into that order by content: ``article_order.bin`` holds, for each place in it, the first 8 bytes of
the sha256 of label and text. Equal texts with equal labels are interchangeable. The result is
checked against the SHA-256 of the three CSV files that the article's scripts wrote.

Source: Sebastian Raschka, "Code LoRA from Scratch", Lightning AI, December 2023.
"""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lora_replication.data.reviews import PARTS, PartName, Review
from lora_replication.errors import DataError
from lora_replication.study import ARTICLE_REVIEWS

ORDER_FILE = Path(__file__).with_name("article_order.bin")
HASH_BYTES = 8
SHUFFLE_SEED = 1

CSV_DIGESTS: dict[PartName, str] = {
    "train": "6691a04a7b11a1e8a4528c78e662b1fa5170d6da7d4694c6fa5bdb55407ca278",
    "val": "183b015f89bec14cffae4ce68b1ca9dd8f6ba0114f0e3e054da06e06b7853cab",
    "test": "45d55eb057e04089131f8124ceeb8f161f69edb7721668fa4d9035f326b7e23d",
}
"""sha256 of the article's train.csv, val.csv and test.csv."""


def article_split(reviews: list[Review]) -> dict[PartName, list[Review]]:
    """The article's train, val and test reviews, in its order.

    Args:
        reviews: all 50,000, in any order, with or without names.

    Raises:
        DataError: the reviews are not exactly IMDb's, or the split differs from the article's.
    """
    ordered = canonical_order(reviews, ORDER_FILE.read_bytes())
    shuffled = iter(np.random.RandomState(SHUFFLE_SEED).permutation(len(ordered)))
    split = {
        part: [ordered[next(shuffled)] for _ in range(ARTICLE_REVIEWS[part])] for part in PARTS
    }
    for part, expected in CSV_DIGESTS.items():
        if (found := csv_digest(split[part])) != expected:
            raise DataError(
                f"{part} split: as the article's CSV it has sha256 {found}, expected is "
                f"{expected}; get the reviews again"
            )
    return split


def canonical_order(reviews: list[Review], order: bytes) -> list[Review]:
    """Bring ``reviews`` into the order that ``order`` describes as ``article_order.bin`` does.

    Where a text occurs twice with one label, the reviews with names take its places in the order of
    their names.

    Raises:
        DataError: with the numbers of reviews that are missing and unknown (also: once too often),
            and the first unknown one.
    """
    expected = np.frombuffer(order, dtype=">u8")
    keyed = (bytes([review.label]) + review.text.encode("utf-8") for review in reviews)
    found = [int.from_bytes(hashlib.sha256(one).digest()[:HASH_BYTES]) for one in keyed]
    places = np.argsort(expected, kind="stable")
    rows = sorted(range(len(reviews)), key=lambda row: (found[row], _place(reviews[row])))
    if [found[row] for row in rows] != expected[places].tolist():
        raise DataError(_difference(expected.tolist(), found, reviews))
    ordered = dict(zip(places.tolist(), rows, strict=True))
    return [reviews[ordered[place]] for place in range(len(ordered))]


def csv_digest(reviews: Iterable[Review]) -> str:
    """sha256 of the CSV file that the article's scripts wrote of ``reviews``; its index is 0."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "text", "label"))
    writer.writerows((0, review.text, review.label) for review in reviews)
    return hashlib.sha256(text.getvalue().encode()).hexdigest()


def _place(review: Review) -> tuple[bool, bool, str]:
    """Sorts as the article: test before train, pos before neg, names as plain strings."""
    half, kind, stem = review.name.split("/") if review.name else ("", "", "")
    return half != "test", kind != "pos", stem


def _difference(expected: list[int], found: list[int], reviews: list[Review]) -> str:
    missing = (Counter(expected) - Counter(found)).total()
    surplus = Counter(found) - Counter(expected)
    message = (
        f"the source holds {len(reviews):,} labelled reviews, of which {surplus.total():,} are not "
        f"IMDb's or there too often, and lacks {missing:,} of IMDb's {len(expected):,}"
    )
    if surplus:
        row = next(row for row, value in enumerate(found) if value in surplus)
        message += f"; the first of those is {reviews[row].name or f'row {row}'}"
    return f"{message}; the article's split needs exactly IMDb's reviews, get them again"
