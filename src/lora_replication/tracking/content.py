"""A run in MLflow: its name, parameters, tags, metrics and data sets. Knows no MLflow."""

import json
import math
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from lora_replication.files import digest
from lora_replication.record import SEARCHED, Epoch, Record, Run, Status, method_words
from lora_replication.study import shortest

if TYPE_CHECKING:
    from lora_replication.data.manifest import Manifest
    from lora_replication.report.results import Results, RunRow

AUTHOR = "lora-replication"
AUTHOR_TAGS = {"mlflow.user": AUTHOR, "mlflow.source.name": AUTHOR, "mlflow.source.type": "LOCAL"}
"""Instead of the login name and the path of the script."""

SHORT = 16
"""Characters of a digest that is shown to people."""

CONTEXTS = {"train": "training", "val": "validation", "test": "test"}
"""What a part of the split is for, in MLflow's words."""

RUN_STATUS: dict[Status, str] = {
    **dict.fromkeys(("ok", "diverged"), "FINISHED"),
    **dict.fromkeys(("failed", "timeout"), "FAILED"),
    "killed": "KILLED",
}
"""MLflow's word for the status of a record; a diverged run has run to its end."""

COSTS = {
    "cost/training_minutes": ("training_seconds", 60),
    "cost/evaluation_minutes": ("evaluation_seconds", 60),
    "cost/peak_memory_gib": ("peak_memory_bytes", 2**30),
    "cost/tokens_per_second": ("tokens_per_second", 1),
    "parameters/trainable": ("trainable_parameters", 1),
    "parameters/total": ("total_parameters", 1),
}
"""Metrics by the field of ``record.Happened`` that each comes from, and their unit in its."""

Metrics = dict[str, float | None]


class Point(NamedTuple):
    """One value of a metric, at ``milliseconds`` since 1970; ``step`` is the epoch, or 0."""

    name: str
    value: float
    milliseconds: int
    step: int


def parameters(run: Run) -> dict[str, str]:
    """The settings with dotted keys (``lora.rank``), the seed, the method and the study."""
    flat = run.settings.model_dump(mode="json", exclude={"file"})
    if classes := flat.pop("classes", None):
        flat["classes"] = len(classes)
    for part in ("lora", "options"):
        own = flat.pop(part, None) or {}
        flat |= {f"{part}.{key}": value for key, value in own.items()}
    flat |= {"study": run.study, "method": run.name, "seed": run.seed}
    return {key: _text(value) for key, value in flat.items() if value is not None}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " + ".join(value)
    text = shortest(value) if isinstance(value, float) else str(value)
    return text.lower() if isinstance(value, bool) else text


def datasets(run: Run, manifest: "Manifest") -> dict[str, dict[str, str]]:
    """By MLflow's context, the fields of each part of the split as a data set of MLflow."""
    columns = [{"name": "text", "type": "string"}, {"name": "label", "type": "long"}]
    source = {"source": manifest.source, "revision": manifest.revision, **manifest.source_files}
    shared = {
        "source_type": "code",  # MLflow's own word for data that a program made
        "source": json.dumps({"tags": {key: value for key, value in source.items() if value}}),
        "schema": json.dumps({"mlflow_colspec": columns}),
    }
    return {
        CONTEXTS[name]: shared
        | {
            "name": f"{run.study} {CONTEXTS[name]}",
            "digest": part.reviews_sha256[:36],  # as much as MLflow takes
            "profile": json.dumps({"num_rows": part.reviews}),
        }
        for name, part in manifest.parts.items()
    }


def run_tags(run: Run) -> dict[str, str]:
    """What a run is and what it is made from; nothing of the machine or its user."""
    own = {"method": _without_seed(run), "seed": str(run.seed), "role": run.role}
    which = {"place": str(run.place), "record_key": run.key[:SHORT]}
    return own | _common_tags(run) | which


def _without_seed(run: Run) -> str:
    """``LoRA default``; runs of one such name differ by their seeds alone, or by their nudges."""
    return run.words.rpartition(", ")[0] + (", nudged" if run.nudge else "")


def _common_tags(run: Run) -> dict[str, str]:
    settings = run.settings
    trained = method_words(settings) + (f", {settings.lora.words}" if settings.lora else "")
    return {
        "study": run.study,
        "data": run.data[:SHORT],
        "weights": run.weights[:SHORT],
        **AUTHOR_TAGS,
        "mlflow.note.content": f"{run.title}. Trains {trained}, at learning rate "
        f"{settings.learning_rate:g}, in {settings.precision}; epochs: {settings.epochs}.",
    }


def parent(run: Run) -> tuple[str, dict[str, str]]:
    """Name and tags of the run under which ``run`` is nested: with the other seeds of its method,
    the other configurations of its grid, or all trials; ``group`` digests what these share.
    """
    apart = {"lora", "learning_rate"} if run.role == "cell" else set()
    shared = run.settings.model_dump(mode="json", exclude=apart | {"file"})
    name = {"cell": f"Grid, seed {run.seed}", "trial": "Tuning"}.get(run.role, _without_seed(run))
    own = [] if run.role == "trial" else [shared]
    group = digest([run.role, name, *own, run.data, run.weights, run.results])[:SHORT]
    about = {"mlflow.note.content": run.title} if run.role in SEARCHED else {}
    return name, {"role": "parent"} | _common_tags(run) | about | {"group": group}


def summaries(results: "Results") -> Iterator[tuple["RunRow", dict[str, str], Metrics]]:
    """For each parent that a report knows: a run below it, its own tags and metrics."""
    for row in (*results.rows, *results.grid.runners_up, *results.tuned):
        metrics: Metrics = {
            "mean/test": getattr(row.test, "estimate", None),
            "mean/test_low": getattr(row.interval, "low", None),
            "mean/test_high": getattr(row.interval, "high", None),
            "mean/validation": getattr(row.val, "estimate", None),
            "seeds": row.runs_done,
        }
        yield from ((run, {}, metrics) for run in results.runs_of(row)[:1])
    grid, tried = results.grid, results.study["grid"] or {}
    lists = ((k, v) for k, v in tried.items() if isinstance(v, list) and k != "winner_seeds")
    tags = {f"axis_{k}": ", ".join(map(_text, v)) for k, v in lists if len(v) > 1}
    counts = ("asked", "done", "diverged", "one_class")
    metrics = {f"configurations/{name}": getattr(grid, name) for name in counts}
    for best in results.cells[:1]:
        tags["winner"] = grid.winner_by_validation or "none yet"
        yield best, tags, metrics | {"best/validation": best.val_accuracy}


def outcome_tags(record: Record) -> dict[str, str]:
    """How a run ended, and on what."""
    happened, where = record.happened, record.where
    system = " ".join(where.platform.split()[::2])  # without its release
    tags = {
        "status": happened.status,
        "collapsed": happened.one_class,
        "best_epoch": happened.best_epoch,
        "gpu": where.gpu or "none",
        "host": f"{where.cores} cores, {where.memory_bytes / 2**30:.0f} GiB, {system}",
        "processor": where.cpu,
        "git_dirty": where.git_dirty,
        "git_commit": where.git_commit and where.git_commit[:SHORT],
        "mlflow.source.git.commit": where.git_commit,
    }
    return {name: _text(value) for name, value in tags.items() if value is not None}


def epoch_points(epoch: Epoch, milliseconds: int) -> list[Point]:
    """The learning curves at ``epoch``; values that are not finite are left out."""
    values = {
        "curve/train_loss": epoch.train_loss,
        "curve/train_accuracy": epoch.train_accuracy,
        "curve/validation_loss": epoch.val_loss,
        "curve/validation_accuracy": epoch.val_accuracy,
    }
    return points(values, milliseconds, epoch.epoch)


def record_points(record: Record) -> list[Point]:
    """Every value of a record, at its time: epochs came first, then evaluation, then the end."""
    happened = record.happened
    finished = milliseconds(record.where.finished)
    end = finished - 1000 * (happened.evaluation_seconds or 0.0)
    curves: list[Point] = []
    for epoch in reversed(happened.epochs):
        curves = epoch_points(epoch, round(end)) + curves
        end -= 1000 * epoch.seconds
    counts = {"train": happened.train, "validation": happened.val, "test": happened.test}
    values: Metrics = {
        f"accuracy/{part}": count.fraction for part, count in counts.items() if count
    }
    for best in happened.epochs:
        if best.epoch == happened.best_epoch:
            values |= {"loss/train": best.train_loss, "loss/validation": best.val_loss}
    for name, (field, unit) in COSTS.items():
        value = getattr(happened, field)
        values[name] = value if value is None else round(value / unit, 3)
    return curves + points(values, finished, 0)


def milliseconds(time: str) -> int:
    """Since 1970, of an ISO 8601 time with its zone."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def points(values: Metrics, at: int, step: int) -> list[Point]:
    """Those of ``values`` that are finite numbers."""
    finite = ((name, value) for name, value in values.items() if value is not None)
    return [Point(name, value, at, step) for name, value in finite if math.isfinite(value)]
