"""How figures are made: one style, colours told apart by all common kinds of colour vision, the
same bytes each time.

Colours are those of Okabe and Ito; markers differ as well. In the SVG that stands in the page, ink
takes the colour of the page's text, so that it reads on light and on dark.
"""

import html
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, VERMILLION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
INK = "#222222"
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
    **dict.fromkeys(
        [
            "text.color",
            "axes.labelcolor",
            "axes.edgecolor",
            "axes.titlecolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ],
        INK,
    ),
}
WIDTH_INCHES = 4.9


@dataclass(frozen=True)
class Drawing:
    """A figure, ready for use.

    Attributes:
        name: stem of its files.
        heading: what it shows, in a few words.
        caption: how to read it, with the kind of interval and n.
        svg, png: the files' content.
    """

    name: str
    heading: str
    caption: str
    svg: bytes
    png: bytes

    def inline(self) -> str:
        """The SVG element for an HTML page: ids of its own, ink in the colour of the text, named
        for screen readers.
        """
        text = self.svg.decode()
        text = text[text.index("<svg") :]
        text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{self.name}-", text)
        text = re.sub(
            r'(<svg[^>]*?) width="[^"]*"',
            r"\1",
            re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1),
            count=1,
        )
        text = text.replace(
            "<svg ", f'<svg role="img" aria-label="{html.escape(self.heading)}" ', 1
        )
        return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL).replace(
            INK, "currentColor"
        )


def axes(
    rows: int, columns: int, height: float, *, width: float = WIDTH_INCHES, share: bool = True
) -> "tuple[Figure, list[Axes]]":
    """A figure of ``height`` inches with its panels, row by row; ``share`` gives all panels the
    same axes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(
        figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).flat
    )


def render(
    name: str, heading: str, caption: str, draw: "Callable[[], Figure]", stamp: str
) -> Drawing:
    """The figure that ``draw`` returns, as SVG and PNG, with ``stamp`` written inside it."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with mpl.rc_context(STYLE):
        figure = draw()
        figure.suptitle(stamp, fontsize=9, x=0.01, ha="left")
        FigureCanvasAgg(figure)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(
            svg, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
        figure.savefig(png, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return Drawing(name, heading, caption, svg.getvalue(), png.getvalue())
