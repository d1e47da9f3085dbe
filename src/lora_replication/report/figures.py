"""Figures of the methods, of tuning and of a grid, each drawn by a function that returns it."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lora_replication.report.plots import (
    BLUE,
    LINES,
    ORANGE,
    VERMILLION,
    WIDTH_INCHES,
    Panels,
    axes,
    heatmaps,
    legend,
    name_rows,
    row_of,
)
from lora_replication.report.rendering import INK, Drawing, render
from lora_replication.report.results import Collapse, Comparison, MethodRow, Results, RunRow, Tried
from lora_replication.report.words import MINUS
from lora_replication.statistics.selection import selection_chances
from lora_replication.study import method_in_words

DODGE = 1.05
"""Ratio of neighbours at one learning rate, so that no interval hides another."""

MOST_PAIRS = 21
"""Of seven methods; more are a table alone."""
CLOSE = 15.0
"""Points between accuracies, beyond which the best ones are shown a second time, enlarged."""

CURVES = (
    ("train_accuracy", ORANGE, "--", "s", "training"),
    ("val_accuracy", BLUE, "-", "o", "validation"),
)


def draw_figures(results: Results) -> dict[str, Drawing]:
    """Those for which there is something to draw, by name."""
    cells = [run for run in results.cells if run.test_accuracy is not None]
    collapse = partial(collapse_by_alpha, results.grid.collapse, len(results.data.classes))
    tried = results.tuning.tried if results.tuning else []
    scaled = [
        one for own in _by_method(tried).values() for one in own if own[-1].alpha != own[0].alpha
    ]
    tested = any(row.test for row in results.cited)
    costly = [row for row in results.tuned if row.test and row.seconds]
    own_pairs = results.tuned_comparisons
    if len(own_pairs) > MOST_PAIRS:
        own_pairs = [pair for pair in own_pairs if pair.first == results.tuned[0].name]
    curves = any(len(run.epochs) > 1 for run in results.single_runs)
    made: dict[str, tuple[str, Callable[[], Figure], bool]] = {
        "accuracy_by_method": (
            "Test accuracy by method", partial(accuracy_by_method, results), tested),
        "accuracy_by_rate": (
            "Validation accuracy by learning rate", partial(accuracy_by_rate, tried), bool(tried)),
        "best_of_trials": (
            "Best of n trials", partial(best_of_trials, tried), bool(tried)),
        "learning_curves": ("Accuracy by epoch", partial(learning_curves, results), curves),
        "paired_differences": (
            "Paired differences", partial(paired_differences, results.comparisons),
            0 < len(results.comparisons) <= MOST_PAIRS),
        "own_rate_differences": (
            "Paired differences, each method at its own rate",
            partial(paired_differences, own_pairs), 0 < len(own_pairs) <= MOST_PAIRS),
        "accuracy_by_cost": (
            "Test accuracy by parameters and time", partial(accuracy_by_cost, costly),
            len(costly) > 1),
        "chosen_again": (
            "Validation accuracy when chosen and on fresh seeds",
            partial(chosen_again, results), bool(results.chosen)),
        "grid_heatmaps": (
            "Validation accuracy by alpha and rank", partial(grid_heatmaps, cells), bool(cells)),
        "rate_heatmaps": ("Validation accuracy by alpha and learning rate",
                          partial(rate_heatmaps, scaled), bool(scaled)),
        "grid_collapse": ("Collapse by alpha", collapse, bool(cells)),
    }  # fmt: skip
    shown = {name: (heading, draw) for name, (heading, draw, is_there) in made.items() if is_there}
    return {name: render(heading, results.stamp, draw) for name, (heading, draw) in shown.items()}


def accuracy_by_method(results: Results) -> Figure:
    """Test accuracy in percent of each method and the grid's winner: runs, mean, interval, the
    article's number where comparable.
    """
    rows = results.cited
    figure, (plot,) = axes(1, 1, height=1.14 + min(0.32 * len(rows), 6))
    for y, row in enumerate(rows):
        if row.test_sampling:
            accuracies = [run.test.fraction for run in results.runs_of(row) if run.test]
            row_of(plot, y, row.interval, accuracies, row.test_sampling.estimate, "run")
        if row.comparable and row.published:
            at, label = [row.published.test_percent], "the article's run"
            plot.plot(at, [y - 0.24], "D", color=VERMILLION, markersize=5, label=label)
    name_rows(plot, [row.words for row in rows], "test accuracy, %")
    legend(figure, plot)
    return figure


def paired_differences(pairs: Sequence[Comparison]) -> Figure:
    """Difference of test accuracy in points of these pairs of methods: seeds, mean, interval."""
    figure, (plot,) = axes(1, 1, height=1.2 + 0.5 * len(pairs))
    for y, pair in enumerate(pairs):
        row_of(plot, y, pair.interval, pair.differences, pair.over_seeds.estimate, "seed")
    plot.axvline(0, color=VERMILLION, linewidth=1, linestyle="--")
    names = [
        f"{method_in_words(pair.second)}\n{MINUS} {method_in_words(pair.first)}" for pair in pairs
    ]
    name_rows(plot, names, "difference of test accuracy, points")
    legend(figure, plot)
    return figure


def accuracy_by_cost(rows: Sequence[MethodRow]) -> Figure:
    """Mean test accuracy in percent of each row with its interval, against trainable parameters and
    against minutes of its fastest run.
    """
    figure = Figure(figsize=(WIDTH_INCHES, 6.2 + 0.1 * len(rows)), layout="constrained")
    panels = figure.subplots(2, 1, sharey=True)
    for row, (color, marker) in zip(rows, LINES, strict=False):
        accuracy, minutes = row.interval or row.test, (row.seconds or 0) / 60
        if accuracy is None:
            continue
        mean = 100 * accuracy.estimate
        ends = [mean if end is None else 100 * end for end in (accuracy.low, accuracy.high)]
        style = {"color": color, "fillstyle": "none", "label": method_in_words(row.name)}
        for plot, cost in zip(panels, (row.trainable_parameters, minutes), strict=True):
            plot.vlines([cost], *ends, color=color, linewidth=2, alpha=0.35)
            plot.plot([cost], [mean], marker, **style)
    panels[0].set(xscale="log", xlabel="trainable parameters")
    panels[1].set_xlabel("minutes of its fastest run, training and evaluation")
    figure.supylabel("test accuracy, %", fontsize=10)
    legend(figure, panels[0])
    return figure


def chosen_again(results: Results) -> Figure:
    """Validation accuracy in percent of each chosen setting: by which it was chosen, and its mean
    over fresh seeds.
    """
    figure, (plot,) = axes(1, 1, height=1.2 + 0.36 * len(results.chosen))
    for y, (row, before) in enumerate(results.chosen):
        after = row.val.estimate if row.val else before
        plot.plot([100 * before, 100 * after], [y, y], color=INK, linewidth=1.2, alpha=0.5)
        plot.plot(100 * before, y, "o", color=VERMILLION, fillstyle="none", label="when chosen")
        plot.plot(100 * after, y, "o", color=BLUE, label="on fresh seeds, mean")
    names = [row.configuration or method_in_words(row.name) for row, _ in results.chosen]
    name_rows(plot, names, "validation accuracy, %")
    legend(figure, plot)
    return figure


def accuracy_by_rate(tried: Sequence[Tried]) -> Figure:
    """Validation accuracy in percent by learning rate, of each method its best setting at each rate
    with its interval; the chosen one is filled. Methods at one rate stand ``DODGE`` apart.
    """
    best = max(100 * one.val.estimate for one in tried)
    zoom = best - min(100 * one.val.estimate for one in tried) > CLOSE
    figure = Figure(figsize=(WIDTH_INCHES, 5.6 if zoom else 3.6), layout="constrained")
    panels = figure.subplots(1 + zoom, 1, squeeze=False, sharex=True)[:, 0]
    for plot in panels:
        _rates(plot, tried)
    if zoom:
        panels[1].set_ylim(best - CLOSE / 3, best + 2)
        panels[1].set_title("the best, enlarged", fontsize=9, loc="left")
    panels[-1].set_xlabel("learning rate")
    figure.supylabel("validation accuracy, %", fontsize=10)
    legend(figure, panels[0])
    return figure


def _rates(plot: Axes, tried: Sequence[Tried]) -> None:
    methods = _by_method(tried)
    for place, (method, (color, marker)) in enumerate(zip(methods, LINES, strict=False)):
        own, aside = methods[method], DODGE ** (place - (len(methods) - 1) / 2)
        rates = sorted({one.learning_rate for one in own})
        best = [
            max((o for o in own if o.learning_rate == rate), key=lambda o: o.val.estimate)
            for rate in rates
        ]
        means = [100 * one.val.estimate for one in best]
        xs = [rate * aside for rate in rates]
        lows, highs = ([100 * (getattr(o.val, end) or 0) for o in best] for end in ("low", "high"))
        plot.vlines(xs, lows, highs, color=color, linewidth=2, alpha=0.35)
        label, style = method_in_words(method), f"-{marker}"
        plot.plot(xs, means, style, color=color, fillstyle="none", markersize=5, label=label)
        chosen = next(one for one in own if one.chosen)
        at = [chosen.learning_rate * aside], [100 * chosen.val.estimate]
        plot.plot(*at, marker, color=color, markersize=7)
    plot.set_xscale("log")


def best_of_trials(tried: Sequence[Tried]) -> Figure:
    """Expected validation accuracy in percent of the best of n settings drawn without repeats."""
    figure, (plot,) = axes(1, 1, height=3.0)
    for (method, own), (color, marker) in zip(_by_method(tried).items(), LINES, strict=False):
        values = np.array([100 * one.val.estimate for one in own])
        xs = range(1, len(values) + 1)
        means = [float(selection_chances(values, n) @ values) for n in xs]
        label, style = method_in_words(method), f"-{marker}"
        plot.plot(xs, means, style, color=color, fillstyle="none", markersize=4, label=label)
    plot.set(xlabel="trials", ylabel="validation accuracy, %")
    legend(figure, plot)
    return figure


def _by_method(tried: Sequence[Tried]) -> dict[str, list[Tried]]:
    return {name: [o for o in tried if o.method == name] for name in {o.method: 0 for o in tried}}


def learning_curves(results: Results) -> Figure:
    """Accuracy in percent by epoch, training and validation, one panel per method, all seeds."""
    count, epochs = len(results.methods), results.study["train"]["epochs"]
    figure, panels = axes((count + 1) // 2, min(count, 2), height=0.9 + 1.7 * ((count + 1) // 2))
    for plot, row in zip(panels, results.methods, strict=False):
        runs = results.runs_of(row)
        for quantity, color, line, marker, label in CURVES:
            # The epoch in which a run diverged has no accuracy.
            values = ([getattr(epoch, quantity) for epoch in run.epochs] for run in runs)
            curves = [[100 * a for a in run if a is not None] for run in values]
            for curve in curves:
                xs, style = range(1, len(curve) + 1), f".{line}"
                plot.plot(xs, curve, style, color=color, markersize=3, linewidth=0.8, alpha=0.55)
            mean = [sum(e) / len(e) for e in zip(*filter(None, curves), strict=False)]
            xs, style = range(1, len(mean) + 1), f"{line}{marker}"
            plot.plot(xs, mean, style, color=color, linewidth=2, markersize=3.8, label=label)
        plot.set_title(method_in_words(row.name), fontsize=10, loc="left")
        if not runs:
            plot.text(0.5, 0.5, "no runs yet", transform=plot.transAxes, ha="center")
        plot.set_xticks(range(1, epochs + 1, max(1, epochs // 6)))
    for plot in panels[max(0, count - 2) : count]:
        plot.set_xlabel("epoch")
        plot.tick_params(labelbottom=True)
    for plot in panels[count:]:
        plot.remove()
    legend(figure, panels[0])
    figure.supylabel("accuracy, %", fontsize=10)
    return figure


def grid_heatmaps(cells: Sequence[RunRow]) -> Figure:
    """Validation accuracy in percent by alpha and rank (best rate), a panel per set of targets."""
    panels: Panels = {}
    found = [
        (run.settings.lora, run.val.fraction) for run in cells if run.settings.lora and run.val
    ]
    for lora, accuracy in sorted(found, key=lambda one: (len(one[0].targets), one[0].targets)):
        title = " ".join(lora.targets).replace("query value", "q v")
        panels.setdefault(title, {}).setdefault((lora.alpha, lora.rank), 100 * accuracy)
    return heatmaps(panels, "rank")


def rate_heatmaps(tried: Sequence[Tried]) -> Figure:
    """Validation accuracy in percent by alpha and learning rate, one panel per method and rank; a
    circle marks the best rate of each alpha.
    """
    panels: Panels = {}
    for one in tried:
        title, alpha = f"{method_in_words(one.method)}, rank {one.rank}", one.alpha or 0.0
        panels.setdefault(title, {})[alpha, one.learning_rate] = 100 * one.val.estimate
    return heatmaps(panels, "learning rate", mark_best=True)


def collapse_by_alpha(rows: Sequence[Collapse], classes: int = 2) -> Figure:
    """Share of collapsed configurations in percent by alpha with exact intervals, and of those that
    predict a single class.
    """
    figure, (plot,) = axes(1, 1, height=3.0)
    for x, row in enumerate(rows):
        ends = [100 * (row.share.low or 0), 100 * (row.share.high or 0)]
        plot.plot([x, x], ends, color=BLUE, linewidth=3.2, solid_capstyle="butt")
    xs = range(len(rows))
    shares = [100 * row.share.estimate for row in rows]
    plot.plot(xs, shares, "o", color=BLUE, label=f"below {120 / classes:.3g} % on test")
    single = [100 * row.one_class / row.configurations for row in rows]
    plot.plot(xs, single, "s", color=VERMILLION, fillstyle="none", label="predicts a single class")
    plot.set_xticks(xs, [f"{row.alpha:g}" for row in rows])
    plot.set(xlim=(-0.5, len(rows) - 0.5), ylim=(-4, 104))
    plot.set(xlabel="alpha", ylabel="configurations, %")
    legend(figure, plot)
    return figure
