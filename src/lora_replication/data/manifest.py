"""The manifest that vouches for a study's prepared files, and the reading of both.

A file's sha256 is taken from the same bytes that are then used, each time it is read.
"""

import hashlib
from operator import not_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, ValidationError

from lora_replication.allowed import CLASSES, Classes, Part
from lora_replication.data.reviews import PARTS, PartName, read_table
from lora_replication.data.tokens import Tokens, tokens_from_bytes
from lora_replication.errors import DataError, first_problem
from lora_replication.files import digest, readable
from lora_replication.study import Study, TableParams

if TYPE_CHECKING:
    import pyarrow as pa

MANIFEST = "manifest.json"
TEST_REVIEWS = "test_reviews.parquet"
AGAIN = "prepare the data again (dvc repro prepare)"


class SplitPart(Part):
    """One part, with its share of negative reviews (label 0); of a table, the counts of classes."""

    reviews: int
    negative_fraction: float
    reviews_sha256: str
    tokens_sha256: str
    classes: dict[str, int] = Field(default={}, exclude_if=not_)


class EncoderNote(Part):
    """The encoder that the data was prepared for; ``weights_sha256`` is ``Encoder.sha256``."""

    name: str
    revision: str | None
    weights_sha256: str


class Lengths(Part):
    """Tokens per review over all parts, after the cut, [CLS] and [SEP] included."""

    mean: float
    median: float
    longest: int
    cut_fraction: float


class Repeats(Part):
    """Texts that occur more than once in the study; they are left in, as in the article.

    Attributes:
        of_earlier: reviews whose text an earlier review has too, in the order train, val, test.
        test_in_train: test reviews whose text is also in train.
        conflicting: texts that occur with both labels, or several.
    """

    of_earlier: int
    test_in_train: int
    conflicting: int


class Manifest(Part):
    """What a study's reviews and tokens are.

    Attributes:
        source: as in ``study.DataParams``; ``generated_seed`` and ``table`` likewise, None for
            other sources; ``classes``: names of the labels 0, 1 ...
        revision: the commit of the hub's repository, or None.
        source_files: sha256 of each file that was read, where there are few.
        parts: train, val and test.
        article_csv_sha256: of the article's three CSV files, which the whole split was found equal
            to; None for others.
        encoder: whose vocabulary, with ``vocabulary_sha256``, made the tokens.
        max_tokens: longer reviews were cut there.
        lengths, repeats: over the study's own reviews.
        test_reviews_sha256: of the file that ``read_test_reviews`` reads.
        test_movies_in_train_fraction: share of test reviews of a movie that also has train reviews;
            None where the source names no movies.
    """

    schema_version: Literal[2] = 2
    source: str
    generated_seed: int | None
    revision: str | None
    source_files: dict[str, str]
    parts: Annotated[dict[PartName, SplitPart], Field(min_length=len(PARTS))]
    article_csv_sha256: dict[PartName, str] | None
    encoder: EncoderNote
    vocabulary_sha256: str
    max_tokens: int
    lengths: Lengths
    repeats: Repeats
    test_reviews_sha256: str
    test_movies_in_train_fraction: float | None
    table: TableParams | None = Field(default=None, exclude_if=not_)
    classes: Classes = Field(CLASSES, exclude_if=CLASSES.__eq__)

    @property
    def digest(self) -> str:
        """sha256 of what decides a run's result: the tokens, the vocabulary, the cut."""
        tokens = {name: part.tokens_sha256 for name, part in self.parts.items()}
        return digest(
            {"tokens": tokens, "vocabulary": self.vocabulary_sha256, "max_tokens": self.max_tokens}
        )

    def differences(self, study: Study) -> list[str]:
        """What ``study`` asks of its data that this is not: key, value there and here."""
        data, model = study.data, study.model
        sizes = {part: split.reviews for part, split in self.parts.items()}
        seed = data.generated_seed if data.source == "generated" else None
        pairs = {
            "data.source": (data.source, self.source),
            "data.reviews": (data.reviews.model_dump(), sizes),
            "data.generated_seed": (seed, self.generated_seed),
            "data.table": (data.table, self.table),
            "model.encoder": (model.encoder, self.encoder.name),
            "model.max_tokens": (model.max_tokens, self.max_tokens),
        }
        return [f"{key} is {ask}, not {own}" for key, (ask, own) in pairs.items() if ask != own]


def reviews_file(folder: Path, part: PartName) -> Path:
    """Where the reviews of ``part`` are: text, label (0 negative, 1 positive), review
    (``test/pos/10_7``, ``texts.csv:7`` or null), movie (``tt0453418`` or null).
    """
    return folder / f"{part}.parquet"


def tokens_file(folder: Path, part: PartName) -> Path:
    """Where the tokens of ``part`` are."""
    return folder / f"tokens-{part}.safetensors"


def read_manifest(folder: Path) -> Manifest:
    """The manifest in ``folder``. Raises ``DataError`` where it is missing or damaged."""
    try:
        return Manifest.model_validate_json(_content(folder / MANIFEST))
    except ValidationError as problem:
        key, _, wrong = first_problem(problem)
        raise DataError(
            f"{folder / MANIFEST}: no manifest of schema 2 ({key}: {wrong}); {AGAIN}"
        ) from None


def read_tokens(folder: Path, part: PartName, manifest: Manifest) -> Tokens:
    """The tokens of ``part``. Raises ``DataError`` where ``manifest`` doesn't vouch for them."""
    file = tokens_file(folder, part)
    return tokens_from_bytes(_vouched(file, manifest.parts[part].tokens_sha256))


def read_test_reviews(folder: Path, manifest: Manifest) -> "pa.Table":
    """What is known of each test review but its text, in the order of the split.

    The columns are review (``test/pos/10_7``), movie (``tt0453418``), unseen_movie (whether no
    training review is of the same movie), all null where the source doesn't say; and repeated
    (whether its text occurs anywhere else in the study). Reports are made from it and published
    with it. Raises ``DataError`` as ``read_tokens`` does.
    """
    return read_table(_vouched(folder / TEST_REVIEWS, manifest.test_reviews_sha256))


def _vouched(file: Path, expected: str) -> bytes:
    content = _content(file)
    if (found := hashlib.sha256(content).hexdigest()) != expected:
        raise DataError(
            f"{file}: has sha256 {found}, but {MANIFEST} next to it says {expected}; "
            f"the file was altered: {AGAIN}"
        )
    return content


def _content(file: Path) -> bytes:
    with readable(file, AGAIN):
        return file.read_bytes()
