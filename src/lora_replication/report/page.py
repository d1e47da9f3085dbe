"""The report as one self-contained HTML page: nothing fetched, everything from outside escaped.

Its one script sorts and filters long tables and is named by its hash in the page's policy; nothing
else can run.
"""

import base64
import hashlib
import re
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lora_replication import __version__
from lora_replication.report.content import Content


def page(content: Content) -> bytes:
    """The whole page. Figures are inlined as SVG, in which matplotlib has escaped all text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["bound"] = bound
    drawings = [drawing for section in content.sections for drawing in section.figures]
    svg = {drawing.name: Markup(drawing.inline()) for drawing in drawings}  # noqa: S704  # made here, see above
    script = (Path(__file__).parent / "page.js").read_text("utf-8")
    return (
        environment.get_template("page.html")
        .render(
            content=content,
            svg=svg,
            version=__version__,
            script=Markup(script),  # noqa: S704  # a file of this package
            script_hash=f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}",
        )
        .encode()
        + b"\n"
    )


def bound(text: str) -> str:
    """``text`` in which a number keeps its ``%`` and ``n =`` its number when lines are broken."""
    return re.sub(r" (?=%)|(?<=\bn) (?== \d)|(?<=\bn =) (?=\d)", "\u00a0", text)
