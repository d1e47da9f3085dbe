"""The report of the published grid: what the article's own runs say, alone and with a study's.

It needs no training. Accuracies are fractions from 0 to 1; differences are ours minus the published.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lora_replication import __version__
from lora_replication.article import article
from lora_replication.article.published_file import (
    ALPHAS,
    RANKS,
    PublishedCell,
    read_published_grid,
)
from lora_replication.plan import progress
from lora_replication.record import Record
from lora_replication.report.build import drawing_files, write_report
from lora_replication.report.drawing import Drawing, render
from lora_replication.report.grid_figures import collapse_by_alpha, counts_in_squares, mean_heatmap
from lora_replication.report.rendering import markdown, page
from lora_replication.report.results import Collapse
from lora_replication.report.summary import COLLAPSED_BELOW, collapse
from lora_replication.report.tables import Column, Table, csv_bytes, table
from lora_replication.report.words import count, ends, estimate, percent, signed
from lora_replication.statistics import (
    Interval,
    RankCorrelation,
    holm,
    rank_correlation,
    t_interval,
    two_proportions_test,
    wilson_interval,
)
from lora_replication.study import ARTICLE_REVIEWS
from lora_replication.workspace import Workspace

TITLE = "The published grid: what the article's own runs say"
STAMP = "The article's own runs, one each, unseeded"
TUNED, DEFAULT = "r8-a1-query-value-mlp", "r8-a16-query-value"
MOST_PAIRS = 20
"""Shown of a study and the published grid, so that the published file is not repeated."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Mean(_Part):
    """Mean test accuracy over the choices of targets, with a t interval over them."""

    alpha: int
    rank: int
    test: Interval


class Choice(_Part):
    """A configuration that a rule selects, with Wilson intervals over reviews; places from 1, where
    equal ones share the better place.
    """

    rule: str
    configuration: str
    train: float
    val: Interval
    test: Interval
    place_by_val: int
    place_by_test: int


class Pair(_Part):
    """One configuration in both grids; ``p_holm`` that both accuracies are equal, for the sampling
    of reviews; None where ours diverged or was tested on another number of reviews.
    """

    name: str
    ours: float | None
    published: float
    p_holm: float | None


class WithStudy(_Part):
    """Both grids together.

    Attributes:
        configurations: with a result in both.
        ours_collapsed, published_collapsed, both_collapsed: how many of them.
        live: pairs that collapsed in neither; ``ranks``, ``difference``: over them.
        tested: pairs with a test; ``beyond_chance``: those whose p after Holm is below 1 - level.
    """

    study: str
    same_setting: bool
    configurations: int
    ours_collapsed: int
    published_collapsed: int
    both_collapsed: int
    ranks: RankCorrelation | None
    difference: Interval | None
    tested: int
    beyond_chance: int
    pairs: list[Pair] = Field(exclude=True)


class PublishedResults(_Part):
    """Everything that the report says.

    Attributes:
        sha256: of the file; ``asked``, ``found``, ``missing``: configurations.
        live: runs that did not collapse; ``ranks_live``, ``ranks_all``: validation against test.
        gap: validation minus test accuracy over live runs.
        tied_by_val, tied_by_test: configurations that are statistically indistinguishable from the
            best, itself included.
    """

    schema_version: Literal[2] = 2
    made_by: str
    citation: str
    setting: str
    sha256: str
    confidence: float
    asked: int
    found: int
    missing: list[str]
    one_class: int
    collapsed: int
    collapse: list[Collapse]
    by_alpha_and_rank: list[Mean]
    live: int
    ranks_live: RankCorrelation | None
    ranks_all: RankCorrelation | None
    gap: Interval | None
    choices: list[Choice]
    tied_by_val: int
    tied_by_test: int
    with_study: WithStudy | None = None


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
    results, cells = summarise_published(file, confidence)
    if workspace:
        done = [record for record in progress(workspace).done if record.asked.role == "cell"]
        together = compare_grids(cells, workspace, done, confidence)
        results = results.model_copy(update={"with_study": together})
    drawings = _draw(results, cells)
    names = ("results.json", "alpha_by_rank.csv")
    facts = {"r": results, "tables": _tables(results), "title": TITLE, "files": names}
    facts |= {"description": f"{results.found} runs of {results.setting}"}
    means = results.by_alpha_and_rank
    write_report(
        folder,
        {
            "report.html": page("published.j2", drawings, **facts),
            "report.md": markdown("published.j2", drawings, **facts),
            "results.json": results.model_dump_json(indent=1).encode() + b"\n",
            "alpha_by_rank.csv": csv_bytes(MEANS, means),
            **drawing_files(drawings),
        },
    )
    return results


def summarise_published(
    file: Path, level: float
) -> tuple[PublishedResults, tuple[PublishedCell, ...]]:
    """What the results ``file`` says, and its runs. Raises ``DataError``."""
    grid = read_published_grid(file)
    cells = grid.cells
    live = [cell for cell in cells if is_live(cell)]
    gaps = [(cell.val_percent - cell.test_percent) / 100 for cell in live]
    outcomes = [(cell.alpha, cell.test_percent / 100, cell.one_class) for cell in cells]
    results = PublishedResults(
        made_by=f"lora-replication {__version__}",
        citation=article().citation,
        setting=article().setting,
        sha256=grid.sha256,
        confidence=level,
        asked=len(cells) + len(grid.missing),
        found=len(cells),
        missing=list(grid.missing),
        one_class=sum(cell.one_class for cell in cells),
        collapsed=len(cells) - len(live),
        collapse=collapse(outcomes, level),
        by_alpha_and_rank=_means(cells, level),
        live=len(live),
        ranks_live=_ranks(live, level),
        ranks_all=_ranks(cells, level),
        gap=_over_configurations(gaps, level) if live else None,
        choices=_choices(cells, level),
        tied_by_val=_tied([cell.val_correct for cell in cells], ARTICLE_REVIEWS["val"], level),
        tied_by_test=_tied([cell.test_correct for cell in cells], ARTICLE_REVIEWS["test"], level),
    )
    return results, cells


def is_live(cell: PublishedCell) -> bool:
    """Whether the run did not collapse."""
    return cell.test_percent >= 100 * COLLAPSED_BELOW


def _over_configurations(values: Sequence[float], level: float) -> Interval:
    source = f"configurations, n = {len(values)}, one unseeded run each"
    return replace(t_interval(values, level), source=source)


def _means(cells: Sequence[PublishedCell], level: float) -> list[Mean]:
    grouped: dict[tuple[int, int], list[float]] = {(a, r): [] for a in ALPHAS for r in RANKS}
    for cell in cells:
        grouped[cell.alpha, cell.rank].append(cell.test_percent / 100)
    return [
        Mean(alpha=alpha, rank=rank, test=_over_configurations(values, level))
        for (alpha, rank), values in grouped.items()
        if values
    ]


def _ranks(cells: Sequence[PublishedCell], level: float) -> RankCorrelation | None:
    val, test = ([getattr(cell, f"{part}_percent") for cell in cells] for part in ("val", "test"))
    return rank_correlation(val, test, level) if len(cells) > 1 else None


def _choices(cells: Sequence[PublishedCell], level: float) -> list[Choice]:
    named = {cell.name: cell for cell in cells}
    chosen = {
        "best on validation": max(cells, key=lambda cell: cell.val_percent),
        "best on test (optimistic: selected on this very number)": max(
            cells, key=lambda cell: cell.test_percent
        ),
        "the article's tuned configuration": named.get(TUNED),
        "the article's default configuration": named.get(DEFAULT),
    }
    return [
        Choice(
            rule=rule,
            configuration=cell.name,
            train=cell.train_percent / 100,
            val=wilson_interval(cell.val_correct, ARTICLE_REVIEWS["val"], level),
            test=wilson_interval(cell.test_correct, ARTICLE_REVIEWS["test"], level),
            place_by_val=1 + sum(other.val_percent > cell.val_percent for other in cells),
            place_by_test=1 + sum(other.test_percent > cell.test_percent for other in cells),
        )
        for rule, cell in chosen.items()
        if cell
    ]


def _tied(correct: Sequence[int], reviews: int, level: float) -> int:
    """How many are statistically indistinguishable from the best, the best itself included."""
    best, *others = sorted(correct, reverse=True)
    return 1 + sum(
        p >= 1 - level for p in holm([two_proportions_test(one, best, reviews) for one in others])
    )


def compare_grids(
    cells: Sequence[PublishedCell], workspace: Workspace, records: Sequence[Record], level: float
) -> WithStudy | None:
    """A study's grid next to the published one, by configuration; None where they share none."""
    named = {cell.name: cell for cell in cells}
    ours = {r.asked.name: r for r in records if _is_published_kind(r) and r.asked.name in named}
    matched = [(named[name], ours[name]) for name in named if name in ours]
    if not matched:
        return None
    p_values = [_p_value(cell, record) for cell, record in matched]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    pairs = [
        Pair(
            name=cell.name,
            ours=record.happened.test.fraction if record.happened.test else None,
            published=cell.test_percent / 100,
            p_holm=None if p is None else next(adjusted),
        )
        for (cell, record), p in zip(matched, p_values, strict=True)
    ]
    ends_ = [
        (pair.ours or 0.0, pair.published)
        for pair in pairs
        if not _collapsed(pair.ours) and not _collapsed(pair.published)
    ]
    first, second = [a for a, _ in ends_], [b for _, b in ends_]
    found = [pair for pair in pairs if pair.p_holm is not None and pair.p_holm < 1 - level]
    both = [(_collapsed(pair.ours), _collapsed(pair.published)) for pair in pairs]
    return WithStudy(
        study=workspace.study.study,
        same_setting=workspace.study.is_the_articles,
        configurations=len(pairs),
        ours_collapsed=sum(a for a, _ in both),
        published_collapsed=sum(b for _, b in both),
        both_collapsed=sum(a and b for a, b in both),
        ranks=rank_correlation(first, second, level) if len(ends_) > 1 else None,
        difference=t_interval([a - b for a, b in ends_], level) if ends_ else None,
        tested=sum(p is not None for p in p_values),
        beyond_chance=len(found),
        pairs=pairs,
    )


def _is_published_kind(record: Record) -> bool:
    lora = record.asked.settings.lora
    return lora is not None and lora.scaling == "article" and lora.dropout == 0


def _collapsed(accuracy: float | None) -> bool:
    return accuracy is None or accuracy < COLLAPSED_BELOW


def _p_value(cell: PublishedCell, record: Record) -> float | None:
    test = record.happened.test
    if test is None or test.reviews != ARTICLE_REVIEWS["test"]:
        return None
    return two_proportions_test(test.correct, cell.test_correct, test.reviews)


CHOICES = [
    Column("Selected as", "rule", left=True),
    Column("Configuration", "configuration", left=True),
    Column("Train", "train", percent),
    Column("Validation", "val", estimate, lambda row: ends(row.val)),
    Column("Test", "test", estimate, lambda row: ends(row.test)),
    Column("Place by validation", "place_by_val", count),
    Column("Place on test", "place_by_test", count),
]
COLLAPSE = [
    Column("Alpha", "alpha", lambda alpha: f"{alpha:g}"),
    Column("Configurations", "configurations", count),
    Column("Collapsed", "collapsed", count),
    Column("Share, %", "share", estimate),
    Column("Interval", "share", ends),
    Column("Single class", "one_class", count),
]
MEANS = [
    Column("", "alpha", name="alpha"),
    Column("", "rank", name="rank"),
    Column("", "test.estimate", name="test_accuracy"),
    Column("", "test", ends, name="t"),
    Column("", "test.n", name="configurations"),
]
PAIRS = [
    Column("Configuration", "name", left=True),
    Column("Ours", "ours", percent),
    Column("Published", "published", percent),
    Column("Difference", lambda pair: pair.ours - pair.published, signed),
    Column("p, Holm", "p_holm", lambda p: f"{p:.2g}"),
]


def _rank_column(rank: int) -> Column:
    def note(row: dict[str, Mean]) -> str:
        mean = row.get(str(rank))
        return f"{ends(mean.test)}, n = {mean.test.n}" if mean else ""

    return Column(
        f"Rank {rank}", lambda row: row.get(str(rank)) and row[str(rank)].test, estimate, note
    )


def _tables(results: PublishedResults) -> dict[str, Table]:
    by_alpha = [
        {"alpha": alpha} | {str(m.rank): m for m in results.by_alpha_and_rank if m.alpha == alpha}
        for alpha in ALPHAS
    ]
    ranks = [Column("Alpha", "alpha"), *(_rank_column(rank) for rank in RANKS)]
    pairs = results.with_study.pairs if results.with_study else []
    limit = 1 - results.confidence
    found = [pair for pair in pairs if pair.p_holm is not None and pair.p_holm < limit]
    largest = sorted(found, key=lambda pair: -abs((pair.ours or 0) - pair.published))[:MOST_PAIRS]
    made = {
        "choices": table("choices", CHOICES, results.choices),
        "alpha_by_rank": table("alpha_by_rank", ranks, by_alpha),
        "collapse": table("collapse", COLLAPSE, results.collapse),
        "pairs": table("pairs", PAIRS, largest),
    }
    return {name: one for name, one in made.items() if one.rows}


def _draw(results: PublishedResults, cells: Sequence[PublishedCell]) -> dict[str, Drawing]:
    means = {(mean.alpha, mean.rank): mean.test.estimate for mean in results.by_alpha_and_rank}
    live = [(cell.val_percent, cell.test_percent) for cell in cells if is_live(cell)]
    lowest = 100 * COLLAPSED_BELOW
    figures: dict[str, tuple[str, Callable[[], Any]]] = {
        "alpha_by_rank": ("Published grid: test accuracy by alpha and rank",
                          partial(mean_heatmap, means, ALPHAS, RANKS)),
        "collapse": ("Published grid: collapse by alpha",
                     partial(collapse_by_alpha, results.collapse)),
        "validation_against_test": (
            "Published grid: validation against test",
            partial(counts_in_squares, live, lowest, "validation accuracy, %", "test accuracy, %")),
    }  # fmt: skip
    drawn = {name: render(heading, STAMP, draw) for name, (heading, draw) in figures.items()}
    together = results.with_study
    if together:
        both = [(100 * p.published, 100 * p.ours) for p in together.pairs if p.ours is not None]
        points = [pair for pair in both if min(pair) >= lowest]
        axes = ("test accuracy as published, %", "test accuracy here, %")
        stamp = f"Published runs and the study {together.study}"
        draw = partial(counts_in_squares, points, lowest, *axes)
        drawn["published_and_ours"] = render("Published and reproduced grids", stamp, draw)
    return drawn
