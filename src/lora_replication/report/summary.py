"""Records and predictions of a study, summed up as its results; verdicts are added to them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, compress
from statistics import median
from typing import Any, get_args

import numpy as np
from scipy.stats import trim_mean

from lora_replication import statistics as stats
from lora_replication.article import article
from lora_replication.data.manifest import Manifest
from lora_replication.data.reviews import PARTS
from lora_replication.errors import DataError
from lora_replication.grid.choice import by_validation
from lora_replication.grid.space import cell_name
from lora_replication.plan import Progress
from lora_replication.record import Record, Role
from lora_replication.report.predictions import Predictions, run_name
from lora_replication.report.results import (
    Collapse,
    Comparison,
    Grid,
    MethodRow,
    Missing,
    Results,
    RunRow,
    Variance,
    Word,
    done_runs,
)
from lora_replication.report.words import say, trains_in_words
from lora_replication.statistics import Components
from lora_replication.study import Study

PRIVATE: dict[str, Any] = dict.fromkeys(("root", "execution", "tracking"), True)
PRIVATE |= {key: {"path"} for key in ("data", "model")}
"""Keys of a study that stay on the machine: an address may hold a password, and paths tell of their
owner.
"""


def summarise(study: Study, manifest: Manifest, progress: Progress, tested: Predictions) -> Results:
    """What the records and predictions say of what was asked. Raises ``DataError`` where runs of
    one method were tested on different numbers of reviews.
    """
    records = [r for run in progress.asked if (r := progress.records.get(run.place))]
    cells = by_validation(record for record in records if record.asked.role == "cell")
    runs = [RunRow.of(record) for record in records if record.asked.role != "cell"]
    runs += [RunRow.of(cell, place) for place, cell in enumerate(cells, start=1)]
    summary = _Summary(study, runs, tested, study.report.confidence)
    methods = [summary.method(name) for name in study.run.methods]
    tuned = summary.tuned(progress)
    words: dict[str, Any] = {name: say(name, study) for name in ("title", "subject")}
    words |= {n: say(n, study, article().setting) for n in ("reservation", "stamp", "remark")}
    shown = [run for run in runs if run.is_final and run.test]
    return Results(
        **words,
        is_the_articles=study.is_the_articles,
        study=study.model_dump(mode="json", exclude=PRIVATE),
        runs_asked=len(progress.asked),
        asked_by_role=dict(Counter(run.role for run in progress.asked)),
        missing=_missing(progress),
        verdict_words={word: say("meaning", word) for word in get_args(Word)},
        records_ignored=progress.stale,
        copies=list(progress.copies),
        methods=methods,
        grid=summary.grid(progress),
        comparisons=summary.pairs(methods),
        tuned=tuned,
        tuned_comparisons=summary.pairs(tuned),
        without_predictions=sum(run_name(run) not in tested.right for run in shown),
        unseen_majority=tested.unseen_majority,
        runs=runs,
        article=article(),
        data=manifest,
        machines=_machines(records),
        year=max((int(record.where.finished[:4]) for record in records), default=None),
    )


def _missing(progress: Progress) -> list[Missing]:
    rows = []
    for run in progress.missing:
        record = progress.records.get(run.place)
        known = (record.happened.status, record.happened.error) if record else ("not run",)
        rows.append(Missing(role=run.role, label=run.label, reason=": ".join(filter(None, known))))
    return rows


@dataclass(frozen=True)
class _Summary:
    """Sums up ``runs`` by method and by configuration, with intervals of this ``level``."""

    study: Study
    runs: Sequence[RunRow]
    tested: Predictions
    level: float

    def method(self, name: str) -> MethodRow:
        own, method = self.study.data.source == "table", self.study.methods[name]
        known = None if own else article().methods.get(name)
        comparable = article().compares(self.study, name)
        unlike = known and not comparable
        return self.row(
            "method",
            name,
            trains=trains_in_words(method),
            seeds=self.study.run.seeds,
            published=known,
            comparable=comparable,
            note=say("not_comparable", self.study, article().setting) if unlike else "",
        )

    def grid(self, progress: Progress) -> Grid:
        asked = sum(run.role == "cell" for run in progress.asked)
        cells = [run for run in self.runs if run.role == "cell" and run.is_done]
        ends = [
            (r.settings.lora and r.settings.lora.alpha, r.test_accuracy, r.one_class) for r in cells
        ]
        classes = len(cells[0].settings.classes) if cells else 2
        whole = bool(cells) and len(cells) == asked and cells[0].val is not None
        fresh = [(r.role, r.name) for r in self.runs if r.role in ("winner", "runner_up")]
        rows = [row for names in dict.fromkeys(fresh) if (row := self.chosen(*names))]
        winner = next((row for row in rows if row.role == "winner"), None)
        return Grid(
            asked=asked,
            done=len(cells),
            diverged=sum(run.status == "diverged" for run in cells),
            one_class=sum(run.one_class for run in cells),
            collapse=Collapse.by_alpha(ends, self.level, classes),
            winner_by_validation=cells[0].name if whole else None,
            not_excluded=self.not_excluded(),
            winner=winner,
            runners_up=[self.ahead(winner, row) for row in rows if row.role == "runner_up"],
        )

    def not_excluded(self) -> list[str] | None:
        names = [run.name for run in self.runs if run.role == "cell" and run.val]
        if not names or not set(names) <= set(self.tested.cells):
            return None
        right = [self.tested.cells[name] for name in names]
        return list(compress(names, stats.not_excluded_as_best(right, self.level)))

    def chosen(self, role: Role, name: str) -> MethodRow | None:
        """The winner or a runner-up on fresh seeds; None before its first result."""
        settings = next((run.settings for run in done_runs(self.runs, role, name)), None)
        if self.study.grid is None or settings is None or settings.lora is None:
            return None
        cells = [run for run in self.runs if run.role == "cell" and run.is_done]
        form = (settings.lora, settings.learning_rate)
        alike = [run for run in cells if (run.settings.lora, run.settings.learning_rate) == form]
        return self.row(
            role,
            name,
            trains=trains_in_words(settings),
            configuration=alike[0].name if alike else cell_name(settings.lora),
            seeds=self.study.grid.winner_seeds,
            grid_val_accuracy=alike[0].val_accuracy if alike else None,
        )

    def tuned(self, progress: Progress) -> list[MethodRow]:
        """Each method of the sweeps at its own setting; none before these are finished."""
        if self.study.sweeps is None or any(run.role == "trial" for run in progress.missing):
            return []
        chosen = {run.name: run.settings for run in progress.asked if run.role == "tuned"}
        rows = []
        for name in self.study.sweeps.methods:
            # A method whose own setting was chosen has its runs already.
            own = chosen.get(name) or self.study.methods[name]
            trains = trains_in_words(own)
            role: Role = "tuned" if name in chosen else "method"
            rows.append(self.row(role, name, trains=trains, seeds=self.study.run.seeds))
        return rows

    def ahead(self, winner: MethodRow | None, row: MethodRow) -> MethodRow:
        """``row`` with its difference from the winner."""
        found = self.between(winner, row) if winner else None
        difference = found and found.interval(self.level)
        return row.model_copy(update={"difference_from_winner": difference})

    def row(self, role: Role, name: str, **facts: Any) -> MethodRow:
        """A row of the main table: its runs over seeds, over reviews, and over both."""
        runs = done_runs(self.runs, role, name)
        tests = [run.test for run in runs if run.test]
        again = [run for run in self.runs if (run.role, run.name) == (role, name) and run.nudge]
        facts["spread"] = _spread(runs)
        facts["nudged"] = _spread([*runs[:1], *again]) if again else None
        facts["seconds"] = min((run.seconds for run in runs if run.seconds), default=None)
        peaks = (run.peak_memory_bytes for run in runs)
        facts["peak_memory_bytes"] = max(filter(None, peaks), default=None)
        sizes = sorted({test.reviews for test in tests})
        if len(sizes) > 1:
            raise DataError(f"{name}: tested on {sizes} reviews; train it again on one data folder")
        for part in PARTS:
            known = [count.fraction for run in runs if (count := getattr(run, part))]
            over_seeds = stats.t_interval(known, self.level) if known else None
            facts[part] = over_seeds and stats.clipped(over_seeds, 0.0, 1.0)
        if tests:
            correct = sum(test.correct for test in tests) / len(tests)
            facts["test_sampling"] = stats.wilson_interval(correct, sizes[0], self.level)
        return MethodRow(
            role=role,
            name=name,
            trainable_parameters=runs[0].trainable_parameters if runs else None,
            learning_rate=runs[0].settings.learning_rate if runs else None,
            runs_done=len(runs),
            runs_diverged=sum(run.status == "diverged" for run in runs),
            runs_one_class=sum(run.one_class for run in runs),
            **facts | self.over_reviews(runs),
        )

    def over_reviews(self, runs: Sequence[RunRow]) -> dict[str, Any]:
        """What predictions add to a row: its main interval, variance, scores and slices."""
        table = list(self.tested.answers(runs).values())
        if not table:
            return {}
        tested, level = self.tested, self.level
        found = stats.crossed_components(table, tested.movies)
        accuracies = [float(one.mean()) for one in table]
        plain = None if tested.movies is None else stats.crossed_components(table).interval(level)
        scored = [tested.scores[n] for n in map(run_name, runs) if n in tested.scores]
        mean = np.mean(table, axis=0)
        unique = None if tested.repeated is None else ~tested.repeated
        slices = {"unseen_movies": tested.unseen_movie, "unique_texts": unique}
        return {
            "interval": stats.clipped(found.interval(level), 0.0, 1.0),
            "variance": Variance(
                components=found,
                by_review=plain,
                median=median(accuracies),
                interquartile_mean=float(trim_mean(accuracies, 0.25)),
            ),
            "scores": stats.mean_scores(scored) if scored else {},
            **{
                name: stats.wilson_interval(float(mean[kept].sum()), int(kept.sum()), level)
                for name, kept in slices.items()
                if kept is not None and kept.any()
            },
        }

    def between(self, first: MethodRow, second: MethodRow) -> Components | None:
        rows = (done_runs(self.runs, row.role, row.name) for row in (first, second))
        return self.tested.between(*map(self.tested.answers, rows))

    def pairs(self, rows: Sequence[MethodRow]) -> list[Comparison]:
        """Every two of ``rows``."""
        return [pair for two in combinations(rows, 2) if (pair := self.pair(*two))]

    def pair(self, first: MethodRow, second: MethodRow) -> Comparison | None:
        """Two methods on the seeds that both have; None where they share none."""
        runs = (done_runs(self.runs, row.role, row.name) for row in (first, second))
        one, two = ({run.seed: run.test.fraction for run in mine if run.test} for mine in runs)
        seeds = [seed for seed in one if seed in two]
        if not seeds:
            return None
        found, margin = self.between(first, second), self.study.report.sameness_margin / 100
        differences = [two[seed] - one[seed] for seed in seeds]
        wins = np.subtract.outer(list(two.values()), list(one.values()))
        return Comparison(
            first=first.name,
            second=second.name,
            seeds=seeds,
            differences=differences,
            interval=found.interval(self.level) if found else None,
            p_value=found.p_value() if found else None,
            p_sameness=found.equivalence(margin) if found else None,
            seeds_share=found.seeds_share if found else None,
            over_seeds=stats.t_interval(differences, self.level),
            probability_of_improvement=float(np.mean((wins > 0) + 0.5 * (wins == 0))),
        )


def _spread(runs: Iterable[RunRow]) -> float | None:
    """Between the highest and the lowest test accuracy; None where fewer than two have one."""
    found = [run.test.fraction for run in runs if run.test]
    return max(found) - min(found) if len(found) > 1 else None


def _machines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each distinct machine and software once, most runs first, times left out."""
    places = [r.where.model_dump_json(exclude={"started", "finished", "load"}) for r in records]
    counted = sorted(Counter(places).items(), key=lambda item: (-item[1], item[0]))
    return [{**json.loads(place), "runs": runs} for place, runs in counted]
