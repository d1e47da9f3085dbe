"""Tables as data: a list of columns makes of a list of rows what every output shows.

One column states its heading, where its value comes from and how it is written; a page, Markdown,
CSV, LaTeX and the terminal follow from it. ``columns.yaml`` states those of reports.
"""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import compress
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment
from ruamel.yaml import YAML

from lora_replication.report.results import Results
from lora_replication.report.words import (
    ABSENT,
    FORMATS,
    ends,
    environment,
    level,
    say,
    signed_ends,
    text,
)
from lora_replication.statistics import Interval

TERMINAL_WIDTH = 60
FORMULA_STARTS = ("=", "+", "-", "@")


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        heading: on the page, with its unit; empty: not there.
        value: what it takes from a row: a key, or a function.
        show: how the value is written.
        note, alert: of a row, the remark below the value, and whether it deserves attention.
        left: it holds words; other columns hold numbers.
        name: in CSV, where the ends of an interval are ``<name>_low`` and ``<name>_high``; empty:
            not there.
        short: heading in LaTeX and the terminal; empty: not there.
        narrow: also in LaTeX's one-column table and in the terminal.
        reviews_only: it says nothing about texts of one's own.
        field, kind, about: of ``runs.parquet``: its name, type and meaning; empty: not there.
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
    reviews_only: bool = False
    field: str = ""
    kind: str = ""
    about: str = ""

    def of(self, row: Any) -> Any:
        """The value in ``row``."""
        return self.value(row) if callable(self.value) else row[self.value]


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
    """``rows`` as the page shows them; a column without values is left out."""
    shown = [column for column in columns if column.heading]
    cells = [[Cell(c.show(c.of(row)), c.note(row), c.alert(row)) for c in shown] for row in rows]
    filled = [any(c.text != ABSENT or c.note for c in own) for own in zip(*cells, strict=True)]
    return Table(list(compress(shown, filled)), [list(compress(row, filled)) for row in cells])


def short_table(columns: Sequence[Column], rows: Sequence[Any], narrow: bool) -> list[list[str]]:
    """``rows`` for LaTeX and the terminal, headings first; a column without values is left out."""
    shown = [column for column in columns if column.short and (column.narrow or not narrow)]
    filled = [[column.short, *(column.show(column.of(row)) for row in rows)] for column in shown]
    kept = [column for column in filled if set(column[1:]) != {ABSENT}]
    return [list(row) for row in zip(*kept, strict=True)]


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a ``short_table`` with their columns below each other, words to the left."""
    first, *others = (max(map(len, column)) for column in zip(*lines, strict=True))
    return ["  ".join([line[0].ljust(first), *map(str.rjust, line[1:], others)]) for line in lines]


def csv_bytes(columns: Sequence[Column], rows: Sequence[Any]) -> bytes:
    """``rows`` as CSV, unrounded in UTF-8; no text is one that a spreadsheet computes."""
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


class _Expressions(Environment):
    """Where an attribute of None is None; any other that is not there is an error."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return None if obj is None else super().getattr(obj, attribute)


@cache
def _stated() -> dict[str, dict[str, Any]]:
    return dict(YAML(typ="safe", pure=True).load(Path(__file__).with_name("columns.yaml")))


@cache
def _expression(source: str) -> Callable[..., Any]:
    return environment(_Expressions).compile_expression(source, undefined_to_none=False)


def columns(results: Results | None, name: str) -> list[Column]:
    """Of the table or file ``name`` of the report; without ``results`` they have no values."""
    every = [_column(one, results) for one in _stated()[name]["columns"]]
    is_own = results is not None and results.data.source == "table"
    return [column for column in every if not (is_own and column.reviews_only)]


def _column(stated: dict[str, Any] | str, results: Results | None) -> Column:
    if isinstance(stated, str):
        stated = {"name": stated.rpartition(".")[2], "value": f"row.{stated}"}
    name = stated.get("name") or stated.get("field")
    default = {"value": f"row.{name}", "field": name if "kind" in stated else ""}

    def evaluated(source: str) -> Callable[[Any], Any]:
        return lambda row: _expression(source)(row=row, r=results)

    facts: dict[str, Any] = {"heading": "", **default, **stated}
    if results:
        facts["heading"] = facts["heading"].format(level=level(results.confidence))
    facts |= {key: evaluated(facts[key]) for key in ("value", "note", "alert") if key in facts}
    if "show" in facts:
        facts["show"] = FORMATS[facts["show"]]
    return Column(**facts)


def tables(results: Results) -> dict[str, Table]:
    """Every table of the page by name; those without a row are left out."""
    stated = {name: one["rows"] for name, one in _stated().items() if "." not in name}
    rows = {name: list(_expression(source)(r=results)) for name, source in stated.items()}
    return {name: table(columns(results, name), found) for name, found in rows.items() if found}


def terminal_table(results: Results) -> str:
    """The main table for a terminal: title, one line per method with its test accuracy in percent,
    and what the study is not; in 60 columns for names of common length.
    """
    body = aligned(short_table(columns(results, "methods"), results.cited, narrow=True))
    words = filter(None, [results.title, results.remark, say("accuracies", results.confidence)])
    title, *notes = (textwrap.fill(text, TERMINAL_WIDTH) for text in words)
    return "\n".join([title, *body, *notes])
