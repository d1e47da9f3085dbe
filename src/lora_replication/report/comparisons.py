"""Intervals for new seeds and new reviews: of each method, and of every two."""

from collections.abc import Sequence
from itertools import combinations, compress
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import trim_mean

from lora_replication import statistics as stats
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Comparison, MethodRow, Results, RunRow, Variance
from lora_replication.statistics import Components, Interval

Answers = dict[int, NDArray[np.float64]]
"""By seed: (reviews,), 1 where right, 0 where wrong."""


def compare(results: Results, tested: Predictions) -> Results:
    """``results`` with what predictions add: intervals, variances, scores, pairs, slices."""
    level = results.confidence
    methods = [_described(row, results, tested) for row in results.methods]
    grid = results.grid
    winner = grid.winner and _described(grid.winner, results, tested)
    others = []
    for row in grid.runners_up:
        found = _between(results, tested, winner, row) if winner else None
        ahead = {"difference_from_winner": found.interval(level) if found else None}
        others.append(_described(row, results, tested).model_copy(update=ahead))
    pairs = [_pair(results, *two, tested) for two in combinations(methods, 2)]
    shown = [run for run in results.runs if run.role != "cell" and run.test is not None]
    best = _not_excluded(results, tested)
    changes = {"winner": winner, "runners_up": others, "not_excluded": best}
    update = {
        "methods": methods,
        "grid": grid.model_copy(update=changes),
        "comparisons": [pair for pair in pairs if pair],
        "without_predictions": sum(_right(run, tested) is None for run in shown),
    }
    return results.model_copy(update=update)


def answers(runs: Sequence[RunRow], tested: Predictions, diverged: float | None = None) -> Answers:
    """Right and wrong of ``runs`` by seed; diverged runs are right with chance ``diverged`` on each
    review, or left out.
    """
    found = {run.seed: _right(run, tested) for run in runs}
    reviews = next((len(one) for one in tested.right.values()), 0)
    if diverged is not None and reviews:
        gone = (run.seed for run in runs if run.status == "diverged")
        found |= {seed: np.full(reviews, diverged) for seed in gone}
    return {seed: one.astype(np.float64) for seed, one in found.items() if one is not None}


def components_between(first: Answers, second: Answers, tested: Predictions) -> Components | None:
    """Of the second's answers minus the first's on shared seeds; None where they share none."""
    table = [second[seed] - first[seed] for seed in first if seed in second]
    return stats.crossed_components(table, tested.movies) if table else None


def _not_excluded(results: Results, tested: Predictions) -> list[str] | None:
    """Of the grid's configurations with a validation accuracy, see ``Grid``."""
    names = [cell.name for cell in results.cells if cell.val is not None]
    if not names or not set(names) <= set(tested.cells):
        return None
    kept = stats.not_excluded_as_best([tested.cells[name] for name in names], results.confidence)
    return list(compress(names, kept))


def _right(run: RunRow, tested: Predictions) -> NDArray[np.bool_] | None:
    return tested.right.get((run.role, run.name, run.seed)) if run.test else None


def _between(
    results: Results, tested: Predictions, first: MethodRow, second: MethodRow
) -> Components | None:
    one, two = (answers(results.runs_of(row), tested) for row in (first, second))
    return components_between(one, two, tested)


def _described(row: MethodRow, results: Results, tested: Predictions) -> MethodRow:
    """``row`` with its main interval, variance and scores."""
    runs, level = results.runs_of(row), results.confidence
    table = list(answers(runs, tested).values())
    if not table:
        return row
    found = stats.crossed_components(table, tested.movies)
    accuracies = [float(one.mean()) for one in table]
    plain = None if tested.movies is None else stats.crossed_components(table).interval(level)
    variance = Variance(
        components=found,
        by_review=plain,
        median=median(accuracies),
        interquartile_mean=float(trim_mean(accuracies, 0.25)),
    )
    names = [(run.role, run.name, run.seed) for run in runs]
    scored = [tested.scores[name] for name in names if name in tested.scores]
    by_review = np.mean(table, axis=0)
    unique = None if tested.repeated is None else ~tested.repeated
    update = {
        "interval": stats.clipped(found.interval(level), 0.0, 1.0),
        "variance": variance,
        "scores": stats.mean_scores(scored) if scored else {},
        "unseen_movies": _on(by_review, tested.unseen_movie, level),
        "unique_texts": _on(by_review, unique, level),
    }
    return row.model_copy(update=update)


def _pair(
    results: Results, first: MethodRow, second: MethodRow, tested: Predictions
) -> Comparison | None:
    one, two = (
        {run.seed: run.test.fraction for run in results.runs_of(row) if run.test is not None}
        for row in (first, second)
    )
    seeds = [seed for seed in one if seed in two]
    if not seeds:
        return None
    found = _between(results, tested, first, second)
    differences = [two[seed] - one[seed] for seed in seeds]
    return Comparison(
        first=first.name,
        second=second.name,
        seeds=seeds,
        differences=differences,
        interval=found.interval(results.confidence) if found else None,
        p_value=found.p_value() if found else None,
        seeds_share=found.seeds_share if found else None,
        over_seeds=stats.t_interval(differences, results.confidence),
        probability_of_improvement=stats.probability_of_improvement(
            list(one.values()), list(two.values())
        ),
    )


def _on(
    mean: NDArray[np.float64], chosen: NDArray[np.bool_] | None, level: float
) -> Interval | None:
    if chosen is None or not chosen.any():
        return None
    return stats.wilson_interval(float(mean[chosen].sum()), int(chosen.sum()), level)
