"""Tables as data: a list of columns makes of a list of rows what every output shows.

One column states its heading, where its value comes from and how it is written; a page, Markdown,
CSV, LaTeX and the terminal follow from it.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from lora_replication.report.words import ABSENT, ends, signed_ends, text
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
            if row is not None:
                row = row[name] if isinstance(row, dict) else getattr(row, name)
        return row


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a remark with it, and whether it deserves attention."""

    text: str
    note: str
    alert: bool


@dataclass(frozen=True)
class Table:
    """A table of a page: its columns and its rows, named by their first cell."""

    columns: list[Column]
    rows: list[list[Cell]]


def table(columns: Sequence[Column], rows: Iterable[Any]) -> Table:
    """``rows`` as the page shows them."""
    shown = [column for column in columns if column.heading]
    cells = [[Cell(c.show(c.of(row)), c.note(row), c.alert(row)) for c in shown] for row in rows]
    return Table(shown, cells)


def short_table(columns: Sequence[Column], rows: Sequence[Any], narrow: bool) -> list[list[str]]:
    """``rows`` for LaTeX and the terminal, headings first; a column without values is left out."""
    shown = [column for column in columns if column.short and (column.narrow or not narrow)]
    filled = [[column.short, *(column.show(column.of(row)) for row in rows)] for column in shown]
    kept = [column for column in filled if set(column[1:]) != {ABSENT}]
    return [list(row) for row in zip(*kept, strict=True)]


def csv_bytes(columns: Sequence[Column], rows: Sequence[Any]) -> bytes:
    """``rows`` at full precision as CSV in UTF-8; no text is one that a spreadsheet computes."""
    written: dict[str, list[Any]] = {}
    for column in (column for column in columns if column.name):
        values = [column.of(row) for row in rows]
        if column.show in (ends, signed_ends):
            for end in ("low", "high"):
                written[f"{column.name}_{end}"] = [getattr(value, end, None) for value in values]
        else:
            written[column.name] = [_inert(value) for value in values]
    made = pd.DataFrame(written, dtype=object)
    return bytes(made.to_csv(index=False, lineterminator="\n").encode())


def _inert(value: Any) -> Any:
    """A value that no spreadsheet computes: text like a formula gets a leading apostrophe."""
    if not isinstance(value, str):
        return value.estimate if isinstance(value, Interval) else value
    plain = value.replace("\r", " ")  # which the csv module would leave unquoted
    return f"'{plain}" if plain.lstrip().startswith(FORMULA_STARTS) else plain
