"""What figures share: colours, panels, rows and keys.

Colours are those of Okabe and Ito, for all kinds of colour vision; markers differ as well.
"""

import math
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_replication.report.rendering import INK
from lora_replication.statistics import Interval

BLUE, ORANGE, VERMILLION = "#0072B2", "#E69F00", "#D55E00"
COLORS, MARKERS = (BLUE, ORANGE, VERMILLION, "#009E73", "#CC79A7", "#56B4E9"), "os^DvPX"
LINES = [(COLORS[place % 6], MARKERS[place % 7]) for place in range(42)]
"""Of methods, up to 42."""

WIDTH_INCHES = 4.9
MOST_NUMBERS = 64
"""Cells in heat maps with numbers: in smaller ones they would overlap."""

Panels = dict[str, dict[tuple[float, float], float]]
"""Of heat maps: percent by (alpha, rank or learning rate), by the panel's title."""

CIRCLES_BELOW = {"run": 0.06, "seed": 0.08}


def axes(
    rows: int, columns: int, height: float, *, width: float = WIDTH_INCHES
) -> tuple[Figure, list[Axes]]:
    """A figure of ``height`` inches with its panels, row by row, on the same axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    return figure, list(panels.flat)


def row_of(
    plot: Axes, y: int, interval: Interval | None, values: Sequence[float], mean: float, unit: str
) -> None:
    """A row of a plot in percent: a bar where the interval has ends, circles, and their mean."""
    if interval and interval.low is not None and interval.high is not None:
        ends = (100 * interval.low, 100 * interval.high)
        label = f"interval, new {interval.source.split(',')[0]}"
        plot.hlines(y + 0.2, *ends, BLUE, linewidth=3.2, label=label)
    xs, ys = [100 * value for value in values], [y - CIRCLES_BELOW[unit]] * len(values)
    circle: dict[str, Any] = {"fillstyle": "none", "markersize": 4.5, "markeredgewidth": 0.9}
    plot.plot(xs, ys, "o", color=INK, label=unit, **circle)
    plot.plot([100 * mean] * 2, [y - 0.2, y + 0.34], color=INK, linewidth=1.4, label="mean")


def name_rows(plot: Axes, labels: Sequence[str], axis: str) -> None:
    """Name the rows of a plot from top to bottom, and its horizontal axis."""
    plot.set_yticks(range(len(labels)), labels, fontsize=9)
    plot.set_ylim(len(labels) - 0.4, -0.6)
    plot.grid(visible=False, axis="y")
    plot.set_xlabel(axis)


def legend(figure: Figure, plot: Axes) -> None:
    """The key below a figure, each label of ``plot`` once."""
    handles, labels = plot.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    figure.legend(once.values(), once, loc="outside lower center", ncols=2, fontsize=9)


def heatmaps(values: Panels, across: str, *, mark_best: bool = False) -> Figure:
    """Panels with alpha downwards, what ``across`` names from left to right, and one key; a circle
    marks the best cell of each row if asked.
    """
    points = {point: accuracy for panel in values.values() for point, accuracy in panel.items()}
    alphas, xs = (sorted(set(each)) for each in zip(*points, strict=True))
    accuracies = [accuracy for panel in values.values() for accuracy in panel.values()]
    low, high = min(accuracies), max(accuracies)
    columns = min(4 if len(xs) < 7 else 2, len(values))
    lines = math.ceil(len(values) / columns)
    figure, panels = axes(lines, columns, height=0.8 + 1.5 * lines, width=max(4.9, 1.9 * columns))
    colours = mpl.colormaps["cividis"].resampled(16)  # with more, the key would be a bitmap
    for plot, (title, panel) in zip(panels, values.items(), strict=False):
        grid = [[panel.get((alpha, x), math.nan) for x in xs] for alpha in alphas]
        at, middle = np.arange(len(xs)) + 0.5, np.arange(len(alphas)) + 0.5
        plot.set_xticks(at, [f"{x:g}" for x in xs], fontsize=7, rotation=90 * (len(xs) > 6))
        plot.set_yticks(middle, [f"{alpha:g}" for alpha in alphas], fontsize=7)
        plot.grid(visible=False)
        mesh = plot.pcolormesh(grid, cmap=colours, vmin=low, vmax=high)
        if len(accuracies) <= MOST_NUMBERS:
            for (y, x), value in np.ndenumerate(grid):
                color = "white" if value < (low + high) / 2 else "black"
                style = {"color": color, "fontsize": 7, "ha": "center", "va": "center"}
                plot.text(x + 0.5, y + 0.5, "" if math.isnan(value) else f"{value:.1f}", style)
        if mark_best:
            found = np.nan_to_num(grid, nan=-1.0)
            best, rows = found.argmax(1) + 0.5, found.max(1) >= 0  # a panel may lack an alpha
            size = 18 if len(accuracies) <= MOST_NUMBERS else 6
            plot.plot(
                best[rows], middle[rows], "o", color=VERMILLION, fillstyle="none", markersize=size
            )
        plot.set_title(title, fontsize=7, loc="left")
    for plot in panels[len(values) :]:
        plot.remove()
    panels[0].invert_yaxis()
    figure.colorbar(mesh, ax=panels[: len(values)], shrink=0.8)
    figure.supxlabel(across, fontsize=9)
    figure.supylabel("alpha", fontsize=9)
    return figure
