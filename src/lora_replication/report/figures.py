"""Figures of the methods, each drawn from the results by a function that returns it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lora_replication.report import drawing
from lora_replication.report.drawing import BLUE, ORANGE, VERMILLION, Drawing, axes
from lora_replication.report.grid_figures import collapse_by_alpha, heatmaps, scatter
from lora_replication.report.results import Results, RunRow
from lora_replication.report.words import MINUS, method

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
    drawing.rows_of(plot, [method(row.name) for row in rows], ACCURACY)
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
        plot.set_title(method(row.name), fontsize=10, loc="left")
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
    names = [f"{method(pair.second)}\n{MINUS} {method(pair.first)}" for pair in pairs]
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
