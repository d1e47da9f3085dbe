"""The report of the published grid, through the same tables and page as a study's."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lora_replication.article.published_file import RANKS
from lora_replication.report import published_figures as figures
from lora_replication.report import words
from lora_replication.report.build import drawing_files, write_report
from lora_replication.report.published import (
    EXTRA,
    PublishedResults,
    Rows,
    compare_grids,
    summarise_published,
)
from lora_replication.report.rendering import Drawing, markdown, page, render
from lora_replication.report.tables import Column, Table, csv_bytes, table
from lora_replication.workspace import Workspace

TITLE = "The published grid: what the article's own runs say"
Show = Callable[[dict[str, Any]], tuple[float, str]]

STAMP = "The article's own runs, one each, unseeded"
FILES = ("results.json", "alpha_by_rank.csv")

CHOICES = [
    Column("Selected as", "rule", left=True),
    Column("Configuration", "words", left=True),
    Column("Train", "train", words.percent),
    Column("Validation", "val", words.estimate, lambda row: words.ends(row["val"])),
    Column("Test", "test", words.estimate, lambda row: words.ends(row["test"])),
    Column("Place by validation", "place_by_val"),
    Column("True rank", "ranks", lambda two: f"{two[0]} to {two[1]}" if two else words.ABSENT),
    Column("Place on test", "place_by_test"),
]
BEST_SETS = [
    Column("What varies the accuracies", "noise", left=True),
    Column("sd, points", "sd", words.percent),
    Column("Degrees of freedom", "freedom"),
    Column("Corrected (Holm)", "corrected"),
    Column("Each test on its own", "single"),
]
RANDOM_SEARCH = [
    Column("Configurations tried", "trials"),
    Column("Mean test accuracy", "test", words.percent),
    Column("5 % quantile", "low", words.percent),
    Column("95 % quantile", "high", words.percent),
]


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
    about = f"{results.found} runs of {results.setting}"
    facts = {"title": TITLE, "description": about, "files": FILES, "tables": _tables(results)}
    files = {
        "report.html": page("published.j2", drawings, r=results, **facts),
        "report.md": markdown("published.j2", drawings, r=results, **facts),
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
        "choices": (CHOICES, results.choices),
        "best_sets": (BEST_SETS, results.best_sets),
        "random_search": (RANDOM_SEARCH, results.random_search),
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
                    partial(figures.ranking, runs, chosen[:3])),
        "variance": ("sources of variance", partial(figures.variance_bars, results.variance)),
        "collapse": ("collapsed configurations by alpha and targets",
                     partial(figures.heatmap, *cells["collapse"],
                             "LoRA besides query and value on")),
        "alpha_by_rank": ("test accuracy by alpha and rank",
                          partial(figures.heatmap, *cells["alpha_by_rank"], "rank")),
        "random_search": ("random search", partial(figures.random_search, search, chosen[2:])),
    }  # fmt: skip
    if not results.variance:
        del made["variance"]
    return {
        name: render(f"Published grid: {heading}", STAMP, draw)
        for name, (heading, draw) in made.items()
    }
