"""The report as ``report.md``: the page's text and tables in GitHub's Markdown, everything from
outside escaped.
"""

import html
import re
from collections.abc import Sequence

from lora_replication.report.content import Content, Section
from lora_replication.report.drawing import Drawing
from lora_replication.report.tables import Cell, Table

SPECIAL = re.compile(r"([\\`*\[\]|~#!])|(?<!\w)_|_(?!\w)")


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no link, no cell border."""
    return SPECIAL.sub(
        lambda found: f"\\{found[0]}", html.escape(" ".join(text.split()), quote=False)
    )


def markdown(content: Content) -> bytes:
    """The whole report; figures are linked from ``figures/``."""
    blocks = [f"# {escaped(content.title)}", escaped(content.subtitle)]
    blocks += [f"> **{escaped(warning)}**" for warning in content.warnings]
    for section in content.sections:
        blocks += [f"## {escaped(section.heading)}", *_section(section)]
    return ("\n\n".join(blocks) + "\n").encode()


def _section(section: Section) -> list[str]:
    blocks = [escaped(paragraph) for paragraph in section.paragraphs]
    blocks += [_code(code) for code in section.code]
    blocks += [_figure(drawing) for drawing in section.figures]
    for table in section.tables:
        blocks += [f"*{escaped(table.caption)}*", _table(table)]
    return blocks


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _figure(drawing: Drawing) -> str:
    return (
        f"![{escaped(drawing.heading)}](figures/{drawing.name}.svg)\n\n*{escaped(drawing.caption)}*"
    )


def _table(table: Table) -> str:
    rule = ["---" if position in table.left else "---:" for position in range(len(table.columns))]
    rows = [
        [escaped(column) for column in table.columns],
        rule,
        *(_cells(row) for row in table.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cells(row: Sequence[Cell]) -> list[str]:
    return [escaped(cell.text) + (f" ({escaped(cell.note)})" if cell.note else "") for cell in row]
