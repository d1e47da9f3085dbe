"""Templates and figures to files: one text for the page and Markdown; LaTeX; SVG and PNG.

Everything from outside is escaped where it is inserted. The page is self-contained: nothing is
fetched, and its one script is named by its hash in the page's policy, so nothing else can run.
Figures have one style and always the same bytes. In an SVG, in the page or opened alone, ink is the
colour of the text around it, so that it is legible on light and on dark.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lora_replication.report.words import environment

SPACE = re.compile(r"\s+")
MARKDOWN = re.compile(r"([\\`*\[\]|~#!])|(?<!\w)_|_(?!\w)")

LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", '"': r"\textquotedbl{}", "|": r"\textbar{}",
    "“": "``", "”": "''", "—": "--", "\N{EN DASH}": "--", "\N{MINUS SIGN}": "$-$", "±": r"$\pm$",
}  # fmt: skip

INK = "#222222"
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color",
         "ytick.color", "grid.color")  # fmt: skip
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lora-replication", "svg.fonttype": "none",
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.alpha": 0.18,
    "legend.frameon": False, "figure.dpi": 100, **dict.fromkeys(INKED, INK),
}  # fmt: skip
ON_DARK = "<style>svg{color:#222}@media(prefers-color-scheme:dark){svg{color:#e8e6e1}}</style>"


@dataclass(frozen=True)
class Drawing:
    """A figure: what it shows in a few words, and its files' content."""

    heading: str
    svg: bytes
    png: bytes

    def inline(self) -> str:
        """The SVG element for an HTML page: ids of its own, named for screen readers."""
        text = self.svg.decode()
        text = text[text.index("<svg") :].replace(ON_DARK, "")
        own = re.sub(r"\W+", "-", self.heading)
        text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{own}-", text)
        text = re.sub(r' (?:width|height)="[^"]*"', "", text, count=2)
        label = html.escape(self.heading)
        return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def render(heading: str, stamp: str, draw: Callable[[], Figure]) -> Drawing:
    """The figure that ``draw`` returns, as SVG and PNG, with ``stamp`` written inside it."""
    with mpl.rc_context(STYLE):
        figure = draw()
        figure.suptitle(stamp, fontsize=9, x=0.01, ha="left")
        FigureCanvasAgg(figure)
        svg, png = io.BytesIO(), io.BytesIO()
        undated = {"Date": None, "Creator": None}
        figure.savefig(svg, format="svg", transparent=True, metadata=undated)
        figure.savefig(png, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", svg.getvalue().decode(), flags=re.DOTALL)
    text = re.sub(r"(<svg[^>]*>)", rf"\1{ON_DARK}", text, count=1).replace(INK, "currentColor")
    return Drawing(heading, text.encode(), png.getvalue())


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
    marks: dict[str, Any] = {"variable_start_string": "<<", "variable_end_string": ">>"}
    marks |= {"block_start_string": "<%", "block_end_string": "%>"}
    made = environment(autoescape=True, finalize=_in_latex, **marks)
    return made.get_template(template).render(**facts).encode("ascii") + b"\n"


def _in_latex(value: Any) -> Any:
    """Text that LaTeX sets as it is, on one line; what no plain font has becomes a ``?``."""
    if isinstance(value, Markup):
        return value
    line = SPACE.sub(" ", str(value))
    signs = (LATEX.get(sign, sign if " " <= sign <= "~" else "?") for sign in line)
    return Markup("".join(signs))  # noqa: S704  # just escaped
