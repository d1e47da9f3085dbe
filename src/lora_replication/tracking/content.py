"""What a run looks like in MLflow: its name, parameters, tags and values. Knows records, not
MLflow.
"""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_replication.errors import DataError
from lora_replication.files import digest
from lora_replication.record import (
    ADAPTER,
    PREDICTIONS,
    RECORD,
    Epoch,
    Happened,
    Record,
    Run,
    Status,
)

ARTIFACTS = (RECORD, PREDICTIONS, ADAPTER)
"""The files of a run's folder that are mirrored, where they are there."""

AUTHOR = "lora-replication"
"""Stands where MLflow would write the login name and the path of the script."""

RUN_STATUS: dict[Status, str] = {
    "ok": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "timeout": "FAILED",
    "killed": "KILLED",
}
"""MLflow's word for the status of a record; a diverged run has run to its end."""


@dataclass(frozen=True)
class Point:
    """One value of a metric. ``milliseconds`` since 1970, UTC; ``step`` is the epoch, or 0 for what
    a run has once.
    """

    name: str
    value: float
    milliseconds: int
    step: int


def run_name(asked: Run) -> str:
    """The name under which people see the run: ``lora_default seed-1``."""
    return f"{asked.name} seed-{asked.seed}"


def parameters(asked: Run) -> dict[str, str]:
    """The settings with dotted keys (``lora.rank``), the seed, the method's name and the study."""
    return {"study": asked.study, "method": asked.name, "seed": str(asked.seed)} | _flat(
        asked.settings
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = _text(value)
    return flat


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return ",".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def identity(asked: Run) -> dict[str, str]:
    """The tags by which the runs of a record are found again.

    The key alone does not do: a grid's cell and a method with equal settings share it.
    """
    return {"role": asked.role, "method": asked.name, "record_key": asked.key}


def run_tags(asked: Run, git_commit: str | None) -> dict[str, str]:
    """Tags of a run: what it is and what it was made from; nothing of the machine or its user."""
    commit = (
        {"git_commit": git_commit, "mlflow.source.git.commit": git_commit} if git_commit else {}
    )
    return _common_tags(asked) | identity(asked) | commit


def _common_tags(asked: Run) -> dict[str, str]:
    return {
        "study": asked.study,
        "title": asked.title,
        "data_sha256": asked.data,
        "weights_sha256": asked.weights,
        "code_sha256": asked.code,
        "mlflow.note.content": asked.title,
        "mlflow.user": AUTHOR,
        "mlflow.source.name": AUTHOR,
        "mlflow.source.type": "LOCAL",
    }


def sweep_name(asked: Run) -> str:
    """The name of the run under which the cells of a grid are nested."""
    return f"grid seed-{asked.seed}"


def sweep_tags(asked: Run) -> dict[str, str]:
    """Tags of the parent of a grid's cells.

    ``sweep`` is the digest of what all cells share: study, seed, data, weights, code, all settings
    but LoRA's.
    """
    shared = {key: value for key, value in asked.settings.items() if key != "lora"}
    sweep = digest([asked.study, asked.seed, asked.data, asked.weights, asked.code, shared])
    return _common_tags(asked) | {"role": "sweep", "sweep": sweep}


def outcome_tags(happened: Happened) -> dict[str, str]:
    """Tags for what came of a run: the record's status, and whether one class was answered for
    every review.
    """
    return {"record_status": happened.status, "one_class": _text(happened.one_class)}


def epoch_points(epoch: Epoch, milliseconds: int) -> list[Point]:
    """The learning curves at ``epoch``; losses that are not finite are left out."""
    values = {
        "train_loss": epoch.train_loss,
        "train_accuracy": epoch.train_accuracy,
        "val_loss": epoch.val_loss,
        "val_accuracy": epoch.val_accuracy,
    }
    return _points(values, milliseconds, epoch.epoch)


def final_points(happened: Happened, milliseconds: int) -> list[Point]:
    """What a run has once: accuracies at the best epoch (0 to 1), parameter counts, seconds, tokens
    per second, bytes.
    """
    counts = {"train": happened.train, "val": happened.val, "test": happened.test}
    values: dict[str, float | None] = {
        f"final_{split}_accuracy": count.fraction
        for split, count in counts.items()
        if count and count.reviews
    }
    for name in (
        "best_epoch",
        "first_bad_step",
        "trainable_parameters",
        "total_parameters",
        "training_seconds",
        "evaluation_seconds",
        "tokens_per_second",
        "peak_memory_bytes",
    ):
        values[name] = getattr(happened, name)
    return _points(values, milliseconds, 0)


def record_points(record: Record, file: Path) -> list[Point]:
    """Every value of a record, at the times that it tells: it finished, before that it evaluated,
    before that came its epochs.
    """
    finished = utc_milliseconds(record.where.finished, file)
    end = finished - 1000 * (record.happened.evaluation_seconds or 0.0)
    points: list[Point] = []
    for epoch in reversed(record.happened.epochs):
        points = epoch_points(epoch, round(end)) + points
        end -= 1000 * epoch.seconds
    return points + final_points(record.happened, finished)


def utc_milliseconds(time: str, file: Path) -> int:
    """Milliseconds since 1970 of an ISO 8601 time in ``file``, UTC where it names no zone. Raises
    ``DataError``.
    """
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise DataError(
            f"{file}: {time!r} is not a time; allowed: ISO 8601, such as 2024-01-31T12:00:00+00:00; run it again"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _points(values: dict[str, float | None], milliseconds: int, step: int) -> list[Point]:
    return [
        Point(name, float(value), milliseconds, step)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    ]
