"""Studies with known truths: test accuracies by method and seed, and reviews that favour some."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from lora_replication.plan import Progress
from lora_replication.record import Count, Record
from lora_replication.report.predictions import Predictions, RunName
from lora_replication.report.results import Results, RunRow, Verdict
from lora_replication.report.summary import summarise
from lora_replication.report.verdicts import judge
from lora_replication.study import Study
from tests.report_records import article_study, make_manifest, make_records, make_workspace

ARTICLE = {"last_layers": 86.22, "lora_default": 89.44, "lora_tuned": 92.39, "full": 92.31}
COUNTS = {
    "last_layers": 592_130, "lora_default": 147_456, "lora_tuned": 516_096, "full": 66_955_010,
}  # fmt: skip
REVIEWS = 200
"""Of the tables here: what matters is the variance of their mean."""


def narrow(**report: float) -> Study:
    """The article's study with a margin that few runs can meet."""
    return article_study(report={"value_margin": 0.5} | report)


@cache
def base() -> Results:
    study = article_study()
    return summed(study, make_records(make_workspace(study)))


def summed(study: Study, records: Sequence[Record], tested: Predictions | None = None) -> Results:
    asked = tuple(record.asked for record in records)
    found = {record.asked.place: record for record in records}
    progress = Progress(asked, found, 0, ())
    return summarise(study, make_manifest(), progress, tested or Predictions())


def by_name(results: Results, tested: Predictions, study: Study) -> dict[str, Verdict]:
    return {verdict.claim.name: verdict for verdict in judge(results, tested, study).verdicts}


def judged_records(
    study: Study, records: Sequence[Record], tested: Predictions | None = None
) -> dict[str, Verdict]:
    tested = tested or Predictions()
    return by_name(summed(study, records, tested), tested, study)


def answers(percent: float, method: int, review_sd: float) -> np.ndarray:
    """(reviews,) with this mean, of which reviews add ``review_sd`` points to a method's standard
    error; methods are orthogonal.
    """
    pattern = np.cos(2 * np.pi * (method + 1) * np.arange(REVIEWS) / REVIEWS) * np.sqrt(2)
    return (percent + review_sd * np.sqrt(REVIEWS) * pattern) / 100


def with_accuracy(run: RunRow, percent: float) -> RunRow:
    test = Count(correct=round(10_000 * percent), reviews=1_000_000, ones=5000)
    return run.model_copy(update={"test": test})


def world(
    means: dict[str, float],
    spread: Sequence[float],
    *,
    study: Study | None = None,
    counts: dict[str, int] = COUNTS,
    review_sd: float = 0.1,
    gone: Sequence[tuple[str, int]] = (),
) -> dict[str, Verdict]:
    """The article's study: runs at ``means`` + ``spread`` percent; ``gone`` diverged."""
    runs, right = [], {}
    for run in base().runs:
        if run.role == "method" and run.seed <= len(spread):
            place = list(ARTICLE).index(run.name)
            percent = means[run.name] + spread[(run.seed - 1 + 2 * place) % len(spread)]
            if (run.name, run.seed) in gone:
                runs.append(run.model_copy(update={"status": "diverged", "test": None}))
                continue
            runs.append(with_accuracy(run, percent))
            right[run.role, run.name, run.seed] = answers(percent, place, review_sd)
        elif run.role == "cell":
            runs.append(run)
    methods = [
        row.model_copy(update={"trainable_parameters": counts[row.name]}) for row in base().methods
    ]
    results = base().model_copy(update={"runs": runs, "methods": methods})
    return by_name(results, Predictions(right), study or narrow())


def selection(ahead: float, fresh: int, *, first: bool = False, **grid: Any) -> Verdict:
    """The winner ``ahead`` points of the article's choice on so many ``fresh`` seeds."""
    tuned = next(cell for cell in base().cells if cell.name == "r8-a1-query-value-mlp")
    others = [cell for cell in base().cells if cell is not tuned]
    cells = [tuned, *others] if first else [others[0], tuned, *others[1:]]
    right: dict[RunName, Any] = {}
    runs, rows = list(cells), []
    means = {("winner", "grid_winner"): 90 + ahead, ("runner_up", tuned.name): 90.0}
    template = base().grid.winner
    assert template is not None
    for place, ((role, name), mean) in enumerate(means.items()):
        rows.append(template.model_copy(update={"role": role, "name": name}))
        for seed in range(101, 101 + fresh):
            percent = mean + 0.1 * ((seed + place) % 3)
            update = {"role": role, "name": name, "seed": seed}
            runs.append(with_accuracy(tuned.model_copy(update=update), percent))
            right[role, name, seed] = answers(percent, place, 0.1)
    winner, runner_up = rows
    changes = {"winner": winner, "runners_up": [runner_up], **grid}
    found = base().grid.model_copy(update=changes)
    results = base().model_copy(update={"runs": runs, "grid": found})
    return by_name(results, Predictions(right), article_study())["best_configuration"]
