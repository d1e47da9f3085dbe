"""The published grid, summed up: what the article's own runs say, alone and with a study's grid.

Accuracies, their differences and standard deviations are fractions from 0 to 1.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student

from lora_replication import __version__
from lora_replication import statistics as stats
from lora_replication.allowed import Facts
from lora_replication.article import article
from lora_replication.article.published_file import (
    ALPHAS,
    FURTHER_RUNS,
    SOURCE,
    PublishedGrid,
    read_published_grid,
)
from lora_replication.grid.space import cell_name
from lora_replication.plan import progress
from lora_replication.record import Record
from lora_replication.report.results import COLLAPSED_BELOW
from lora_replication.report.words import listed
from lora_replication.study import ARTICLE_REVIEWS
from lora_replication.workspace import Workspace

Rows = list[dict[str, Any]]

RULES = {
    "best by validation": "val",
    "best on test (optimistic: selected on this very number)": "test",
    "the article's choice": "r8-a1-query-value-mlp",
    "the article's default": "r8-a16-query-value",
}
"""How a configuration is selected: the accuracy that is highest, or by name."""

FACTORS = ("alpha", "rank", "key", "projection", "mlp", "head")
REGIONS = {"all": ALPHAS, "alpha up to 8": (1, 4, 8), "alpha 1 and 4": (1, 4)}
"""Parts of the grid, each a factorial: all of it; where no run collapsed; where training is steady
too, so that the rest is the scatter of single runs.
"""

DECIMALS = 12
"""Kept of what is computed: later ones depend on the processor and its threads."""

LEAST_SHARE = 0.02
"""Of the variance in some part of the grid, for an interaction to be named."""

EXTRA = ("nothing else", "projection", "mlp", "both")
"""Where LoRA is besides query and value, with or without key and head."""

TRIALS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
BAND = (0.05, 0.95)
"""Quantiles of random searches of one size, between which nine of ten are."""


class PublishedResults(Facts):
    """Everything that the report says; ``results.json`` is this model.

    Attributes:
        sha256: of the file; ``asked``, ``found``, ``missing``: configurations; ``replicates``,
            ``repeated``: those that the file has again, with other or the same results.
        by_alpha_and_rank: mean, lowest and highest test accuracy over the choices of targets.
        by_alpha_and_targets: collapsed runs by alpha and ``EXTRA``.
        variance: by source, its share of the variance of test accuracy in each of ``REGIONS``
            (eta squared, see ``statistics.Factorial``).
        scatter: standard deviation of runs of one configuration on the same reviews, with its
            degrees of freedom: by the factorial fit, and of repeated runs.
        best_sets: by what is taken as noise, how many configurations can't be excluded as the best
            by validation, with Holm's correction and with each test on its own.
        choices: by ``RULES`` a configuration, with Wilson intervals over reviews, its places, where
            equal ones share the better, and its possible true ranks by validation.
        random_search: by number of random configurations, test accuracy of the best of them by
            validation: its mean, and the ends of ``BAND``.
        live: runs that did not collapse; ``gap``, ``gap_sd``: mean and standard deviation of their
            validation minus test accuracy; ``ranks_live``: Spearman's correlation of both.
        with_study: see ``compare_grids``.
    """

    schema_version: Literal[3] = 3
    made_by: str = f"lora-replication {__version__}"
    citation: str
    source: str = SOURCE
    setting: str
    sha256: str
    confidence: float
    asked: int
    found: int
    missing: list[str]
    replicates: list[str]
    repeated: list[str]
    one_class: int
    collapsed: int
    by_alpha_and_rank: Rows
    by_alpha_and_targets: Rows
    variance: Rows
    scatter: Rows
    best_sets: Rows
    choices: Rows
    random_search: Rows
    live: int
    gap: float | None
    gap_sd: float | None
    ranks_live: float | None
    with_study: dict[str, Any] | None = None


def summarise_published(file: Path, level: float) -> tuple[PublishedResults, pd.DataFrame]:
    """What the results ``file`` says, and its runs, a row each. Raises ``DataError``.

    The column ``ranks`` has their possible true ranks by validation, None without a factorial fit.
    """
    grid = read_published_grid(file)
    runs = _runs(grid)
    live = runs[~runs["collapsed"]]
    gaps = live["val"] - live["test"]
    scatter = [*_fitted_scatter(runs), _repeated_scatter(grid)]
    values, places = runs["val"].tolist(), range(len(runs))
    ranks = [
        [stats.rank_interval(values, at, one["val"], one["freedom"], level) for at in places]
        for one in scatter
    ]
    runs["ranks"] = ranks[0] if len(ranks) > 1 else None
    results = PublishedResults(
        citation=article().citation,
        setting=article().setting,
        sha256=grid.sha256,
        confidence=level,
        asked=len(runs) + len(grid.missing),
        found=len(runs),
        missing=list(grid.missing),
        replicates=sorted({cell.name for cell in grid.replicates}),
        repeated=sorted(set(grid.repeated)),
        one_class=int(runs["one_class"].sum()),
        collapsed=len(runs) - len(live),
        by_alpha_and_rank=_rows(
            runs.groupby(["alpha", "rank"])["test"].agg(
                test_accuracy="mean", lowest="min", highest="max", configurations="size"
            )
        ),
        by_alpha_and_targets=_rows(
            runs.groupby(["alpha", "also on"])["collapsed"].agg(
                configurations="size", collapsed="sum"
            )
        ),
        variance=_variance(runs),
        scatter=scatter,
        best_sets=_best_sets(runs, scatter, ranks, level),
        choices=_choices(runs, level),
        random_search=_random_search(runs),
        live=len(live),
        gap=_number(gaps.mean()),
        gap_sd=_number(gaps.std()),
        ranks_live=_spearman(live["val"], live["test"]),
    )
    return results, runs


def _runs(grid: PublishedGrid) -> pd.DataFrame:
    columns = ("name", "alpha", "rank", "targets", "val_correct", "test_correct", "one_class")
    runs = pd.DataFrame([{name: getattr(c, name) for name in columns} for c in grid.cells])
    runs[["train", "val", "test"]] = np.array([cell.percents for cell in grid.cells]) / 100
    for target in FACTORS[2:]:
        runs[target] = [target in cell.targets for cell in grid.cells]
    runs["also on"] = [EXTRA[place] for place in runs["projection"] + 2 * runs["mlp"]]
    runs["collapsed"] = runs["test"] < COLLAPSED_BELOW
    return runs


def _rows(frame: pd.DataFrame) -> Rows:
    return [dict(row) for row in frame.reset_index().to_dict("records")]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), DECIMALS)


def _spearman(first: pd.Series, second: pd.Series) -> float | None:
    """None where one of them does not vary."""
    varies = first.nunique() > 1 and second.nunique() > 1
    return _number(first.corr(second, method="spearman")) if varies else None


def _fit(runs: pd.DataFrame, region: str, part: str) -> stats.Factorial | None:
    mine = runs[runs["alpha"].isin(REGIONS[region])]
    return stats.factorial(mine[part].tolist(), {name: mine[name].tolist() for name in FACTORS})


def _variance(runs: pd.DataFrame) -> Rows:
    """Single factors, interactions of two that are at least ``LEAST_SHARE`` somewhere, the rest."""
    fits = {name: fit for name in REGIONS if (fit := _fit(runs, name, "test"))}
    if not fits:
        return []
    shares = pd.DataFrame({name: fit.shares for name, fit in fits.items()})
    named = (shares >= LEAST_SHARE).any(axis=1) | shares.index.isin(FACTORS)
    table = shares[named]
    table.loc["other pairs"] = shares[~named].sum()
    table.loc["interactions of three"] = [fit.triples for fit in fits.values()]
    table.loc["rest"] = [fit.rest for fit in fits.values()]
    return _rows(table.round(DECIMALS).rename_axis("source"))


def _fitted_scatter(runs: pd.DataFrame) -> Rows:
    region = list(REGIONS)[-1]
    val, test = (_fit(runs, region, part) for part in ("val", "test"))
    if not (val and test and val.sd and test.sd):
        return []
    found = {"val": round(val.sd, DECIMALS), "test": round(test.sd, DECIMALS)}
    row = {"source": f"factorial fit, {region}", **found, "freedom": val.freedom}
    return [row] if all(found.values()) else []


def _repeated_scatter(grid: PublishedGrid) -> dict[str, Any]:
    """Pooled over what was published more than once: in the file, in the article's table, and as
    ``FURTHER_RUNS``; equal results count once.
    """
    found: dict[str, set[tuple[float, float, float]]] = {}
    for cell in (*grid.cells, *grid.replicates):
        found.setdefault(cell.name, set()).add(cell.percents)
    for name, method in article().methods.items():
        mine = found.setdefault(cell_name(method.lora) if method.lora else name, set())
        mine.add((method.train_percent, method.val_percent, method.test_percent))
        mine.update([FURTHER_RUNS[name]] if name in FURTHER_RUNS else [])
    groups = [np.array(sorted(mine)) / 100 for mine in found.values()]
    freedom = sum(len(mine) - 1 for mine in groups)
    squares = sum(np.square(mine - mine.mean(axis=0)).sum(axis=0) for mine in groups)
    _, val, test = np.sqrt(squares / freedom).round(DECIMALS).tolist()
    return {"source": "repeated runs", "val": val, "test": test, "freedom": freedom}


def _best_sets(
    runs: pd.DataFrame, scatter: Rows, ranks: Sequence[Sequence[tuple[int, int]]], level: float
) -> Rows:
    best, others = runs["val_correct"].max(), runs["val_correct"].sort_values()[:-1]
    reviews = ARTICLE_REVIEWS["val"]
    p_values = [stats.two_proportions_test(int(one), int(best), reviews) for one in others]
    counts = [1 + sum(p >= 1 - level for p in each) for each in (stats.holm(p_values), p_values)]
    rows: list[tuple[Any, ...]] = [("reviews, as if each run had its own", None, None, *counts)]
    for one, intervals in zip(scatter, ranks, strict=True):
        margin = math.sqrt(2) * one["val"] * student.isf((1 - level) / 2, one["freedom"])
        corrected = sum(first == 1 for first, _ in intervals)
        single = int((runs["val"] > runs["val"].max() - margin).sum())
        rows.append((f"runs: {one['source']}", one["val"], one["freedom"], corrected, single))
    names = ("noise", "sd", "freedom", "corrected", "single")
    return [dict(zip(names, row, strict=True)) for row in rows]


def _choices(runs: pd.DataFrame, level: float) -> Rows:
    rows: Rows = []
    for rule, by in RULES.items():
        # Of equal ones the first in the file.
        named = runs.loc[[runs[by].idxmax()]] if by in runs else runs[runs["name"] == by]
        for run in named.to_dict("records"):
            where = f"rank {run['rank']}, alpha {run['alpha']} on {listed(run['targets'])}"
            row = {"rule": rule, "configuration": run["name"], "words": where}
            for part in ("val", "test"):
                correct = run[f"{part}_correct"]
                row[part] = stats.wilson_interval(correct, ARTICLE_REVIEWS[part], level)
                row[f"place_by_{part}"] = 1 + int((runs[part] > run[part]).sum())
            rows.append(row | {name: run[name] for name in ("train", "ranks")})
    return rows


def _random_search(runs: pd.DataFrame) -> Rows:
    """By size, the whole grid last."""
    ordered = runs.sort_values("test")
    tests = ordered["test"].to_numpy()
    rows: Rows = []
    for trials in (*(n for n in TRIALS if n < len(runs)), len(runs)):
        chances = stats.selection_chances(ordered["val"], trials)
        # Rounding may leave the last sum below 1.
        low, high = np.searchsorted(np.cumsum(chances), BAND).clip(max=len(runs) - 1)
        mean, ends = round(float(chances @ tests), DECIMALS), tests[[low, high]].tolist()
        rows.append({"trials": trials, "test": mean, "low": ends[0], "high": ends[1]})
    return rows


def compare_grids(runs: pd.DataFrame, workspace: Workspace) -> dict[str, Any] | None:
    """A study's grid with the published ``runs``; None where they share no configuration.

    Counts of those shared, where one that diverged in the study has collapsed; over the live ones
    mean and sd of ours minus the published test accuracy, and Spearman's correlation.
    """
    ours = {r.asked.name: r.happened.test for r in progress(workspace).done if _is_alike(r)}
    both = runs[runs["name"].isin(list(ours))]
    if not len(both):
        return None
    found = [test.fraction if (test := ours[name]) else 0.0 for name in both["name"]]
    both = both.assign(ours=found, here=np.array(found) < COLLAPSED_BELOW)
    live = both[~both["here"] & ~both["collapsed"]]
    differences = live["ours"] - live["test"]
    return {
        "study": workspace.study.study,
        "same_setting": workspace.study.is_the_articles,
        "configurations": len(both),
        "ours_collapsed": int(both["here"].sum()),
        "published_collapsed": int(both["collapsed"].sum()),
        "both_collapsed": int((both["here"] & both["collapsed"]).sum()),
        "live": len(live),
        "difference": _number(differences.mean()),
        "difference_sd": _number(differences.std()),
        "ranks": _spearman(live["ours"], live["test"]),
    }


def _is_alike(record: Record) -> bool:
    """Whether the record is of a configuration that the published file could have."""
    lora = record.asked.settings.lora
    is_cell = record.asked.role == "cell"
    return is_cell and lora is not None and lora.scaling == "article" and lora.dropout == 0
