"""What the statistics promise, on simulated studies: ``python -m benchmarks.coverage``.

A run answers a review rightly where a sum of normal effects (of the run, the review, and both) is
above 0, so its accuracy on new reviews is known. Intervals and verdicts are the project's own.
"""

import argparse
import math
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product, starmap
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from benchmarks.results import Beginning, numbers, write_page
from lora_replication.article import Article, article
from lora_replication.files import project_root
from lora_replication.process import run_command
from lora_replication.reading import read_study
from lora_replication.record import Count
from lora_replication.report import verdicts
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import MethodRow, Results, RunRow
from lora_replication.statistics import crossed_components, power
from lora_replication.study import Study

SEEDS = (3, 5, 10)
REVIEWS = {1_000: 0.80, 10_000: 0.92}
"""The accuracy on so many reviews at which intervals are tried."""

MOVIES = {1_000: 3_500, 10_000: 4_700}
"""Reviews are of movies drawn from so many: of 870 and 4,150, as IMDb's test reviews are."""

SHARED, OF_MOVIE = 0.85, 0.2
"""Of a run's variance over reviews, what all runs of the method share; of that, the movie's."""

LOADINGS = {"last_layers": 0.5, "lora_default": 0.975, "lora_tuned": 0.975, "full": 0.975}
"""Correlation of the method's review effects with those that all methods share."""

ADDED = {1_000: 0.4, 10_000: 0.126}
"""Points that reviews then add to a difference of two methods, the last layers aside."""

KINDS, COLLAPSED = ("normal", "t, 3 df", "one in ten collapses"), 0.1
TESTS = 16
"""In the family of the article's study with its grid."""

Array = NDArray[np.float64]


def accuracies(kind: str, uniform: Array, mean: float, sd: float) -> Array:
    """Of runs on new reviews, by uniform draws; from 0.1 to 99.9 %."""
    if kind == "one in ten collapses":
        normal = ndtri(np.clip((uniform - COLLAPSED) / (1 - COLLAPSED), 1e-9, 1))
        drawn = np.where(uniform < COLLAPSED, 0.5, mean + sd * normal)
    else:
        effects = ndtri(uniform) if kind == "normal" else stdtrit(3, uniform) / np.sqrt(3)
        drawn = mean + sd * effects
    return np.clip(drawn, 0.001, 0.999)


def review_effects(chance: np.random.Generator, movies: NDArray[np.int64], rows: int) -> Array:
    """(rows, reviews), of variance 1; reviews of one movie share a part."""
    own = chance.standard_normal((rows, len(movies)), np.float32)
    shared = chance.standard_normal((rows, int(movies.max()) + 1), np.float32)[:, movies]
    return math.sqrt(1 - OF_MOVIE) * own + math.sqrt(OF_MOVIE) * shared


def answers(chance: np.random.Generator, runs: Array, reviews: Array) -> NDArray[np.bool_]:
    """(runs, reviews): which reviews with these effects runs of these accuracies answer rightly."""
    noise = chance.standard_normal((len(runs), len(reviews)), np.float32)
    threshold = -ndtri(runs)[:, None].astype(np.float32) - math.sqrt(SHARED) * reviews
    return np.asarray(math.sqrt(1 - SHARED) * noise > threshold)


def coverage(
    kind: str, seeds: int, sd: float, reviews: int, *, movies: bool, studies: int
) -> float:
    """Share of 95 % intervals that hold the mean over new runs and new reviews."""
    chance, mean, held = _draws(kind, seeds, sd, reviews), REVIEWS[reviews], 0
    truth = accuracies(kind, (np.arange(1e5) + 0.5) / 1e5, mean, sd).mean()
    for _ in range(studies):
        groups = chance.integers(MOVIES[reviews], size=reviews) if movies else np.arange(reviews)
        drawn = accuracies(kind, chance.random(seeds), mean, sd)
        table = answers(chance, drawn, review_effects(chance, groups, 1)[0])
        interval = crossed_components(table, groups if movies else None).interval(0.95)
        held += abs(truth - interval.estimate) <= (interval.high or 0) - interval.estimate
    return held / studies


def false_verdicts(kind: str, seeds: int, sd: float, reviews: int, *, studies: int) -> float:
    """Share of studies with a false verdict, where all methods are equally good, and the article's
    accuracies are those of one more run of each on the same reviews.
    """
    chance, study = _draws(kind, seeds, sd, reviews), _article_study(seeds)
    rows = [MethodRow.model_construct(role="method", name=name) for name in LOADINGS]
    runs = [RunRow.model_construct(role="method", name=row.name, seed=seed, nudge=0, status="ok")
            for row in rows for seed in study.run.seeds]  # fmt: skip
    false = 0
    for _ in range(studies):
        movies = chance.integers(MOVIES[reviews], size=reviews)
        common, *own = review_effects(chance, movies, 1 + len(LOADINGS))
        found, published = [], {}
        for (name, loading), mine in zip(LOADINGS.items(), own, strict=True):
            effects = loading * common + math.sqrt(1 - loading**2) * mine
            drawn = accuracies(kind, chance.random(seeds + 1), 0.8, sd)
            *right, one_more = answers(chance, drawn, effects)
            found += right
            published[name] = 100 * float(one_more.mean())
        counts = [Count(correct=int(right.sum()), reviews=reviews, ones=0) for right in found]
        done = [run.model_copy(update={"test": n}) for run, n in zip(runs, counts, strict=True)]
        names = [(run.role, run.name, run.seed) for run in runs]
        tested = Predictions(dict(zip(names, found, strict=True)), movies=movies)
        results = Results.model_construct(runs=done, methods=rows)
        with patch.object(verdicts, "article", partial(_renumbered, published)):
            judged = verdicts.judge(results, tested, study).verdicts
        false += any(v.word == "not reproduced" or (v.claim.kind, v.word) == ("order", "reproduced")
                     for v in judged)  # fmt: skip
    return false / studies


def _draws(kind: str, seeds: int, sd: float, reviews: int) -> np.random.Generator:
    return np.random.default_rng([KINDS.index(kind), seeds, round(1e4 * sd), reviews])


def _article_study(seeds: int) -> Study:
    study = read_study("article", project_root())
    run = study.run.model_copy(update={"seeds": list(range(1, seeds + 1))})
    return study.model_copy(update={"run": run})


def _renumbered(published: dict[str, float]) -> Article:
    """With the claims about accuracies, grid aside, as if these had been published."""
    found = [claim for claim in article().claims if claim.kind in ("order", "sameness", "value")]
    for place, claim in enumerate(found):
        if claim.kind == "value":
            first, *second = (published[name] for name in claim.methods)
            number = second[0] - first if second else first
            found[place] = claim.model_copy(update={"number": number})
    return article().model_copy(update={"claims": tuple(found)})


def rows(sds: Sequence[float], measures: Sequence[Callable[..., float]]) -> Iterator[list[str]]:
    """Of each number of reviews and runs and each scatter, what is measured, in percent."""
    for reviews, seeds, sd in product(REVIEWS, SEEDS, sds):
        shares = (f"{100 * measure(seeds, sd / 100, reviews):.1f}" for measure in measures)
        yield [f"{reviews:,}", f"{seeds}", f"{sd:g}", *shares]


def power_row(effect: float, sd: float) -> list[str]:
    """On 1,000 and on 10,000 reviews, with 3, 5, 10 and 20 seeds."""
    cells = [f"{effect:g}", f"{sd:g}"]
    for (reviews, added), seeds in product(ADDED.items(), (*SEEDS, 20)):
        at = {"seeds": seeds, "reviews": reviews}
        shown = (power(effect, sd, added, level=1 - alpha, **at) for alpha in (0.05, 0.05 / TESTS))
        cells.append(" / ".join(f"{100 * one:.0f}" for one in shown))
    return cells


def main(words: Sequence[str]) -> None:
    """Simulate, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--studies", type=int, default=2_000, help="for each coverage")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/coverage.md"))
    asked = parser.parse_args(words)
    begun = Beginning("cpu", shlex.join(["python", "-m", "benchmarks.coverage", *words]))
    sizes = [asked.studies // part for part in (1, 2, 4)]
    covers, errs = [], []
    for kind in KINDS:
        studies = sizes[0] if kind == "normal" else sizes[1]
        covers += [partial(coverage, kind, movies=m, studies=studies) for m in (False, True)]
        errs.append(partial(false_verdicts, kind, studies=studies // 2))
    given, effects = ["reviews", "runs", "sd of runs"], product((0.5, 1, 3), (0.2, 0.5, 1, 2, 4))
    both = [f"{kind}{movies}" for kind in KINDS for movies in ("", ", movies")]
    of_seeds = [f"{seeds} seeds, {reviews:,}" for reviews in REVIEWS for seeds in (*SEEDS, 20)]
    found = {
        "coverage": ([*given, *both], rows((0.5, 1, 2, 4), covers)),
        "verdicts": ([*given, *KINDS], rows((0.2, 1, 4), errs)),
        "power": (["difference", "sd over seeds", *of_seeds], starmap(power_row, effects)),
    }
    tables = {name: numbers(*one) for name, one in found.items()}
    ran, errors = begun.results("coverage"), [100 * math.sqrt(0.0475 / size) for size in sizes]
    write_page("coverage", asked.out, ran=ran, errors=errors, sizes=sizes, **tables)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
