"""A labelled review, what a source holds, and parquet files as reviews are kept in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

PartName = Literal["train", "val", "test"]

PARTS: tuple[PartName, ...] = ("train", "val", "test")
"""The parts of a split, in the order in which the article cuts them."""

NEGATIVE, POSITIVE = 0, 1


class Review(NamedTuple):
    """One review.

    Attributes:
        text: as its author wrote it, ``<br />`` included.
        label: 0 (negative) or 1 (positive); of a table of one's own, the number of its class.
        name: where IMDb's archive keeps it, such as ``test/pos/10_7``, or a table, ``texts.csv:7``;
            None where the source doesn't say.
        movie: the movie's number at IMDb, such as ``tt0453418``; None where the source doesn't say.
    """

    text: str
    label: int
    name: str | None = None
    movie: str | None = None


@dataclass(frozen=True)
class Loaded:
    """All labelled reviews of a source, in the source's own order.

    Attributes:
        reviews: both of IMDb's halves.
        revision: the commit of the source, where it has one.
        files: sha256 of each file that was read, by file name; empty for a folder of 50,000 files.
        classes: names of the labels of a table.
    """

    reviews: list[Review]
    revision: str | None
    files: dict[str, str]
    classes: tuple[str, ...] = ()


MOST_ROWS = 3_000_000
"""Of a table: as many reviews as a study can ask for."""


def read_table(source: Path | bytes, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read ``columns``, or all, of a parquet file or of its content, in the calling thread alone.

    A thread of Arrow's pool that lets go of Python's memory while the interpreter ends aborts the
    process (https://github.com/apache/arrow/issues/34314), whatever exit code it had.

    Raises:
        ArrowException: it is not parquet.
        KeyError: it lacks a column.
        OSError: it can't be read, is damaged, or has more than ``MOST_ROWS``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    opened = pa.BufferReader(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(opened, pre_buffer=False) as file:
        if (rows := file.metadata.num_rows) > MOST_ROWS:
            raise OSError(f"it has {rows:,} rows; allowed: {MOST_ROWS:,}")
        table = file.read(columns, use_threads=False)
    return table if columns is None else table.select(columns)


def table_to_bytes(table: "pa.Table") -> bytes:
    """The content of a parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
