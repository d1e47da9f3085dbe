"""The report of the published grid: figures of its own, tables and page as a study's."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lora_replication.article import article
from lora_replication.article.published_file import ALPHAS, RANKS
from lora_replication.report.build import drawing_files, write_report
from lora_replication.report.plots import BLUE, ORANGE, VERMILLION, WIDTH_INCHES, axes, name_rows
from lora_replication.report.published import (
    EXTRA,
    PublishedResults,
    Rows,
    compare_grids,
    summarise_published,
)
from lora_replication.report.rendering import INK, Drawing, markdown, page, render
from lora_replication.report.tables import Column, Table, csv_bytes, table
from lora_replication.report.tables import columns as stated
from lora_replication.workspace import Workspace

TITLE = "The published grid: what the article's own runs say"
Show = Callable[[dict[str, Any]], tuple[float, str]]

STAMP = "The article's own runs, one each, unseeded"
FILES = ("results.json", "alpha_by_rank.csv")
STATED = ("choices", "best_sets", "random_search")
"""Tables whose columns are in ``columns.yaml``."""

GROUPS = (
    ("alpha 1 or 4", (1, 4), BLUE, "o"),
    ("alpha 8", (8,), ORANGE, "s"),
    ("alpha 16 or more", (16, 32, 64), VERMILLION, "^"),
)
"""Label, alphas, colour and marker."""

SHOWN_CLOSE = 200
"""Places from the best on that the ranking shows a second time, enlarged."""


def build_published_report(
    file: Path, folder: Path, confidence: float, workspace: Workspace | None = None
) -> PublishedResults:
    """Write the report of the results ``file`` into ``folder``; the same file gives the same bytes.

    Args:
        workspace: of a study whose grid is compared with the published one.

    Raises:
        DataError: the file is not as the author's script writes it; nothing is written then.
        EnvironmentProblem: a file could not be written.
    """
    results, runs = summarise_published(file, confidence)
    if workspace:
        results = results.model_copy(update={"with_study": compare_grids(runs, workspace)})
    drawings = _draw(results, runs)
    means = results.by_alpha_and_rank
    columns = [Column("", name, name=name) for name in means[0]]
    facts: dict[str, Any] = {"r": results, "title": TITLE, "files": FILES, "article": article()}
    facts |= {"tables": _tables(results), "description": f"{results.found} runs, {results.setting}"}
    files = {
        "report.html": page("published.j2", drawings, **facts),
        "report.md": markdown("published.j2", drawings, **facts),
        "card.md": markdown("published_card.j2", drawings, **facts),
        "results.json": results.model_dump_json(indent=1).encode() + b"\n",
        "alpha_by_rank.csv": csv_bytes(columns, means),
    }
    write_report(folder, files | drawing_files(drawings))
    return results


def _cells(results: PublishedResults) -> dict[str, tuple[Rows, str, Sequence[Any], Show]]:
    """What is shown by alpha: rows, what they are by besides, its values, and how one is shown."""
    return {
        "alpha_by_rank": (results.by_alpha_and_rank, "rank", RANKS, _mean),
        "collapse": (results.by_alpha_and_targets, "also on", EXTRA, _collapsed),
    }


def _mean(row: dict[str, Any]) -> tuple[float, str]:
    """Colours begin at 50 %, what guessing gives."""
    return 2 * row["test_accuracy"] - 1, f"{100 * row['test_accuracy']:.1f}"


def _collapsed(row: dict[str, Any]) -> tuple[float, str]:
    found, count = row["collapsed"], row["configurations"]
    return found / count, f"{found} of {count}"


def _tables(results: PublishedResults) -> dict[str, Table]:
    regions = list(results.variance[0])[1:] if results.variance else []
    shares = [Column(f"{name}, %", name, lambda x: f"{100 * x:.1f}") for name in regions]
    made: dict[str, tuple[list[Column], Rows]] = {
        **{n: (stated(None, f"published.{n}"), getattr(results, n)) for n in STATED},
        "variance": ([Column("Source", "source", left=True), *shares], results.variance),
        **{name: _by_alpha(*cells) for name, cells in _cells(results).items()},
    }
    return {name: table(*content) for name, content in made.items() if content[1]}


def _by_alpha(rows: Rows, by: str, names: Sequence[Any], show: Show) -> tuple[list[Column], Rows]:
    """The columns and lines of a table."""
    lines: dict[int, dict[str, Any]] = {}
    for row in rows:
        empty = {"alpha": row["alpha"], **dict.fromkeys(map(str, names))}
        lines.setdefault(row["alpha"], empty)[str(row[by])] = show(row)[1]
    columns = [Column(f"{by} {name}".capitalize(), str(name)) for name in names]
    return [Column("Alpha", "alpha"), *columns], list(lines.values())


def _draw(results: PublishedResults, runs: pd.DataFrame) -> dict[str, Drawing]:
    cells, chosen, search = _cells(results), results.choices, results.random_search
    made: dict[str, tuple[str, Callable[[], Any]]] = {
        "ranking": ("validation accuracy, best first",
                    partial(ranking, runs, chosen[:3])),
        "variance": ("sources of variance", partial(variance_bars, results.variance)),
        "collapse": ("collapsed configurations by alpha and targets",
                     partial(heatmap, *cells["collapse"],
                             "LoRA besides query and value on")),
        "alpha_by_rank": ("test accuracy by alpha and rank",
                          partial(heatmap, *cells["alpha_by_rank"], "rank")),
        "random_search": ("random search", partial(random_search, search, chosen[2:])),
    }  # fmt: skip
    if not results.variance:
        del made["variance"]
    return {
        name: render(f"Published grid: {heading}", STAMP, draw)
        for name, (heading, draw) in made.items()
    }


def ranking(runs: pd.DataFrame, choices: Rows) -> Figure:
    """Validation accuracy in percent, best first: of all ``runs`` above, of the first ones below,
    with a band over those that can't be excluded as the best, and the ``choices`` marked.
    """
    figure = Figure(figsize=(WIDTH_INCHES, 3.7), layout="constrained")
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
