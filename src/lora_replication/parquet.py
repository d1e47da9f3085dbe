"""Parquet files, read by the calling thread alone.

A thread of Arrow's pool that lets go of Python's memory while the interpreter ends aborts the
process (https://github.com/apache/arrow/issues/34314), whatever exit code it had.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(source: Path | bytes, columns: Sequence[str] | None = None) -> "pa.Table":
    """Read ``columns``, or all, of a parquet file or of its content.

    Raises:
        ArrowException: it is not parquet.
        KeyError: it lacks a column.
        OSError: it can't be read, or is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(
        pa.BufferReader(source) if isinstance(source, bytes) else source, pre_buffer=False
    ) as file:
        table = file.read(columns, use_threads=False)
    return table if columns is None else table.select(columns)
