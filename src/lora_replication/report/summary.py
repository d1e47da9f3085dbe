"""Records of a study, summed up as its results; comparisons and verdicts are added to them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from lora_replication import statistics as stats
from lora_replication.article import article, published
from lora_replication.data.manifest import Manifest
from lora_replication.errors import DataError
from lora_replication.grid.space import cell_name
from lora_replication.plan import Progress
from lora_replication.record import Record, Role
from lora_replication.report.results import (
    PARTS,
    Collapse,
    Grid,
    MethodRow,
    Missing,
    Results,
    RunRow,
    done_runs,
)
from lora_replication.report.words import say
from lora_replication.study import Study

COLLAPSED_BELOW = 0.6
"""A run whose test accuracy ends below this has collapsed; a single predicted class gives about one
half.
"""

PRIVATE: dict[str, Any] = {
    "root": True, "execution": True, "tracking": True, "data": {"path"}, "model": {"path"},
}  # fmt: skip
"""Keys of a study that stay on the machine: an address may hold a password, and paths tell of their
owner.
"""


def summarise(study: Study, manifest: Manifest, progress: Progress) -> Results:
    """What the records say of what was asked.

    Raises:
        DataError: runs of one method were tested on different numbers of reviews.
    """
    records = [
        progress.records[run.place] for run in progress.asked if run.place in progress.records
    ]
    runs = run_rows(records)
    words: dict[str, Any] = {name: say(name, study) for name in ("title", "subject")}
    for name in ("reservation", "stamp", "remark"):
        words[name] = say(name, study, article().setting)
    return Results(
        **words,
        is_the_articles=study.is_the_articles,
        study=study.model_dump(mode="json", exclude=PRIVATE),
        runs_asked=len(progress.asked),
        asked_by_role=dict(Counter(run.role for run in progress.asked)),
        missing=_missing(progress),
        records_ignored=progress.stale,
        copies=list(progress.copies),
        methods=[_method(study, runs, name) for name in study.run.methods],
        grid=_grid(study, runs, progress),
        runs=runs,
        article=article(),
        data=manifest,
        machines=_machines(records),
        year=max((int(record.where.finished[:4]) for record in records), default=None),
    )


def run_rows(records: Iterable[Record]) -> list[RunRow]:
    """One row a record; the grid's runs best by validation first, with their place."""
    rows = sorted((_run(record) for record in records), key=_order)
    first = sum(row.role != "cell" for row in rows)
    return rows[:first] + [
        row.model_copy(update={"place": place}) for place, row in enumerate(rows[first:], start=1)
    ]


def _run(record: Record) -> RunRow:
    asked, where = record.asked, record.where
    names = ("role", "name", "seed", "key", "settings")
    return RunRow(
        **dict(record.happened),
        **{name: getattr(asked, name) for name in names},
        commit=where.git_commit,
        cpu=where.cpu,
        gpu=where.gpu,
        threads=where.threads,
    )


def _order(row: RunRow) -> tuple[float, ...]:
    """Methods, winner and others as asked; then the grid: highest validation accuracy first, of
    equal ones the smallest, then those without a result.
    """
    if row.role != "cell":
        return (0,)
    accuracy = row.val_accuracy
    return (
        1 if row.is_done else 2,
        1.0 if accuracy is None else -accuracy,
        row.trainable_parameters or 0,
    )


def _missing(progress: Progress) -> list[Missing]:
    rows = []
    for run in progress.missing:
        record = progress.records.get(run.place)
        error = f": {record.happened.error}" if record and record.happened.error else ""
        reason = f"{record.happened.status}{error}" if record else "not run"
        rows.append(Missing(role=run.role, name=run.name, seed=run.seed, reason=reason))
    return rows


def _method(study: Study, runs: Sequence[RunRow], name: str) -> MethodRow:
    method, known = study.methods[name], published().get(name)
    comparable = bool(
        known
        and known.configures(method)
        and article().is_setting_of(study)
        and article().is_rate_of(study, name)
    )
    note = say("not_comparable", study, article().setting) if known and not comparable else ""
    return _row(
        study,
        done_runs(runs, "method", name),
        role="method",
        name=name,
        trains=say("trains", method.trains, method.lora),
        seeds=study.run.seeds,
        published=known,
        comparable=comparable,
        note=note,
    )


def _row(study: Study, runs: Sequence[RunRow], **facts: Any) -> MethodRow:
    """The ``runs`` of one row of the main table, summed up over seeds and over reviews."""
    level = study.report.confidence
    tests = [run.test for run in runs if run.test]
    sizes = sorted({test.reviews for test in tests})
    if len(sizes) > 1:
        raise DataError(
            f"{facts['name']}: its runs were tested on {sizes} reviews; "
            "train them again on one data folder"
        )
    for part in PARTS:
        known = [a for run in runs if (a := run.accuracy(part)) is not None]
        facts[part] = stats.clipped(stats.t_interval(known, level), 0.0, 1.0) if known else None
    correct = sum(test.correct for test in tests)
    return MethodRow(
        trainable_parameters=runs[0].trainable_parameters if runs else None,
        runs_done=len(runs),
        runs_diverged=sum(run.status == "diverged" for run in runs),
        runs_one_class=sum(run.one_class for run in runs),
        test_sampling=stats.wilson_interval(correct / len(tests), sizes[0], level)
        if tests
        else None,
        **facts,
    )


def _grid(study: Study, runs: Sequence[RunRow], progress: Progress) -> Grid:
    asked = sum(run.role == "cell" for run in progress.asked)
    cells = [run for run in runs if run.role == "cell" and run.is_done]
    ends = [
        (run.settings.lora.alpha, run.test_accuracy, run.one_class)
        for run in cells
        if run.settings.lora
    ]
    whole = bool(cells) and len(cells) == asked and cells[0].val is not None
    fresh = dict.fromkeys(
        (run.role, run.name) for run in runs if run.role in ("winner", "runner_up")
    )
    rows = [row for names in fresh if (row := _chosen(study, runs, *names))]
    return Grid(
        asked=asked,
        done=len(cells),
        diverged=sum(run.status == "diverged" for run in cells),
        one_class=sum(run.one_class for run in cells),
        collapse=collapse(ends, study.report.confidence),
        winner_by_validation=cells[0].name if whole else None,
        winner=next((row for row in rows if row.role == "winner"), None),
        runners_up=[row for row in rows if row.role == "runner_up"],
    )


def collapse(ends: Iterable[tuple[float, float | None, bool]], level: float) -> list[Collapse]:
    """Collapsed configurations by alpha, from the alpha of each, its test accuracy (None where
    diverged) and whether it predicts a single class.
    """
    found, rows = list(ends), []
    for alpha in sorted({alpha for alpha, *_ in found}):
        mine = [(accuracy, single) for other, accuracy, single in found if other == alpha]
        n, collapsed = len(mine), sum(a is None or a < COLLAPSED_BELOW for a, _ in mine)
        source = f"configurations, n = {n}, one run each"
        share = replace(stats.exact_interval(collapsed, n, level), source=source)
        one_class = sum(bool(single) for _, single in mine)
        rows.append(
            Collapse(
                alpha=alpha, configurations=n, collapsed=collapsed, share=share, one_class=one_class
            )
        )
    return rows


def _chosen(study: Study, runs: Sequence[RunRow], role: Role, name: str) -> MethodRow | None:
    """The winner or a runner-up on fresh seeds; None before its first result."""
    mine = done_runs(runs, role, name)
    lora = mine[0].settings.lora if mine else None
    if lora is None or study.grid is None:
        return None
    rate = mine[0].settings.learning_rate
    alike = (r for r in runs if r.role == "cell" and r.settings.lora == lora)
    cell = next((run for run in alike if run.settings.learning_rate == rate), None)
    return _row(
        study,
        mine,
        role=role,
        name=name,
        trains=say("trains", "lora", lora),
        configuration=cell.name if cell else cell_name(lora),
        seeds=study.grid.winner_seeds,
        grid_val_accuracy=cell.val_accuracy if cell and cell.is_done else None,
    )


def _machines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each distinct machine and software once, most runs first, times left out."""
    excluded = {"started", "finished", "load"}
    places = [r.where.model_dump_json(exclude=excluded) for r in records]
    counted = sorted(Counter(places).items(), key=lambda item: (-item[1], item[0]))
    return [{**json.loads(place), "runs": runs} for place, runs in counted]
