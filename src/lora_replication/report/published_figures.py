"""Figures of the published grid, each drawn by a function that returns it."""

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lora_replication.article.published_file import ALPHAS
from lora_replication.report.figures import (
    BLUE,
    ORANGE,
    VERMILLION,
    WIDTH_INCHES,
    axes,
    name_rows,
)
from lora_replication.report.published import Rows
from lora_replication.report.rendering import INK

GROUPS = (
    ("alpha 1 or 4", (1, 4), BLUE, "o"),
    ("alpha 8", (8,), ORANGE, "s"),
    ("alpha 16 or more", (16, 32, 64), VERMILLION, "^"),
)
"""Label, alphas, colour and marker."""

SHOWN_CLOSE = 200
"""Places from the best on that the ranking shows a second time, enlarged."""


def ranking(runs: pd.DataFrame, choices: Rows) -> Figure:
    """Validation accuracy in percent, best first: of all ``runs`` above, of the first ones below,
    with a band over those that can't be excluded as the best, and the ``choices`` marked.
    """
    figure = Figure(figsize=(WIDTH_INCHES, 4.5), layout="constrained")
    whole, close = figure.subplots(2, 1, height_ratios=(1, 1.6))
    # Of equal ones the first in the file is first, as in the table.
    ordered = runs.sort_values("val", ascending=False, kind="stable").reset_index(drop=True)
    values = 100 * ordered["val"]
    kept = values[[ranks is not None and ranks[0] == 1 for ranks in ordered["ranks"]]]
    for plot, count, size in ((close, SHOWN_CLOSE, 3.4), (whole, len(runs), 2.2)):
        for label, alphas, color, marker in GROUPS:
            mine = values[:count][ordered["alpha"].isin(alphas)]
            plot.plot(mine.index + 1, mine, marker, color=color, markersize=size,
                      markeredgewidth=0, label=label)  # fmt: skip
        if len(kept):
            label = f"{len(kept)} that can't be excluded as the best"
            plot.axhspan(kept.min(), kept.max(), color=INK, alpha=0.12, linewidth=0, label=label)
    for step, choice in enumerate(sorted(choices, key=lambda one: one["place_by_val"])):
        place = ordered.index[ordered["name"] == choice["configuration"]][0]
        if place < SHOWN_CLOSE:
            at = place + 1, values[place]
            close.plot(*at, "o", color=INK, fillstyle="none", markersize=8)
            text = f"{choice['rule'].split(' (')[0]}: {values[place]:.2f} %, place {place + 1}"
            line = {"arrowstyle": "-", "color": INK, "relpos": (0, 0.5)}
            close.annotate(text, at, (0.2, 0.95 - 0.1 * step), textcoords="axes fraction",
                           fontsize=9, va="center", arrowprops=line)  # fmt: skip
    close.set_xlabel("place by validation accuracy")
    figure.supylabel("validation accuracy, %", fontsize=10)
    handles = whole.get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=2, fontsize=9, markerscale=2)
    return figure


def variance_bars(rows: Rows) -> Figure:
    """Shares of the variance in percent: bars for each source, one for each part of the grid."""
    regions = [name for name in rows[0] if name != "source"]
    figure, (plot,) = axes(1, 1, height=1.1 + 0.4 * len(rows))
    height = 0.8 / len(regions)
    for step, region in enumerate(regions):
        ys = [y + height * (step - (len(regions) - 1) / 2) for y in range(len(rows))]
        widths = [100 * row[region] for row in rows]
        plot.barh(ys, widths, height, color=(VERMILLION, ORANGE, BLUE)[step], label=region)
    name_rows(plot, [row["source"] for row in rows], "share of the variance of test accuracy, %")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def heatmap(
    rows: Rows, by: str, names: Sequence[Any], show: Callable[[Any], tuple[float, str]], across: str
) -> Figure:
    """Alpha downwards and the ``names`` of ``by`` from left to right: of each row a value from 0 to
    1 as a colour, and a text.
    """
    figure, (plot,) = axes(1, 1, height=3.6)
    grid = [[float("nan")] * len(names) for _ in ALPHAS]
    for row in rows:
        y, x = ALPHAS.index(row["alpha"]), names.index(row[by])
        grid[y][x], text = show(row)
        color = "white" if grid[y][x] < 0.5 else "black"
        plot.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9, color=color)
    plot.pcolormesh(grid, cmap="cividis", vmin=0, vmax=1)
    plot.set_xticks([x + 0.5 for x in range(len(names))], [str(name) for name in names])
    plot.set_yticks([y + 0.5 for y in range(len(ALPHAS))], [str(alpha) for alpha in ALPHAS])
    plot.grid(visible=False)
    plot.invert_yaxis()
    plot.set(xlabel=across, ylabel="alpha")
    return figure


def random_search(rows: Rows, choices: Rows) -> Figure:
    """Test accuracy in percent of the best by validation of so many random configurations: mean and
    band; the ``choices`` as lines.
    """
    figure, (plot,) = axes(1, 1, height=3.6)
    xs = [row["trials"] for row in rows]
    low, mean, high = ([100 * row[name] for row in rows] for name in ("low", "test", "high"))
    plot.fill_between(xs, low, high, color=BLUE, alpha=0.2, linewidth=0, label="9 of 10 searches")
    plot.plot(xs, mean, "o-", color=BLUE, markersize=4, label="mean of all searches")
    for choice, color, line in zip(choices, (VERMILLION, ORANGE), ("--", ":"), strict=False):
        at = 100 * choice["test"].estimate
        plot.axhline(at, color=color, linestyle=line, label=f"{choice['rule']}: {at:.2f} %")
    plot.set_xscale("log", base=2)
    plot.set_xticks(xs, [str(x) for x in xs], fontsize=9)
    plot.set_ylim(max(85.0, min(low)), max(high) + 0.5)
    plot.set(xlabel="random configurations tried", ylabel="test accuracy, %")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure
