"""Figures of the published grid. They show sums over runs: the file itself belongs to its author
and is not drawn point by point.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from lora_replication.article.published_file import ALPHAS, RANKS
from lora_replication.report.drawing import BLUE, INK, VERMILLION, Drawing, axes, render
from lora_replication.report.published.beside import Beside
from lora_replication.report.published.summary import COLLAPSE_PERCENT, PublishedSummary, is_live
from lora_replication.report.wording import level

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STAMP = "The article's own runs, one each, unseeded"
BIN_POINTS = 0.5


def draw_published(summary: PublishedSummary) -> list[Drawing]:
    """All figures: mean by alpha and rank, collapse by alpha, validation against test."""
    n, confidence = len(summary.grid.cells), level(summary.level)
    return [
        render(
            "alpha_by_rank",
            "Published grid: test accuracy by alpha and rank",
            f"Mean test accuracy in percent over the choices of targets (n = 16 runs a cell at most, {n:,} in all), by alpha and rank. "
            "The intervals stand in the table.",
            partial(alpha_by_rank, summary),
            STAMP,
        ),
        render(
            "collapse",
            "Published grid: collapse by alpha",
            f"Share of configurations that end below {COLLAPSE_PERCENT:g} % test accuracy (blue circles) with its exact {confidence} "
            f"interval over configurations, and share that answers one class for every review (red squares). n = "
            f"{', '.join(str(row.configurations) for row in summary.collapse)} configurations from left to right.",
            partial(collapse_by_alpha, summary),
            STAMP,
        ),
        render(
            "validation_against_test",
            "Published grid: validation against test",
            f"How many of the {summary.live:,} runs at or above {COLLAPSE_PERCENT:g} % test accuracy fall into each square of "
            f"{BIN_POINTS:g} points; on the line both accuracies are equal. No interval is drawn.",
            partial(validation_against_test, summary),
            STAMP,
        ),
    ]


def draw_beside(beside: Beside) -> Drawing:
    """The figure of a study's grid beside the published one."""
    n = len(_live_pairs(beside))
    return render(
        "published_beside_ours",
        "Published and reproduced grids",
        f"How many of the {n:,} configurations that are live in both fall into each square of {BIN_POINTS:g} points: test accuracy as "
        "published to the right, ours upwards; on the line both are equal. One run each; no interval is drawn.",
        partial(published_beside_ours, beside),
        f"Published runs beside the study {beside.study}",
    )


def alpha_by_rank(summary: PublishedSummary) -> "Figure":
    """Heatmap of mean test accuracy in percent: alpha downwards, rank to the right."""
    figure, (plot,) = axes(1, 1, height=3.6)
    values = [
        [
            100 * cell.estimate if (cell := summary.by_alpha_and_rank.get((a, r))) else float("nan")
            for r in RANKS
        ]
        for a in ALPHAS
    ]
    plot.pcolormesh(values, cmap="cividis", vmin=50, vmax=95)
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if not math.isnan(value):
                plot.text(
                    x + 0.5,
                    y + 0.5,
                    f"{value:.1f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if value < 75 else "black",
                )
    plot.set_xticks([x + 0.5 for x in range(len(RANKS))], [str(rank) for rank in RANKS])
    plot.set_yticks([y + 0.5 for y in range(len(ALPHAS))], [str(alpha) for alpha in ALPHAS])
    plot.invert_yaxis()
    plot.grid(visible=False)
    plot.set_xlabel("rank")
    plot.set_ylabel("alpha")
    return figure


def collapse_by_alpha(summary: PublishedSummary) -> "Figure":
    """Share of collapsed configurations in percent by alpha with exact intervals, and of those that
    answer one class.
    """
    figure, (plot,) = axes(1, 1, height=3.0)
    for x, row in enumerate(summary.collapse):
        plot.plot(
            [x, x],
            [100 * (row.share.low or 0.0), 100 * (row.share.high or 0.0)],
            color=BLUE,
            linewidth=3.2,
            solid_capstyle="butt",
        )
    xs = range(len(summary.collapse))
    plot.plot(
        xs,
        [100 * row.share.estimate for row in summary.collapse],
        "o",
        color=BLUE,
        label=f"below {COLLAPSE_PERCENT:g} % on test",
    )
    one_class = [100 * row.one_class / row.configurations for row in summary.collapse]
    plot.plot(xs, one_class, "s", color=VERMILLION, fillstyle="none", label="answers one class")
    plot.set_xticks(list(xs), [str(row.alpha) for row in summary.collapse])
    plot.set_xlabel("alpha")
    plot.set_ylabel("configurations, %")
    plot.set_ylim(-4, 104)
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure


def validation_against_test(summary: PublishedSummary) -> "Figure":
    """Counts of live runs in squares of half a point: validation to the right, test upwards."""
    live = [(cell.val_percent, cell.test_percent) for cell in summary.grid.cells if is_live(cell)]
    return _counts_in_squares(live, "validation accuracy, %", "test accuracy, %")


def published_beside_ours(beside: Beside) -> "Figure":
    """Counts of live configurations in squares of half a point: published to the right, ours
    upwards.
    """
    return _counts_in_squares(
        _live_pairs(beside), "test accuracy as published, %", "test accuracy here, %"
    )


def _live_pairs(beside: Beside) -> list[tuple[float, float]]:
    percent = [
        (100 * pair.published, 100 * pair.ours) for pair in beside.pairs if pair.ours is not None
    ]
    return [pair for pair in percent if min(pair) >= COLLAPSE_PERCENT]


def _counts_in_squares(points: Sequence[tuple[float, float]], across: str, up: str) -> "Figure":
    import numpy as np

    figure, (plot,) = axes(1, 1, height=3.6)
    edges = np.arange(COLLAPSE_PERCENT - 2, 100 + BIN_POINTS, BIN_POINTS)
    counts, _, _ = np.histogram2d(
        [y for _, y in points], [x for x, _ in points], bins=[edges, edges]
    )
    rows, columns = np.nonzero(counts)
    for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
        strength = 0.25 + 0.75 * counts[row, column] / counts.max()
        plot.fill_between(
            edges[column : column + 2],
            edges[row],
            edges[row + 1],
            color=BLUE,
            alpha=strength,
            linewidth=0,
        )
    shown = (
        [edges[min(rows.min(), columns.min())], edges[max(rows.max(), columns.max()) + 1]]
        if points
        else [80.0, 95.0]
    )
    plot.plot(shown, shown, color=INK, linewidth=0.9)
    plot.set_xlim(*shown)
    plot.set_ylim(*shown)
    plot.set_xlabel(across)
    plot.set_ylabel(up)
    return figure
