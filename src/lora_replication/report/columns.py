"""The tables of a study's report, from the columns that ``columns.yaml`` states."""

import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from ruamel.yaml import YAML

from lora_replication.report.results import Results
from lora_replication.report.tables import Column, Table, short_table, table
from lora_replication.report.words import FORMATS, environment, level, say

TERMINAL_WIDTH = 60


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


def columns(results: Results, name: str) -> list[Column]:
    """Of the table or CSV file ``name`` of the report."""
    return [_column(one, results) for one in _stated()[name]["columns"]]


def _column(stated: dict[str, Any] | str, results: Results) -> Column:
    if isinstance(stated, str):
        stated = {"name": stated.rpartition(".")[2], "value": f"row.{stated}"}

    def evaluated(source: str) -> Callable[[Any], Any]:
        return lambda row: _expression(source)(row=row, r=results)

    facts: dict[str, Any] = {"heading": "", **stated}
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
    lines = short_table(columns(results, "methods"), results.rows, narrow=True)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    words = filter(None, [results.title, results.remark, say("accuracies", results.confidence)])
    title, *notes = (textwrap.fill(text, TERMINAL_WIDTH) for text in words)
    return "\n".join([title, *body, *notes])
