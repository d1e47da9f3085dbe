"""What a run looks like in MLflow: its name, parameters, tags and metrics. Knows no MLflow."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from lora_replication.files import digest
from lora_replication.record import Epoch, Record, Run, Status, method_words
from lora_replication.study import method_in_words

AUTHOR = "lora-replication"
"""Instead of the login name and the path of the script."""

SHORT = 16
"""Characters of a digest that is shown to people."""

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
    return str(value).lower() if isinstance(value, bool) else str(value)


def run_tags(run: Run) -> dict[str, str]:
    """What a run is and what it is made from; nothing of the machine or its user."""
    settings = run.settings
    trained = method_words(settings) + (f", {settings.lora.words}" if settings.lora else "")
    return _common_tags(run) | {
        "role": run.role,
        "method": method_in_words(run.name),
        "seed": str(run.seed),
        "place": str(run.place),
        "record_key": run.key[:SHORT],
        "mlflow.note.content": f"{run.title}. Trains {trained}, at learning rate "
        f"{settings.learning_rate:g}, for {settings.epochs} epochs in {settings.precision}.",
    }


def _common_tags(run: Run) -> dict[str, str]:
    return {
        "study": run.study,
        "data": run.data[:SHORT],
        "weights": run.weights[:SHORT],
        "mlflow.user": AUTHOR,
        "mlflow.source.name": AUTHOR,
        "mlflow.source.type": "LOCAL",
    }


def sweep_tags(run: Run) -> dict[str, str]:
    """Of the run under which a grid's, or all trials of a study, are nested; ``sweep`` digests what
    these share.
    """
    shared = run.settings.model_dump(mode="json", exclude={"lora", "learning_rate"})
    own = [run.seed, shared] if run.role == "cell" else [run.role]
    sweep = digest([*own, run.data, run.weights, run.results])[:SHORT]
    return _common_tags(run) | {"role": "sweep", "sweep": sweep, "mlflow.note.content": run.title}


def outcome_tags(record: Record) -> dict[str, str]:
    """How a run ended, and on what."""
    happened, where = record.happened, record.where
    tags = {
        "status": happened.status,
        "collapsed": happened.one_class,
        "best_epoch": happened.best_epoch,
        "git_commit": where.git_commit,
        "git_dirty": where.git_dirty,
        "mlflow.source.git.commit": where.git_commit,
        "processor": where.cpu,
        "gpu": where.gpu,
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
    return _points(values, milliseconds, epoch.epoch)


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
    values: dict[str, float | None] = {
        f"accuracy/{part}": count.fraction for part, count in counts.items() if count
    }
    for best in happened.epochs:
        if best.epoch == happened.best_epoch:
            values |= {"loss/train": best.train_loss, "loss/validation": best.val_loss}
    for name, (field, unit) in COSTS.items():
        value = getattr(happened, field)
        values[name] = value if value is None else round(value / unit, 3)
    return curves + _points(values, finished, 0)


def milliseconds(time: str) -> int:
    """Since 1970, of an ISO 8601 time with its zone."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)


def _points(values: Mapping[str, float | None], at: int, step: int) -> list[Point]:
    finite = ((name, value) for name, value in values.items() if value is not None)
    return [Point(name, value, at, step) for name, value in finite if math.isfinite(value)]
