"""Tables as data: a list of columns makes of a list of rows what every output shows.

One column states its heading, where its value comes from and how it is written; a page, Markdown,
CSV, LaTeX and the terminal follow from it.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lora_replication.report.words import ABSENT, text
from lora_replication.statistics import Interval

FORMULA_STARTS = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heading: on the page, with its unit; empty: not there.
        value: what it takes from a row: a path of attributes, or a function.
        show: how the value is written.
        note, alert: of a row, the remark below the value, and whether it deserves attention.
        left: it holds words; other columns hold numbers.
        name: in CSV, where the ends of an interval are ``<name>_low`` and ``<name>_high``; empty:
            not there.
        short: heading in LaTeX and the terminal; empty: not there.
        narrow: also in LaTeX's one-column table and in the terminal.
    """

    heading: str
    value: str | Callable[[Any], Any]
    show: Callable[[Any], str] = text
    note: Callable[[Any], str] = lambda row: ""
    alert: Callable[[Any], bool] = lambda row: False
    left: bool = False
    name: str = ""
    short: str = ""
    narrow: bool = False

    def of(self, row: Any) -> Any:
        """The value in ``row``; None where something on its path is."""
        if callable(self.value):
            return self.value(row)
        for name in self.value.split("."):
            row = (
                None if row is None else row[name] if isinstance(row, dict) else getattr(row, name)
            )
        return row

    def cell(self, row: Any) -> "Cell":
        """The cell in ``row``."""
        return Cell(self.show(self.of(row)), self.note(row), self.alert(row))


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a remark with it, and whether it deserves attention."""

    text: str
    note: str = ""
    alert: bool = False


@dataclass(frozen=True)
class Table:
    """A table: its name for anchors, headings, which columns hold words, and rows of cells, the
    first of which names the row.
    """

    name: str
    headings: tuple[str, ...]
    left: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


def table(name: str, columns: Sequence[Column], rows: Iterable[Any]) -> Table:
    """``rows`` as the page shows them."""
    shown = [column for column in columns if column.heading]
    return Table(
        name,
        tuple(column.heading for column in shown),
        tuple(column.left for column in shown),
        tuple(tuple(column.cell(row) for column in shown) for row in rows),
    )


def short_table(columns: Sequence[Column], rows: Sequence[Any], narrow: bool) -> list[list[str]]:
    """``rows`` for LaTeX and the terminal, headings first; a column without values is left out."""
    shown = [column for column in columns if column.short and (column.narrow or not narrow)]
    filled = [[column.short, *(column.show(column.of(row)) for row in rows)] for column in shown]
    kept = [column for column in filled if set(column[1:]) != {ABSENT}]
    return [list(row) for row in zip(*kept, strict=True)]


def csv_bytes(columns: Sequence[Column], rows: Iterable[Any]) -> bytes:
    """``rows`` at full precision as CSV in UTF-8; text that a spreadsheet would compute is inert.

    Columns of intervals must have one in every row or none; where it is None both ends are empty.
    """
    named = [column for column in columns if column.name]
    written = [dict(pair for column in named for pair in _fields(column, row)) for row in rows]
    names = list(dict.fromkeys(name for row in written for name in row))
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, names or [column.name for column in named], lineterminator="\n")
    writer.writeheader()
    writer.writerows(written)
    return stream.getvalue().encode()


def _fields(column: Column, row: Any) -> list[tuple[str, Any]]:
    value = column.of(row)
    if column.show.__name__ in ("ends", "signed_ends"):
        low, high = (value.low, value.high) if isinstance(value, Interval) else (None, None)
        return [(f"{column.name}_low", low), (f"{column.name}_high", high)]
    if isinstance(value, Interval):
        value = value.estimate
    return [(column.name, _inert(value))]


def _inert(value: Any) -> Any:
    """A value that no spreadsheet computes: text like a formula gets a leading apostrophe."""
    if not isinstance(value, str):
        return value
    plain = value.replace("\r", " ")  # which the csv module would leave unquoted
    return f"'{plain}" if plain.lstrip().startswith(FORMULA_STARTS) else plain
