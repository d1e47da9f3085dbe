"""Figures of the methods, each drawn from a summary by a function that returns it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from lora_replication.record import Record
from lora_replication.report.comparisons import Views
from lora_replication.report.drawing import BLUE, INK, ORANGE, VERMILLION, Drawing, axes, render
from lora_replication.report.grid_figures import draw_grid_figures
from lora_replication.report.method_figures import draw_method_figures
from lora_replication.report.summary import MethodSummary, Summary
from lora_replication.report.wording import level, of, remark, stamp
from lora_replication.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_figures(summary: Summary, views: Views) -> list[Drawing]:
    """All figures of the report; those of comparisons and of the grid only where there is something
    to draw.
    """
    figures: tuple[tuple[str, str, Callable[[Summary], str], Callable[[Summary], Figure]], ...] = (
        ("accuracy_by_method", "Test accuracy by method", accuracy_caption, accuracy_by_method),
        ("learning_curves", "Accuracy by epoch", learning_caption, learning_curves),
    )
    marked = stamp(summary.study)
    always = [
        render(name, heading, caption(summary), partial(draw, summary), marked)
        for name, heading, caption, draw in figures
    ]
    return [*always, *draw_method_figures(summary, views), *draw_grid_figures(summary)]


def accuracy_caption(summary: Summary) -> str:
    """How to read ``accuracy_by_method``."""
    confidence = level(summary.study.report.confidence)
    rows = [row for row in summary.rows if row.test_sampling]
    runs = ", ".join(row.tested for row in summary.rows)
    reviews = sorted({row.test_sampling.n for row in rows if row.test_sampling})
    diamond = (
        "Diamonds are the article's single runs. " if any(row.comparable for row in rows) else ""
    )
    return (
        f"Test accuracy. Circles are runs, the bar is their mean. Blue: {confidence} t interval over seeds, cut to 0 to 100 "
        f"({runs}; none from one run). Orange: {confidence} Wilson score interval at the mean for test sampling "
        f"(n = {', '.join(f'{n:,}' for n in reviews) or 0} reviews, the same for every run). {diamond}{remark(summary.study)}"
    ).strip()


def learning_caption(summary: Summary) -> str:
    """How to read ``learning_curves``."""
    runs = ", ".join(
        f"{row.name} n = {of(len(row.runs), len(row.seeds))}" for row in summary.methods
    )
    return (
        "Accuracy after each epoch, one thin line per seed, their mean in bold: validation (blue, solid, circles) and training "
        f"(orange, dashed, squares; taken while training, with dropout on). Runs: {runs}. No intervals are drawn. {remark(summary.study)}"
    ).strip()


def accuracy_by_method(summary: Summary) -> "Figure":
    """Test accuracy in percent of each method and the grid's winner: runs, mean, both intervals,
    the article's number where comparable.
    """
    rows = summary.rows
    figure, panels = axes(1, 1, height=1.3 + 0.56 * len(rows))
    plot = panels[0]
    for y, row in enumerate(rows):
        _accuracy_row(plot, y, row)
    plot.set_yticks(range(len(rows)), [row.name for row in rows])
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.grid(visible=False, axis="y")
    plot.set_xlabel("test accuracy, %")
    figure.legend(
        handles=_accuracy_keys(any(row.comparable for row in rows)),
        loc="outside lower center",
        ncols=2,
        fontsize=9,
    )
    if not any(row.test_sampling for row in rows):
        plot.text(0.5, 0.5, "no runs yet", transform=plot.transAxes, ha="center")
    return figure


def learning_curves(summary: Summary) -> "Figure":
    """Accuracy in percent by epoch, training and validation, one panel per method, all seeds."""
    count = len(summary.methods)
    figure, panels = axes((count + 1) // 2, min(count, 2), height=0.9 + 1.7 * ((count + 1) // 2))
    for plot, row in zip(panels, summary.methods, strict=False):
        _curve(plot, row.runs, "train_accuracy", color=ORANGE, line="--", marker="s")
        _curve(plot, row.runs, "val_accuracy", color=BLUE, line="-", marker="o")
        plot.set_title(row.name, fontsize=10, loc="left")
        if not row.runs:
            plot.text(0.5, 0.5, "no runs yet", transform=plot.transAxes, ha="center")
        plot.set_xticks(
            range(1, summary.study.train.epochs + 1, max(1, summary.study.train.epochs // 6))
        )
    for plot in panels[max(0, count - 2) : count]:
        plot.set_xlabel("epoch")
        plot.tick_params(labelbottom=True)
    for plot in panels[count:]:
        plot.remove()
    figure.legend(handles=_curve_keys(), loc="outside lower center", ncols=2, fontsize=9)
    figure.supylabel("accuracy, %", fontsize=10)
    return figure


def _accuracy_row(plot: "Axes", y: int, row: MethodSummary) -> None:
    if row.test_sampling:
        _interval(plot, y + 0.14, row.parts["test"], BLUE)
        _interval(plot, y + 0.28, row.test_sampling, ORANGE)
        runs = [100 * run.happened.test.fraction for run in row.runs if run.happened.test]
        plot.plot(
            runs,
            [y - 0.06] * len(runs),
            "o",
            color=INK,
            markersize=4.5,
            fillstyle="none",
            markeredgewidth=0.9,
        )
        plot.plot(
            [100 * row.test_sampling.estimate] * 2, [y - 0.2, y + 0.34], color=INK, linewidth=1.4
        )
    if row.comparable and row.published:
        plot.plot(
            [row.published.test_percent.value], [y - 0.24], "D", color=VERMILLION, markersize=5
        )


def _accuracy_keys(with_article: bool) -> list[Any]:
    from matplotlib.lines import Line2D

    keys = [
        Line2D([], [], color=BLUE, linewidth=3.2, label="seeds (t interval)"),
        Line2D([], [], color=ORANGE, linewidth=3.2, label="test sampling (Wilson)"),
        Line2D(
            [],
            [],
            color=INK,
            linestyle="none",
            marker="o",
            markersize=4.5,
            fillstyle="none",
            label="run",
        ),
        Line2D(
            [],
            [],
            color=INK,
            linestyle="none",
            marker="|",
            markersize=11,
            markeredgewidth=1.4,
            label="mean of the runs",
        ),
    ]
    article = Line2D(
        [],
        [],
        color=VERMILLION,
        linestyle="none",
        marker="D",
        markersize=5,
        label="the article's run",
    )
    return [*keys, article] if with_article else keys


def _curve_keys() -> list[Any]:
    from matplotlib.lines import Line2D

    return [
        Line2D([], [], color=BLUE, linewidth=2, marker="o", markersize=3.8, label="validation"),
        Line2D(
            [],
            [],
            color=ORANGE,
            linewidth=2,
            linestyle="--",
            marker="s",
            markersize=3.8,
            label="training",
        ),
    ]


def _interval(plot: "Axes", y: float, interval: Interval | None, color: str) -> None:
    if interval and interval.low is not None and interval.high is not None:
        plot.plot(
            [100 * interval.low, 100 * interval.high],
            [y, y],
            color=color,
            linewidth=3.2,
            solid_capstyle="butt",
        )


def _curve(
    plot: "Axes", runs: Sequence[Record], quantity: str, *, color: str, line: str, marker: str
) -> None:
    told = [[getattr(epoch, quantity) for epoch in run.happened.epochs] for run in runs]
    curves = [
        [100 * value for value in values if value is not None] for values in told
    ]  # the epoch that diverged has none
    curves = [curve for curve in curves if curve]
    for curve in curves:
        plot.plot(range(1, len(curve) + 1), curve, line, color=color, linewidth=0.8, alpha=0.55)
    shortest = min((len(curve) for curve in curves), default=0)
    mean = [sum(curve[epoch] for curve in curves) / len(curves) for epoch in range(shortest)]
    plot.plot(
        range(1, shortest + 1), mean, line, color=color, linewidth=2, marker=marker, markersize=3.8
    )
