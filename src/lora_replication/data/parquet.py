"""A local parquet copy of the reviews: rows in any order, columns ``text`` and ``label``, no names,
no movies.
"""

from pathlib import Path

import pyarrow as pa

from lora_replication.data.reviews import MOST_BYTES, NEGATIVE, POSITIVE, Loaded, Review
from lora_replication.errors import DataError
from lora_replication.files import file_digest
from lora_replication.tables import read_table

HUB_FILES = ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet")
"""The files with the labelled reviews in the hub's repository ``stanfordnlp/imdb``."""


def read_parquet_folder(folder: Path) -> Loaded:
    """Read the hub's two files below ``folder``, or else every ``*.parquet`` file right in it.

    Raises:
        DataError: there are no such files, or one of them can't be read, lacks a column, or holds a
            row that is no review.
    """
    hub_files = [folder / name for name in HUB_FILES]
    files = (
        hub_files if all(file.is_file() for file in hub_files) else sorted(folder.glob("*.parquet"))
    )
    if not files:
        raise DataError(
            f"{folder}: holds neither {' and '.join(HUB_FILES)} nor other .parquet files; data.path names a folder with them"
        )
    reviews = []
    digests = {}
    for file in files:
        reviews += _rows(file)
        digests[file.relative_to(folder).as_posix()] = file_digest(file)
    return Loaded(reviews, None, digests)


def _rows(file: Path) -> list[Review]:
    try:
        table = read_table(file)
    except (pa.ArrowException, OSError) as problem:
        raise DataError(f"{file}: can't be read as parquet ({problem}); copy it again") from None
    return rows_of_table(table, str(file))


def rows_of_table(table: pa.Table, origin: str) -> list[Review]:
    """The reviews of a table with columns ``text`` (string) and ``label`` (0 or 1).

    Raises:
        DataError: naming ``origin`` and the row, counted from 0, that is no review.
    """
    for column, is_fit, kind in (
        ("text", _is_text, "text"),
        ("label", pa.types.is_integer, "whole numbers"),
    ):
        if column not in table.column_names or not is_fit(table.schema.field(column).type):
            raise DataError(
                f"{origin}: needs a column {column} of {kind}, but has {', '.join(map(str, table.schema))}"
            )
    # As bytes, so that a text that is not UTF-8 can be named by its row.
    texts = table["text"].cast(pa.large_string()).cast(pa.large_binary()).to_pylist()
    labels = table["label"].to_pylist()
    return [
        _review(text, label, f"{origin}: row {row}")
        for row, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _review(text: bytes | None, label: object, where: str) -> Review:
    if label not in (NEGATIVE, POSITIVE):
        raise DataError(f"{where} has label {label!r}, allowed are 0 (negative) and 1 (positive)")
    if text is None or len(text) > MOST_BYTES:
        raise DataError(
            f"{where} has {'no text' if text is None else f'{len(text):,} bytes'}, needed is a text of at most {MOST_BYTES:,}"
        )
    try:
        return Review(text.decode("utf-8"), int(label == POSITIVE))
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{where} is not UTF-8 at byte {problem.start}; reviews are taken as they are or not at all"
        ) from None
