"""The published grid, summed up: what the article's own runs say, alone and with a study's grid.

Accuracies are fractions from 0 to 1; differences are ours minus the published.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pandas as pd

from lora_replication import __version__
from lora_replication import statistics as stats
from lora_replication.article import article
from lora_replication.article.published_file import read_published_grid
from lora_replication.plan import progress
from lora_replication.record import Record
from lora_replication.report.results import Collapse, Part
from lora_replication.report.summary import COLLAPSED_BELOW, collapse
from lora_replication.statistics import Interval, RankCorrelation
from lora_replication.study import ARTICLE_REVIEWS
from lora_replication.workspace import Workspace

RULES = {
    "best on validation": "val",
    "best on test (optimistic: selected on this very number)": "test",
    "the article's tuned configuration": "r8-a1-query-value-mlp",
    "the article's default configuration": "r8-a16-query-value",
}
"""How a configuration is selected: the accuracy that is highest, or by name."""


class Mean(Part):
    """Mean test accuracy over the choices of targets, with a t interval over them."""

    alpha: int
    rank: int
    test: Interval


class Choice(Part):
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


class WithStudy(Part):
    """Both grids together.

    Attributes:
        configurations: with a result in both; how many of them collapsed here, there, in both.
        ranks, difference: over those that collapsed in neither.
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


class PublishedResults(Part):
    """Everything that the report says; ``results.json`` is this model.

    Attributes:
        sha256: of the file; ``asked``, ``found``, ``missing``: configurations.
        live: runs that did not collapse; ``ranks_live``, ``ranks_all``: validation against test.
        gap: validation minus test accuracy over live runs.
        tied_by_val, tied_by_test: configurations that are statistically indistinguishable from the
            best, itself included.
    """

    schema_version: Literal[2] = 2
    made_by: str = f"lora-replication {__version__}"
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


def summarise_published(file: Path, level: float) -> tuple[PublishedResults, pd.DataFrame]:
    """What the results ``file`` says, and its runs, a row each. Raises ``DataError``."""
    grid = read_published_grid(file)
    columns = ("name", "alpha", "rank", "val_correct", "test_correct", "one_class")
    runs = pd.DataFrame([{name: getattr(c, name) for name in columns} for c in grid.cells])
    for part, percents in zip(
        ("train", "val", "test"), zip(*(c.percents for c in grid.cells), strict=True), strict=True
    ):
        runs[part] = [percent / 100 for percent in percents]
    live = runs[runs["test"] >= COLLAPSED_BELOW]
    results = PublishedResults(
        citation=article().citation,
        setting=article().setting,
        sha256=grid.sha256,
        confidence=level,
        asked=len(runs) + len(grid.missing),
        found=len(runs),
        missing=list(grid.missing),
        one_class=int(runs["one_class"].sum()),
        collapsed=len(runs) - len(live),
        collapse=collapse(zip(runs["alpha"], runs["test"], runs["one_class"], strict=True), level),
        by_alpha_and_rank=[
            Mean(alpha=alpha, rank=rank, test=_over_configurations(mine["test"], level))
            for (alpha, rank), mine in runs.groupby(["alpha", "rank"])
        ],
        live=len(live),
        ranks_live=_ranks(live["val"], live["test"], level),
        ranks_all=_ranks(runs["val"], runs["test"], level),
        gap=_over_configurations(live["val"] - live["test"], level) if len(live) else None,
        choices=_choices(runs, level),
        tied_by_val=_tied(runs["val_correct"], ARTICLE_REVIEWS["val"], level),
        tied_by_test=_tied(runs["test_correct"], ARTICLE_REVIEWS["test"], level),
    )
    return results, runs


def _over_configurations(values: Sequence[float], level: float) -> Interval:
    source = f"configurations, n = {len(values)}, one unseeded run each"
    return replace(stats.t_interval(list(values), level), source=source)


def _ranks(first: Sequence[float], second: Sequence[float], level: float) -> RankCorrelation | None:
    if len(first) < 2:
        return None
    return stats.rank_correlation(list(first), list(second), level)


def _choices(runs: pd.DataFrame, level: float) -> list[Choice]:
    rows = []
    for rule, by in RULES.items():
        # Of equal ones the first in the file.
        named = runs.loc[[runs[by].idxmax()]] if by in runs else runs[runs["name"] == by]
        for run in named.to_dict("records"):
            val, test = (
                stats.wilson_interval(run[f"{part}_correct"], ARTICLE_REVIEWS[part], level)
                for part in ("val", "test")
            )
            places = (1 + int((runs[part] > run[part]).sum()) for part in ("val", "test"))
            facts = dict(zip(("place_by_val", "place_by_test"), places, strict=True))
            rows.append(
                Choice(
                    rule=rule,
                    configuration=run["name"],
                    train=run["train"],
                    val=val,
                    test=test,
                    **facts,
                )
            )
    return rows


def _tied(correct: Sequence[int], reviews: int, level: float) -> int:
    """How many are statistically indistinguishable from the best, the best itself included."""
    best, *others = sorted(map(int, correct), reverse=True)
    p_values = [stats.two_proportions_test(one, best, reviews) for one in others]
    return 1 + sum(p >= 1 - level for p in stats.holm(p_values))


def compare_grids(
    runs: pd.DataFrame, workspace: Workspace, level: float
) -> tuple[WithStudy, pd.DataFrame] | None:
    """A study's grid with the published ``runs``, by configuration; None where they share none.

    The second result has a row for each shared configuration: name, ours, test (as published), and
    p_holm that both are equal, for the sampling of reviews; None where ours diverged or was tested
    on another number of reviews.
    """
    ours = {r.asked.name: r.happened.test for r in progress(workspace).done if _is_alike(r)}
    both = runs[runs["name"].isin(list(ours))].astype(object)
    if not len(both):
        return None
    tests = [ours[name] for name in both["name"]]
    p_values = [
        stats.two_proportions_test(test.correct, published, test.reviews)
        if test and test.reviews == ARTICLE_REVIEWS["test"]
        else None
        for test, published in zip(tests, both["test_correct"], strict=True)
    ]
    adjusted = iter(stats.holm([p for p in p_values if p is not None]))
    both["ours"] = pd.Series([t and t.fraction for t in tests], both.index, dtype=object)
    holm = [None if p is None else next(adjusted) for p in p_values]
    both["p_holm"] = pd.Series(holm, both.index, dtype=object)
    here = both["ours"].map(lambda a: a is None or a < COLLAPSED_BELOW).astype(bool)
    there = (both["test"] < COLLAPSED_BELOW).astype(bool)
    live = both[~here & ~there]
    difference = [a - b for a, b in zip(live["ours"], live["test"], strict=True)]
    return WithStudy(
        study=workspace.study.study,
        same_setting=workspace.study.is_the_articles,
        configurations=len(both),
        ours_collapsed=int(here.sum()),
        published_collapsed=int(there.sum()),
        both_collapsed=int((here & there).sum()),
        ranks=_ranks(live["ours"], live["test"], level),
        difference=stats.t_interval(difference, level) if difference else None,
        tested=sum(p is not None for p in p_values),
        beyond_chance=sum(p is not None and p < 1 - level for p in holm),
    ), both


def _is_alike(record: Record) -> bool:
    """Whether the record is of a configuration that the published file could have."""
    lora = record.asked.settings.lora
    is_cell = record.asked.role == "cell"
    return is_cell and lora is not None and lora.scaling == "article" and lora.dropout == 0
