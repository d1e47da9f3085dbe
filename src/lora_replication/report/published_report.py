"""The report of the published grid, through the same tables, figures and page as a study's."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from lora_replication.article.published_file import ALPHAS, RANKS
from lora_replication.report import figures, words
from lora_replication.report.build import drawing_files, write_report
from lora_replication.report.published import PublishedResults, compare_grids, summarise_published
from lora_replication.report.rendering import Drawing, markdown, page, render
from lora_replication.report.summary import COLLAPSED_BELOW
from lora_replication.report.tables import Column, Table, csv_bytes, table
from lora_replication.workspace import Workspace

TITLE = "The published grid: what the article's own runs say"
STAMP = "The article's own runs, one each, unseeded"
FILES = ("results.json", "alpha_by_rank.csv")
LIVE_PERCENT = 100 * COLLAPSED_BELOW
MOST_PAIRS = 20
"""Shown of both grids, so that the published file is not repeated."""

CHOICES = [
    Column("Selected as", "rule", left=True),
    Column("Configuration", "configuration", left=True),
    Column("Train", "train", words.percent),
    Column("Validation", "val", words.estimate, lambda row: words.ends(row.val)),
    Column("Test", "test", words.estimate, lambda row: words.ends(row.test)),
    Column("Place by validation", "place_by_val"),
    Column("Place on test", "place_by_test"),
]
COLLAPSE = [
    Column("Alpha", "alpha", lambda alpha: f"{alpha:g}"),
    Column("Configurations", "configurations"),
    Column("Collapsed", "collapsed"),
    Column("Share, %", "share", words.estimate),
    Column("Interval", "share", words.ends),
    Column("Single class", "one_class"),
]
MEANS = [
    *(Column("", name, name=name) for name in ("alpha", "rank")),
    Column("", "test.estimate", name="test_accuracy"),
    Column("", "test", words.ends, name="t"),
    Column("", "test.n", name="configurations"),
]
PAIRS = [
    Column("Configuration", "name", left=True),
    Column("Ours", "ours", words.percent),
    Column("Published", "test", words.percent),
    Column("Difference", lambda pair: pair["ours"] - pair["test"], words.signed),
    Column("p, Holm", "p_holm", lambda p: f"{p:.2g}"),
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
    both = compare_grids(runs, workspace, confidence) if workspace else None
    pairs = both[1] if both else None
    results = results.model_copy(update={"with_study": both[0]}) if both else results
    drawings = _draw(results, runs, pairs)
    facts = {"r": results, "tables": _tables(results, pairs), "title": TITLE, "files": FILES}
    facts |= {"description": f"{results.found} runs of {results.setting}"}
    files = {
        "report.html": page("published.j2", drawings, **facts),
        "report.md": markdown("published.j2", drawings, **facts),
        "results.json": results.model_dump_json(indent=1).encode() + b"\n",
        "alpha_by_rank.csv": csv_bytes(MEANS, results.by_alpha_and_rank),
    }
    write_report(folder, files | drawing_files(drawings))
    return results


def _tables(results: PublishedResults, pairs: pd.DataFrame | None) -> dict[str, Table]:
    by_alpha = [
        {"alpha": alpha} | {m.rank: m.test for m in results.by_alpha_and_rank if m.alpha == alpha}
        for alpha in ALPHAS
    ]
    found = [] if pairs is None else pairs.to_dict("records")
    differ = [p for p in found if p["p_holm"] is not None and p["p_holm"] < 1 - results.confidence]
    largest = sorted(differ, key=lambda pair: -abs(pair["ours"] - pair["test"]))[:MOST_PAIRS]
    ranks = [Column("Alpha", "alpha"), *(_rank_column(rank) for rank in RANKS)]
    made: dict[str, tuple[list[Column], list[Any]]] = {
        "choices": (CHOICES, results.choices),
        "alpha_by_rank": (ranks, by_alpha),
        "collapse": (COLLAPSE, results.collapse),
        "pairs": (PAIRS, largest),
    }
    return {name: table(name, *content) for name, content in made.items() if content[1]}


def _rank_column(rank: int) -> Column:
    def note(row: dict[Any, Any]) -> str:
        return f"{words.ends(row[rank])}, n = {row[rank].n}" if rank in row else ""

    return Column(f"Rank {rank}", lambda row: row.get(rank), words.estimate, note)


def _draw(
    results: PublishedResults, runs: pd.DataFrame, pairs: pd.DataFrame | None
) -> dict[str, Drawing]:
    means = {(mean.alpha, mean.rank): mean.test.estimate for mean in results.by_alpha_and_rank}
    squares = partial(figures.counts_in_squares, lowest=LIVE_PERCENT)
    live = _live(runs["val"], runs["test"], runs["test"])
    made: dict[str, tuple[str, Callable[[], Any]]] = {
        "alpha_by_rank": ("Published grid: test accuracy by alpha and rank",
                          partial(figures.mean_heatmap, means, ALPHAS, RANKS)),
        "collapse": ("Published grid: collapse by alpha",
                     partial(figures.collapse_by_alpha, results.collapse)),
        "validation_against_test": (
            "Published grid: validation against test",
            partial(squares, live, across="validation accuracy, %", up="test accuracy, %")),
    }  # fmt: skip
    drawn = {name: render(heading, STAMP, draw) for name, (heading, draw) in made.items()}
    if results.with_study and pairs is not None:
        here = pairs[pairs["ours"].notna()]
        shared = _live(here["test"], here["ours"], here[["test", "ours"]].min(axis=1))
        draw = partial(squares, shared, across="test accuracy as published, %",
                       up="test accuracy here, %")  # fmt: skip
        stamp = f"Published runs and the study {results.with_study.study}"
        drawn["published_and_ours"] = render("Published and reproduced grids", stamp, draw)
    return drawn


def _live(xs: Any, ys: Any, lower: Any) -> list[tuple[float, float]]:
    """Points in percent whose ``lower`` accuracy did not collapse."""
    points = zip(xs, ys, lower, strict=True)
    return [(100 * x, 100 * y) for x, y, least in points if least >= COLLAPSED_BELOW]
