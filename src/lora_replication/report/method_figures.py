"""Figures of the methods beside each other: cost in parameters, paired differences, the article's
numbers.
"""

from functools import partial
from typing import TYPE_CHECKING

from lora_replication.report.comparisons import Views
from lora_replication.report.drawing import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    VERMILLION,
    Drawing,
    axes,
    render,
)
from lora_replication.report.summary import MethodSummary, Summary
from lora_replication.report.wording import level, of, remark, stamp
from lora_replication.statistics import Interval, prediction_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw_method_figures(summary: Summary, views: Views) -> list[Drawing]:
    """Those of the figures for which there is something to draw."""
    drawings = []
    marked = stamp(summary.study)
    if any(row.test_sampling for row in summary.rows):
        draw = partial(accuracy_by_parameters, summary)
        drawings.append(
            render(
                "accuracy_by_parameters",
                "Accuracy and trainable parameters",
                parameters_caption(summary),
                draw,
                marked,
            )
        )
    if views.comparisons:
        draw = partial(paired_differences, views)
        drawings.append(
            render(
                "paired_differences",
                "Paired differences",
                differences_caption(summary, views),
                draw,
                marked,
            )
        )
    if comparable_rows(summary):
        draw = partial(published_against_reproduced, summary)
        drawings.append(
            render(
                "published_against_reproduced",
                "Published and reproduced",
                published_caption(summary),
                draw,
                marked,
            )
        )
    return drawings


def parameters_caption(summary: Summary) -> str:
    """How to read ``accuracy_by_parameters``."""
    runs = ", ".join(row.tested for row in summary.rows if row.parts["test"])
    return (
        f"Mean test accuracy against the number of trainable parameters (log axis), with the {level(summary.study.report.confidence)} t "
        f"interval over seeds ({runs}; none from one run). {remark(summary.study)}"
    ).strip()


def differences_caption(summary: Summary, views: Views) -> str:
    """How to read ``paired_differences``."""
    confidence = level(summary.study.report.confidence)
    seeds = ", ".join(
        of(len(pair.seeds), len(summary.study.run.seeds)) for pair in views.comparisons
    )
    bootstrap = any(pair.both for pair in views.comparisons)
    second = (
        f" Green: {confidence} two-level bootstrap over seeds and reviews, too narrow with few seeds."
        if bootstrap
        else ""
    )
    return (
        f"Test accuracy of one method less that of another, on the same seeds. Circles are seeds, the bar is their mean. Blue: "
        f"{confidence} paired t interval over seeds (n = {seeds} from top to bottom; none from one).{second} {remark(summary.study)}"
    ).strip()


def published_caption(summary: Summary) -> str:
    """How to read ``published_against_reproduced``."""
    rows = comparable_rows(summary)
    runs = ", ".join(row.tested for row in rows)
    confidence = level(summary.study.report.confidence)
    return (
        f"Test accuracy of the article's single runs (red diamonds) beside ours (circles), with the {confidence} prediction interval "
        f"for one more run of ours ({runs}; none from one run). A run like ours falls inside with that chance."
    )


def comparable_rows(summary: Summary) -> list[MethodSummary]:
    """The methods with runs whose published number is about the same thing."""
    return [row for row in summary.methods if row.comparable and row.parts["test"]]


def accuracy_by_parameters(summary: Summary) -> "Figure":
    """Mean test accuracy in percent with its interval over seeds, against trainable parameters."""
    figure, (plot,) = axes(1, 1, height=3.4)
    rows = [row for row in summary.rows if row.parts["test"] and row.trainable_parameters]
    for row, marker in zip(rows, "osD^vPX*" * (1 + len(rows) // 8), strict=False):
        interval, x = row.parts["test"], row.trainable_parameters
        if interval and x:
            if interval.low is not None and interval.high is not None:
                plot.plot(
                    [x, x],
                    [100 * interval.low, 100 * interval.high],
                    color=BLUE,
                    linewidth=2.4,
                    solid_capstyle="butt",
                )
            plot.plot(
                [x],
                [100 * interval.estimate],
                marker,
                color=INK,
                markersize=6,
                fillstyle="none",
                label=row.name,
            )
    plot.set_xscale("log")
    plot.margins(x=0.08)
    plot.set_xlabel("trainable parameters")
    plot.set_ylabel("test accuracy, %")
    figure.legend(loc="outside lower center", ncols=3, fontsize=9)
    return figure


def paired_differences(views: Views) -> "Figure":
    """Difference of test accuracy in points of every two methods: seeds, mean, both intervals."""
    figure, (plot,) = axes(1, 1, height=1.2 + 0.5 * len(views.comparisons))
    for y, pair in enumerate(views.comparisons):
        _bar(plot, y + 0.14, pair.paired.difference, BLUE)
        _bar(plot, y + 0.28, pair.both, GREEN)
        plot.plot([100 * one for one in pair.differences], [y - 0.08] * len(pair.differences), "o", color=INK, markersize=4.5,
                  fillstyle="none", markeredgewidth=0.9)  # fmt: skip
        plot.plot(
            [100 * pair.paired.difference.estimate] * 2,
            [y - 0.2, y + 0.34],
            color=INK,
            linewidth=1.4,
        )
    plot.axvline(0, color=VERMILLION, linewidth=1, linestyle="--")
    plot.set_yticks(
        range(len(views.comparisons)),
        [f"{pair.second}\nless {pair.first}" for pair in views.comparisons],
        fontsize=8.5,
    )
    plot.set_ylim(len(views.comparisons) - 0.4, -0.6)
    plot.grid(visible=False, axis="y")
    plot.set_xlabel("difference of test accuracy, points")
    return figure


def published_against_reproduced(summary: Summary) -> "Figure":
    """Our runs in percent, the interval for one more, and the article's run."""
    rows = comparable_rows(summary)
    figure, (plot,) = axes(1, 1, height=1.2 + 0.5 * len(rows))
    for y, row in enumerate(rows):
        runs = [run.happened.test.fraction for run in row.runs if run.happened.test]
        _bar(plot, y + 0.15, prediction_interval(runs, summary.study.report.confidence), ORANGE)
        plot.plot(
            [100 * run for run in runs],
            [y] * len(runs),
            "o",
            color=INK,
            markersize=4.5,
            fillstyle="none",
        )
        if row.published:
            plot.plot(
                [row.published.test_percent.value], [y - 0.18], "D", color=VERMILLION, markersize=5
            )
    plot.set_yticks(range(len(rows)), [row.name for row in rows])
    plot.set_ylim(len(rows) - 0.4, -0.6)
    plot.grid(visible=False, axis="y")
    plot.set_xlabel("test accuracy, %")
    return figure


def _bar(plot: "Axes", y: float, interval: Interval | None, color: str) -> None:
    if interval and interval.low is not None and interval.high is not None:
        plot.plot(
            [100 * interval.low, 100 * interval.high],
            [y, y],
            color=color,
            linewidth=3.2,
            solid_capstyle="butt",
        )
