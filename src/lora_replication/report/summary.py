"""Records of a study, summed up as its results; comparisons and verdicts are added to them."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

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
)
from lora_replication.report.runs import long_table, run_rows
from lora_replication.report.words import say
from lora_replication.statistics import Interval
from lora_replication.study import Study

WINNER = "grid_winner"

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
    table = long_table(records, study.report.confidence)
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
        methods=[_method(study, table, name) for name in study.run.methods],
        grid=_grid(study, table, progress),
        runs=run_rows(table),
        article=article(),
        data=manifest,
        machines=_machines(records),
        year=max((int(record.where.finished[:4]) for record in records), default=None),
    )


def _missing(progress: Progress) -> list[Missing]:
    rows = []
    for run in progress.missing:
        record = progress.records.get(run.place)
        error = f": {record.happened.error}" if record and record.happened.error else ""
        reason = f"{record.happened.status}{error}" if record else "not run"
        rows.append(Missing(role=run.role, name=run.name, seed=run.seed, reason=reason))
    return rows


def _done(table: pd.DataFrame, role: Role, name: str) -> pd.DataFrame:
    """The runs of one method that have a result."""
    is_done = table["status"].isin(["ok", "diverged"])
    return table[(table["role"] == role) & (table["name"] == name) & is_done]


def _method(study: Study, table: pd.DataFrame, name: str) -> MethodRow:
    method, known = study.methods[name], published().get(name)
    comparable = bool(known and study.is_the_articles and known.configures(method))
    note = say("not_comparable", study, article().setting) if known and not comparable else ""
    return _row(
        study,
        _done(table, "method", name),
        role="method",
        name=name,
        trains=say("trains", method.trains, method.lora),
        seeds=study.run.seeds,
        published=known,
        comparable=comparable,
        note=note,
    )


def _row(study: Study, runs: pd.DataFrame, **facts: Any) -> MethodRow:
    """The ``runs`` of one row of the main table, summed up over seeds and over reviews."""
    level = study.report.confidence
    sizes, correct = runs["test_reviews"].dropna(), runs["test_correct"].dropna()
    if sizes.nunique() > 1:
        raise DataError(
            f"{facts['name']}: its runs were tested on {sorted(set(sizes))} reviews; "
            "train them again on one data folder"
        )
    facts |= {part: _over_seeds(runs[f"{part}_accuracy"].dropna(), level) for part in PARTS}
    return MethodRow(
        trainable_parameters=next(iter(runs["trainable_parameters"]), None),
        runs_done=len(runs),
        runs_diverged=int((runs["status"] == "diverged").sum()),
        runs_one_class=int(runs["one_class"].sum()),
        test_sampling=stats.wilson_interval(correct.sum() / len(correct), sizes.iloc[0], level)
        if len(correct)
        else None,
        **facts,
    )


def _over_seeds(accuracies: Iterable[float], level: float) -> Interval | None:
    values = list(accuracies)
    return stats.clipped(stats.t_interval(values, level), 0.0, 1.0) if values else None


def _grid(study: Study, table: pd.DataFrame, progress: Progress) -> Grid:
    asked = sum(run.role == "cell" for run in progress.asked)
    cells = table[(table["role"] == "cell") & table["status"].isin(["ok", "diverged"])]
    ends = [
        (run["lora"].alpha, run["test_accuracy"], run["one_class"]) for _, run in cells.iterrows()
    ]
    best = next((RunRow(**row) for row in cells.head(1).to_dict("records")), None)
    whole = len(cells) == asked and best is not None and best.val_accuracy is not None
    fresh = table[table["role"].isin(["winner", "runner_up"])][["role", "name"]].drop_duplicates()
    chosen = [_chosen(study, table, cells, *names) for names in fresh.itertuples(index=False)]
    rows = [row for row in chosen if row]
    return Grid(
        asked=asked,
        done=len(cells),
        diverged=int((cells["status"] == "diverged").sum()),
        one_class=int(cells["one_class"].sum()),
        collapse=collapse(ends, study.report.confidence),
        winner_by_validation=best.name if best and whole else None,
        winner=next((row for row in rows if row.role == "winner"), None),
        runners_up=[row for row in rows if row.role == "runner_up"],
    )


def collapse(ends: Iterable[tuple[float, float | None, bool]], level: float) -> list[Collapse]:
    """Collapsed configurations by alpha, from the alpha of each, its test accuracy (None where
    diverged) and whether it predicts a single class.
    """
    table = pd.DataFrame(ends, columns=["alpha", "accuracy", "one_class"], dtype=object)
    rows = []
    for alpha, mine in table.groupby("alpha"):
        collapsed = sum(a is None or a < COLLAPSED_BELOW for a in mine["accuracy"])
        source = f"configurations, n = {len(mine)}, one run each"
        share = replace(stats.exact_interval(collapsed, len(mine), level), source=source)
        one_class, n = int(mine["one_class"].sum()), len(mine)
        rows.append(
            Collapse(
                alpha=alpha, configurations=n, collapsed=collapsed, share=share, one_class=one_class
            )
        )
    return rows


def _chosen(
    study: Study, table: pd.DataFrame, cells: pd.DataFrame, role: Role, name: str
) -> MethodRow | None:
    """The winner or a runner-up on fresh seeds; None before its first result."""
    runs = _done(table, role, name)
    if not len(runs):
        return None
    lora = runs.iloc[0]["lora"]
    in_grid = cells[cells["name"] == cell_name(lora)]["val_accuracy"]
    return _row(
        study,
        runs,
        role=role,
        name=name,
        trains=say("trains", "lora", lora),
        configuration=cell_name(lora),
        seeds=study.grid.winner_seeds,
        grid_val_accuracy=next(iter(in_grid), None),
        difference_from_winner=_from_winner(runs, table, study) if role == "runner_up" else None,
    )


def _from_winner(runs: pd.DataFrame, table: pd.DataFrame, study: Study) -> Interval | None:
    """Test accuracy minus the winner's, paired over the fresh seeds that both have."""
    winner = _done(table, "winner", WINNER)
    both = winner.merge(runs, on="seed", suffixes=("_winner", ""))
    pairs = both[["test_accuracy_winner", "test_accuracy"]].dropna()
    if not len(pairs):
        return None
    before, after = (pairs[name].tolist() for name in pairs.columns)
    return stats.paired_t(before, after, study.report.confidence).difference


def _machines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each distinct machine and software once, most runs first, times left out."""
    excluded = {"started", "finished"}
    places = [r.where.model_dump_json(exclude=excluded) for r in records]
    counted = sorted(Counter(places).items(), key=lambda item: (-item[1], item[0]))
    return [{**json.loads(place), "runs": runs} for place, runs in counted]
