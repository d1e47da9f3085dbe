"""How figures are made: one style, colours for all kinds of colour vision, always the same bytes.

Colours are those of Okabe and Ito; markers differ as well. In an SVG, in the page or opened alone,
ink is the colour of the text around it, so that it is legible on light and on dark.
"""

import html
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lora_replication.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, VERMILLION = "#0072B2", "#E69F00", "#D55E00"
INK = "#222222"
INKED = ("text.color", "axes.labelcolor", "axes.edgecolor", "axes.titlecolor", "xtick.color",
         "ytick.color", "grid.color")  # fmt: skip
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "lora-replication",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.18,
    "legend.frameon": False,
    "figure.dpi": 100,
    **dict.fromkeys(INKED, INK),
}
ON_DARK = "<style>svg{color:#222}@media(prefers-color-scheme:dark){svg{color:#e8e6e1}}</style>"
WIDTH_INCHES = 4.9


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
        text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
        text = re.sub(r'(<svg[^>]*?) (?:width|height)="[^"]*"', r"\1", text, count=1)
        label = html.escape(self.heading)
        return text.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def axes(
    rows: int, columns: int, height: float, *, width: float = WIDTH_INCHES
) -> "tuple[Figure, list[Axes]]":
    """A figure of ``height`` inches with its panels, row by row, on the same axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    return figure, list(panels.flat)


def render(heading: str, stamp: str, draw: "Callable[[], Figure]") -> Drawing:
    """The figure that ``draw`` returns, as SVG and PNG, with ``stamp`` written inside it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

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


def bar(plot: "Axes", y: float, interval: Interval | None, color: str, label: str) -> None:
    """A horizontal bar over ``interval`` in percent, where it has ends."""
    if interval and interval.low is not None and interval.high is not None:
        plot.hlines(y, 100 * interval.low, 100 * interval.high, color, linewidth=3.2, label=label)


def circles(plot: "Axes", y: float, values: Sequence[float], label: str = "run") -> None:
    """Single runs or seeds in a row, fractions shown in percent."""
    xs, ys = [100 * value for value in values], [y] * len(values)
    (line,) = plot.plot(xs, ys, "o", color=INK, markersize=4.5, markeredgewidth=0.9, label=label)
    line.set_fillstyle("none")


def mean_line(plot: "Axes", y: float, mean: float) -> None:
    """The mean of a row of runs or seeds."""
    plot.plot([100 * mean] * 2, [y - 0.2, y + 0.34], color=INK, linewidth=1.4, label="mean")


def rows_of(plot: "Axes", labels: Sequence[str], axis: str) -> None:
    """Name the rows of a plot from top to bottom, and its horizontal axis."""
    plot.set_yticks(range(len(labels)), labels, fontsize=9)
    plot.set_ylim(len(labels) - 0.4, -0.6)
    plot.grid(visible=False, axis="y")
    plot.set_xlabel(axis)


def diamond(plot: "Axes", y: float, percent: float) -> None:
    """The article's single run."""
    label = "the article's run"
    plot.plot([percent], [y], "D", color=VERMILLION, markersize=5, label=label)


def legend(figure: "Figure", plot: "Axes") -> None:
    """The key below a figure, each label of ``plot`` once."""
    handles, labels = plot.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once, loc="outside lower center", ncols=2, fontsize=9)
