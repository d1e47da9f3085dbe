"""Templates to files: one text for the page and Markdown, and LaTeX.

Everything from outside is escaped where it is inserted. The page is self-contained: nothing is
fetched, and its one script is named by its hash in the page's policy, so nothing else can run.
"""

import base64
import hashlib
import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from lora_replication import __version__
from lora_replication.report.drawing import Drawing
from lora_replication.report.words import environment

SPACE = re.compile(r"\s+")
MARKDOWN = re.compile(r"([\\`*\[\]|~#!])|(?<!\w)_|_(?!\w)")

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}", "|": r"\textbar{}",
    "“": "``", "”": "''", "—": "--", "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$", "±": r"$\pm$",
}  # fmt: skip


def page(template: str, drawings: Mapping[str, Drawing], **facts: Any) -> bytes:
    """The whole HTML page of ``template``, figures inlined."""
    made = _environment()
    figures = {name: Markup(drawing.inline()) for name, drawing in drawings.items()}  # noqa: S704  # made here; matplotlib escapes all text
    body = made.get_template(template).render(form="html.j2", figures=figures, **facts)
    # A number keeps its unit, and `n =` its number, when lines are broken.
    body = re.sub(r"(?<=\d) (?=%)|(?<=\bn) (?== \d)|(?<=\bn =) (?=\d)", "\u00a0", body)
    script = (Path(__file__).parent / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    whole = made.get_template("page.html").render(
        body=Markup(body),  # noqa: S704  # rendered above
        sections=re.findall(r'<section id="([^"]+)" aria-label="([^"]+)"', body),
        script=Markup(script),  # noqa: S704  # a file of this package
        script_hash=f"sha256-{digest}",
        version=__version__,
        **facts,
    )
    return whole.encode() + b"\n"


def markdown(template: str, drawings: Mapping[str, Drawing], **facts: Any) -> bytes:
    """The same text and tables in GitHub's Markdown; figures are linked from ``figures/``."""
    made = _environment(finalize=_in_markdown)
    text = made.get_template(template).render(form="markdown.j2", figures=drawings, **facts)
    return (re.sub(r"\n{3,}", "\n\n", text).strip() + "\n").encode()


def _environment(**options: Any) -> Environment:
    made = environment(autoescape=True, **options)
    made.filters["one_line"] = lambda text: type(text)(" ".join(text.split()))
    made.filters["indented"] = lambda text: Markup("\n").join(  # code, shown as it is
        Markup(f"    {line}")  # noqa: S704
        for line in text.splitlines()
    )
    made.filters["sum_seconds"] = lambda runs: sum(run.seconds or 0.0 for run in runs)
    return made


def _in_markdown(value: Any) -> Any:
    """Text that Markdown shows as it is: one line, no markup, no HTML, no link, no cell border."""
    if isinstance(value, Markup):
        return value
    plain = html.escape(SPACE.sub(" ", str(value)), quote=False)
    return Markup(MARKDOWN.sub(lambda found: f"\\{found[0]}", plain))  # noqa: S704  # just escaped


def latex(template: str, **facts: Any) -> bytes:
    """A LaTeX file in ASCII."""
    # Braces are LaTeX's own.
    marks = {"variable_start_string": "<<", "variable_end_string": ">>"}
    blocks = {"block_start_string": "<%", "block_end_string": "%>"}
    made = _environment(finalize=_in_latex, **marks, **blocks)
    return made.get_template(template).render(version=__version__, **facts).encode("ascii") + b"\n"


def _in_latex(value: Any) -> Any:
    """Text that LaTeX sets as it is, on one line; what no plain font has becomes a ``?``."""
    if isinstance(value, Markup):
        return value
    line = SPACE.sub(" ", str(value))
    signs = (LATEX.get(sign, sign if " " <= sign <= "~" else "?") for sign in line)
    return Markup("".join(signs))  # noqa: S704  # just escaped
