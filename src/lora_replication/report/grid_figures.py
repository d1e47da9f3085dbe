"""Figures of the grid: heatmaps of alpha by rank, validation against test, collapse by alpha."""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lora_replication.record import Record
from lora_replication.report.drawing import BLUE, INK, VERMILLION, Drawing, axes, render
from lora_replication.report.summary import Summary
from lora_replication.report.wording import level, of, remark, stamp
from lora_replication.statistics import exact_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLLAPSE_FRACTION = 0.6
"""A run whose test accuracy ends below this has collapsed; answering one class gives about one
half.
"""


def draw_grid_figures(summary: Summary) -> list[Drawing]:
    """All of them, or none where no configuration has an accuracy."""
    cells = [cell for cell in summary.grid.cells if cell.happened.test and cell.happened.val]
    if not cells:
        return []
    note, marked = remark(summary.study), stamp(summary.study)
    k = f"n = {of(len(cells), summary.grid.asked)} configurations, one run each"
    return [
        render(
            "grid_heatmaps",
            "Validation accuracy by alpha and rank",
            f"Validation accuracy in percent, alpha downwards and rank to the right, one panel for each choice of targets ({k}; white: "
            f"none, or diverged). Single runs have no interval over seeds. {note}".strip(),
            partial(grid_heatmaps, cells),
            marked,
        ),
        render(
            "grid_validation_against_test",
            "Validation against test in the grid",
            f"Test against validation accuracy ({k}). On the line both are equal. The choice looks at validation alone. {note}".strip(),
            partial(validation_against_test, cells),
            marked,
        ),
        render(
            "grid_collapse",
            "Collapse by alpha",
            f"Share of configurations below {100 * COLLAPSE_FRACTION:g} % test accuracy or diverged (blue circles), with its exact "
            f"{level(summary.study.report.confidence)} interval over configurations, and share that answers one class (red squares); n = "
            f"{', '.join(str(len(rows)) for rows in _by_alpha(summary.grid.cells).values())} from left to right, "
            f"{of(len(summary.grid.cells), summary.grid.asked)} configurations. {note}".strip(),
            partial(collapse_by_alpha, summary),
            marked,
        ),
    ]


def grid_heatmaps(cells: Sequence[Record]) -> "Figure":
    """Validation accuracy in percent by alpha and rank, one panel per choice of targets."""
    import matplotlib as mpl

    colours = mpl.colormaps["cividis"].resampled(16)  # with more, the key would be a bitmap
    choices = sorted(
        {tuple(_lora(cell)["targets"]) for cell in cells},
        key=lambda targets: (len(targets), targets),
    )
    alphas, ranks = (sorted({_lora(cell)[name] for cell in cells}) for name in ("alpha", "rank"))
    columns = min(4, len(choices))
    lines = math.ceil(len(choices) / columns)
    figure, panels = axes(lines, columns, height=0.8 + 1.5 * lines, width=max(4.9, 1.9 * columns))
    values = {
        (tuple(_lora(c)["targets"]), _lora(c)["alpha"], _lora(c)["rank"]): 100 * _val(c)
        for c in cells
    }
    low, high = min(values.values()), max(values.values())
    for plot, targets in zip(panels, choices, strict=False):
        grid = [
            [values.get((targets, alpha, rank), math.nan) for rank in ranks] for alpha in alphas
        ]
        mesh = plot.pcolormesh(grid, cmap=colours, vmin=low, vmax=high)
        extra = [name for name in targets if name not in ("query", "value")]
        plot.set_title(
            " ".join(["q v", *extra]) if {"query", "value"} <= set(targets) else " ".join(targets),
            fontsize=7,
            loc="left",
        )
        plot.set_xticks(
            [x + 0.5 for x in range(len(ranks))], [f"{rank}" for rank in ranks], fontsize=7
        )
        plot.set_yticks(
            [y + 0.5 for y in range(len(alphas))], [f"{alpha:g}" for alpha in alphas], fontsize=7
        )
        plot.grid(visible=False)
    for plot in panels[len(choices) :]:
        plot.remove()
    panels[0].invert_yaxis()
    figure.colorbar(mesh, ax=panels[: len(choices)], shrink=0.8)
    figure.supxlabel("rank", fontsize=9)
    figure.supylabel("alpha", fontsize=9)
    return figure


def validation_against_test(cells: Sequence[Record]) -> "Figure":
    """Validation accuracy to the right, test accuracy upwards, in percent."""
    figure, (plot,) = axes(1, 1, height=3.4)
    xs, ys = (
        [100 * _val(cell) for cell in cells],
        [100 * cell.happened.test.fraction for cell in cells if cell.happened.test],
    )
    ends = [min(*xs, *ys), max(*xs, *ys)]
    plot.plot(ends, ends, color=INK, linewidth=0.9)
    plot.plot(xs, ys, "o", color=BLUE, markersize=4, alpha=0.6, markeredgewidth=0)
    plot.set_xlabel("validation accuracy, %")
    plot.set_ylabel("test accuracy, %")
    return figure


def collapse_by_alpha(summary: Summary) -> "Figure":
    """Share of collapsed or diverged configurations in percent by alpha with exact intervals, and
    of those that answer one class.
    """
    figure, (plot,) = axes(1, 1, height=3.0)
    rows = _by_alpha(summary.grid.cells)
    for x, cells in enumerate(rows.values()):
        share = exact_interval(
            sum(map(collapsed, cells)), len(cells), summary.study.report.confidence
        )
        plot.plot(
            [x, x],
            [100 * (share.low or 0), 100 * (share.high or 0)],
            color=BLUE,
            linewidth=3.2,
            solid_capstyle="butt",
        )
        plot.plot([x], [100 * share.estimate], "o", color=BLUE)
        one_class = sum(cell.happened.one_class for cell in cells)
        plot.plot([x], [100 * one_class / len(cells)], "s", color=VERMILLION, fillstyle="none")
    plot.set_xticks(range(len(rows)), [f"{alpha:g}" for alpha in rows])
    plot.set_xlim(-0.5, len(rows) - 0.5)
    plot.set_ylim(-4, 104)
    plot.set_xlabel("alpha")
    plot.set_ylabel("configurations, %")
    return figure


def collapsed(cell: Record) -> bool:
    """Whether the run diverged or ended below ``COLLAPSE_FRACTION`` on test."""
    return cell.happened.test is None or cell.happened.test.fraction < COLLAPSE_FRACTION


def _by_alpha(cells: Sequence[Record]) -> dict[float, list[Record]]:
    rows: dict[float, list[Record]] = {}
    for cell in sorted(cells, key=lambda cell: float(_lora(cell)["alpha"])):
        rows.setdefault(_lora(cell)["alpha"], []).append(cell)
    return rows


def _lora(cell: Record) -> dict[str, Any]:
    lora: dict[str, Any] = cell.asked.settings["lora"]
    return lora


def _val(cell: Record) -> float:
    return cell.happened.val.fraction if cell.happened.val else math.nan
