"""The report as one self-contained HTML page: no scripts, nothing fetched, everything from outside escaped."""

import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lora_replication import __version__
from lora_replication.report.content import Content


def page(content: Content) -> bytes:
    """The whole page. Figures are inlined as SVG, in which matplotlib has escaped all text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["bound"] = bound
    drawings = [drawing for section in content.sections for drawing in section.figures]
    svg = {drawing.name: Markup(drawing.inline()) for drawing in drawings}  # noqa: S704  # made here, see above
    return environment.get_template("page.html").render(content=content, svg=svg, version=__version__).encode() + b"\n"


def bound(text: str) -> str:
    """``text`` in which a number keeps its ``%`` and ``n =`` its number when lines are broken."""
    return re.sub(r" (?=%)|(?<=\bn) (?== \d)|(?<=\bn =) (?=\d)", "\u00a0", text)
