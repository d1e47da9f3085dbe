"""The tables of a study's report, from the columns that ``columns.yaml`` states."""

import textwrap
from collections.abc import Callable, Sequence
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
def _stated() -> dict[str, list[dict[str, Any] | str]]:
    content = YAML(typ="safe", pure=True).load(Path(__file__).with_name("columns.yaml"))
    return dict(content)


@cache
def _expression(source: str) -> Callable[..., Any]:
    return environment(_Expressions).compile_expression(source, undefined_to_none=False)


def columns(results: Results) -> dict[str, list[Column]]:
    """Of every table and CSV file of the report, by its name."""
    return {name: [_column(one, results) for one in stated] for name, stated in _stated().items()}


def _column(stated: dict[str, Any] | str, results: Results) -> Column:
    if isinstance(stated, str):
        stated = {"name": stated.rpartition(".")[2], "value": f"row.{stated}"}

    def evaluated(source: str) -> Callable[[Any], Any]:
        return lambda row: _expression(source)(row=row, r=results)

    facts: dict[str, Any] = {"heading": "", **stated}
    facts["heading"] = facts["heading"].format(level=level(results.confidence))
    facts |= {key: evaluated(facts[key]) for key in ("value", "note", "alert") if key in facts}
    if "show" in facts:
        facts["show"] = next(one for one in FORMATS if one.__name__ == facts["show"])
    return Column(**facts)


def tables(results: Results) -> dict[str, Table]:
    """Every table of the page by name; those without a row are left out."""
    fresh = [results.grid.winner, *results.grid.runners_up] if results.grid.runners_up else []
    rows: dict[str, Sequence[Any]] = {
        "verdicts": [verdict for verdict in results.verdicts if verdict.word != "not judged"],
        "methods": results.rows,
        "runs": [run for run in results.runs if run.role != "cell"],
        "variance": [row for row in results.rows if row.variance],
        "scores": [row for row in results.rows if row.scores],
        "comparisons": results.comparisons,
        "choice": [row for row in fresh if row],
        "cells": results.cells,
        "split": list(results.data.parts.items()),
        "kinds": [row for row in results.rows if row.variance],
        "machines": results.machines,
    }
    stated = columns(results)
    return {name: table(name, stated[name], found) for name, found in rows.items() if found}


def terminal_table(results: Results) -> str:
    """The main table for a terminal: title, one line per method with its test accuracy in percent,
    and what the study is not; in 60 columns for names of common length.
    """
    lines = short_table(columns(results)["methods"], results.rows, narrow=True)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    ]
    words = filter(None, [results.title, results.remark, say("accuracies", results.confidence)])
    title, *notes = (textwrap.fill(text, TERMINAL_WIDTH) for text in words)
    return "\n".join([title, *body, *notes])
