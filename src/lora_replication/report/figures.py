"""Figures of the methods and of a grid, each drawn by a function that returns it."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lora_replication.report import drawing
from lora_replication.report.drawing import BLUE, INK, ORANGE, VERMILLION, Drawing, axes
from lora_replication.report.results import Collapse, Results, RunRow
from lora_replication.report.words import MINUS
from lora_replication.study import method_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCURACY = "test accuracy, %"


def draw_figures(results: Results) -> dict[str, Drawing]:
    """Those for which there is something to draw, by name."""
    cells = [run for run in results.cells if run.test_accuracy is not None]
    figures: list[tuple[str, str, bool, Callable[[], Figure]]] = [
        ("accuracy_by_method", "Test accuracy by method", True,
         partial(accuracy_by_method, results)),
        ("learning_curves", "Accuracy by epoch", True, partial(learning_curves, results)),
        ("paired_differences", "Paired differences", bool(results.comparisons),
         partial(paired_differences, results)),
        ("grid_heatmaps", "Validation accuracy by alpha and rank", bool(cells),
         partial(heatmaps, cells)),
        ("grid_validation_against_test", "Validation against test in the grid", bool(cells),
         partial(scatter, cells)),
        ("grid_collapse", "Collapse by alpha", bool(cells),
         partial(collapse_by_alpha, results.grid.collapse)),
    ]  # fmt: skip
    drawn = [(name, heading, draw) for name, heading, is_there, draw in figures if is_there]
    return {name: drawing.render(heading, results.stamp, draw) for name, heading, draw in drawn}


def accuracy_by_method(results: Results) -> "Figure":
    """Test accuracy in percent of each method and the grid's winner: runs, mean, interval, the
    article's number where comparable.
    """
    rows = results.rows
    figure, (plot,) = axes(1, 1, height=1.3 + 0.56 * len(rows))
    for y, row in enumerate(rows):
        if row.test_sampling:
            drawing.bar(plot, y + 0.2, row.interval, BLUE, "new seeds and new reviews")
            drawing.circles(plot, y - 0.06, _accuracies(results.runs_of(row)))
            drawing.mean_line(plot, y, row.test_sampling.estimate)
        if row.comparable and row.published:
            drawing.diamond(plot, y - 0.24, row.published.test_percent)
    drawing.rows_of(plot, [method_in_words(row.name) for row in rows], ACCURACY)
    drawing.legend(figure, plot)
    if not any(row.test_sampling for row in rows):
        plot.text(0.5, 0.5, "no runs yet", transform=plot.transAxes, ha="center")
    return figure


def learning_curves(results: Results) -> "Figure":
    """Accuracy in percent by epoch, training and validation, one panel per method, all seeds."""
    count, epochs = len(results.methods), results.study["train"]["epochs"]
    figure, panels = axes((count + 1) // 2, min(count, 2), height=0.9 + 1.7 * ((count + 1) // 2))
    for plot, row in zip(panels, results.methods, strict=False):
        runs = results.runs_of(row)
        _curve(plot, runs, "train_accuracy", ORANGE, "--", "s", "training")
        _curve(plot, runs, "val_accuracy", BLUE, "-", "o", "validation")
        plot.set_title(method_in_words(row.name), fontsize=10, loc="left")
        if not runs:
            plot.text(0.5, 0.5, "no runs yet", transform=plot.transAxes, ha="center")
        plot.set_xticks(range(1, epochs + 1, max(1, epochs // 6)))
    for plot in panels[max(0, count - 2) : count]:
        plot.set_xlabel("epoch")
        plot.tick_params(labelbottom=True)
    for plot in panels[count:]:
        plot.remove()
    drawing.legend(figure, panels[0])
    figure.supylabel("accuracy, %", fontsize=10)
    return figure


def paired_differences(results: Results) -> "Figure":
    """Difference of test accuracy in points of every two methods: seeds, mean, interval."""
    pairs = results.comparisons
    figure, (plot,) = axes(1, 1, height=1.2 + 0.5 * len(pairs))
    for y, pair in enumerate(pairs):
        drawing.bar(plot, y + 0.2, pair.interval, BLUE, "new seeds and new reviews")
        drawing.circles(plot, y - 0.08, pair.differences, "seed")
        drawing.mean_line(plot, y, pair.over_seeds.estimate)
    plot.axvline(0, color=VERMILLION, linewidth=1, linestyle="--")
    names = [
        f"{method_in_words(pair.second)}\n{MINUS} {method_in_words(pair.first)}" for pair in pairs
    ]
    drawing.rows_of(plot, names, "difference of test accuracy, points")
    drawing.legend(figure, plot)
    return figure


def _accuracies(runs: Sequence[RunRow]) -> list[float]:
    return [run.test_accuracy for run in runs if run.test_accuracy is not None]


def _curve(
    plot: "Axes",
    runs: Sequence[RunRow],
    quantity: str,
    color: str,
    line: str,
    marker: str,
    label: str,
) -> None:
    values = [[getattr(epoch, quantity) for epoch in run.epochs] for run in runs]
    # The epoch in which a run diverged has no accuracy.
    curves = [[100 * value for value in run if value is not None] for run in values]
    for curve in curves:
        xs = range(1, len(curve) + 1)
        plot.plot(xs, curve, f".{line}", color=color, markersize=3, linewidth=0.8, alpha=0.55)
    whole = [curve for curve in curves if curve]
    mean = [sum(epoch) / len(epoch) for epoch in zip(*whole, strict=False)]
    xs = range(1, len(mean) + 1)
    style = f"{line}{marker}"
    plot.plot(xs, mean, style, color=color, linewidth=2, markersize=3.8, label=label)


def heatmaps(cells: Sequence[RunRow]) -> "Figure":
    """Validation accuracy in percent by alpha and rank, one panel per choice of targets."""
    import matplotlib as mpl

    colours = mpl.colormaps["cividis"].resampled(16)  # with more, the key would be a bitmap
    values = {
        (lora.targets, lora.alpha, lora.rank): 100 * run.val_accuracy
        for run in cells
        if (lora := run.settings.lora) and run.val_accuracy is not None
    }
    choices = sorted({key[0] for key in values}, key=lambda targets: (len(targets), targets))
    alphas = sorted({alpha for _, alpha, _ in values})
    ranks = sorted({rank for *_, rank in values})
    columns = min(4, len(choices))
    lines = math.ceil(len(choices) / columns)
    figure, panels = axes(lines, columns, height=0.8 + 1.5 * lines, width=max(4.9, 1.9 * columns))
    low, high = min(values.values()), max(values.values())
    for plot, targets in zip(panels, choices, strict=False):
        grid = [[values.get((targets, a, r), math.nan) for r in ranks] for a in alphas]
        mesh = plot.pcolormesh(grid, cmap=colours, vmin=low, vmax=high)
        extra = [name for name in targets if name not in ("query", "value")]
        both = {"query", "value"} <= set(targets)
        plot.set_title(" ".join(["q v", *extra] if both else targets), fontsize=7, loc="left")
        plot.set_xticks([x + 0.5 for x in range(len(ranks))], [str(r) for r in ranks], fontsize=7)
        ys = [y + 0.5 for y in range(len(alphas))]
        plot.set_yticks(ys, [f"{alpha:g}" for alpha in alphas], fontsize=7)
        plot.grid(visible=False)
    for plot in panels[len(choices) :]:
        plot.remove()
    panels[0].invert_yaxis()
    figure.colorbar(mesh, ax=panels[: len(choices)], shrink=0.8)
    figure.supxlabel("rank", fontsize=9)
    figure.supylabel("alpha", fontsize=9)
    return figure


def scatter(cells: Sequence[RunRow]) -> "Figure":
    """Validation accuracy to the right, test accuracy upwards, in percent."""
    figure, (plot,) = axes(1, 1, height=3.4)
    pairs = [(100 * (run.val_accuracy or 0), 100 * (run.test_accuracy or 0)) for run in cells]
    xs, ys = zip(*pairs, strict=True)
    ends = [min(*xs, *ys), max(*xs, *ys)]
    plot.plot(ends, ends, color=INK, linewidth=0.9)
    plot.plot(xs, ys, "o", color=BLUE, markersize=4, alpha=0.6, markeredgewidth=0)
    plot.set_xlabel("validation accuracy, %")
    plot.set_ylabel("test accuracy, %")
    return figure


def collapse_by_alpha(rows: Sequence[Collapse]) -> "Figure":
    """Share of collapsed configurations in percent by alpha with exact intervals, and of those that
    predict a single class.
    """
    figure, (plot,) = axes(1, 1, height=3.0)
    for x, row in enumerate(rows):
        ends = [100 * (row.share.low or 0), 100 * (row.share.high or 0)]
        plot.plot([x, x], ends, color=BLUE, linewidth=3.2, solid_capstyle="butt")
    xs = range(len(rows))
    shares = [100 * row.share.estimate for row in rows]
    plot.plot(xs, shares, "o", color=BLUE, label="below 60 % on test")
    single = [100 * row.one_class / row.configurations for row in rows]
    plot.plot(xs, single, "s", color=VERMILLION, fillstyle="none", label="predicts a single class")
    plot.set_xticks(xs, [f"{row.alpha:g}" for row in rows])
    plot.set_xlim(-0.5, len(rows) - 0.5)
    plot.set_ylim(-4, 104)
    plot.set_xlabel("alpha")
    plot.set_ylabel("configurations, %")
    figure.legend(loc="outside lower center", ncols=2, fontsize=9)
    return figure
