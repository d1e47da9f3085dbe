"""What a run looks like in MLflow: its name, parameters, tags and metrics. Knows no MLflow."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lora_replication.errors import DataError
from lora_replication.files import digest
from lora_replication.record import ADAPTER, PREDICTIONS, RECORD, Epoch, Record, Run, Status

ARTIFACTS = (RECORD, PREDICTIONS, ADAPTER)
"""The files of a run's folder that are copied, where they exist."""

AUTHOR = "lora-replication"
"""Instead of the login name and the path of the script."""

SHORT = 16
"""Characters of a digest that is shown to people."""

RUN_STATUS: dict[Status, str] = {
    "ok": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "timeout": "FAILED",
    "killed": "KILLED",
}
"""MLflow's word for the status of a record; a diverged run has run to its end."""

TRAINS = {"head": "the two layers after the encoder", "all": "all layers"}


@dataclass(frozen=True)
class Point:
    """One value of a metric, at ``milliseconds`` since 1970; ``step`` is the epoch, or 0."""

    name: str
    value: float
    milliseconds: int
    step: int


def run_name(run: Run) -> str:
    """``LoRA default, seed 3``; ``rank 8, alpha 16, query + value, seed 1``."""
    name = _configuration(run) if run.role in ("cell", "runner_up") else _words(run.name)
    return f"{name}, seed {run.seed}"


def _words(name: str) -> str:
    words = name.replace("_", " ").replace("lora", "LoRA")
    return words[:1].upper() + words[1:]


def _configuration(run: Run) -> str:
    lora = run.settings.lora
    if lora is None:
        return TRAINS[run.settings.trains]
    return f"rank {lora.rank}, alpha {lora.alpha:g}, {' + '.join(lora.targets)}"


def _description(run: Run) -> str:
    settings = run.settings
    return (
        f"{run.title}. Trains {_configuration(run)}, with learning rate {settings.learning_rate:g} "
        f"for {settings.epochs} epochs in {settings.precision}."
    )


def parameters(run: Run) -> dict[str, str]:
    """The settings with dotted keys (``lora.rank``), the seed, the method and the study."""
    settings = _flat(run.settings.model_dump(mode="json"))
    return {"study": run.study, "method": run.name, "seed": str(run.seed)} | settings


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[prefix + key] = " + ".join(value) if isinstance(value, list) else _text(value)
    return flat


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def place_tags(run: Run) -> dict[str, str]:
    """The tags of a run's place in its study: only the holder of the place's lock works there."""
    return {"role": run.role, "place": str(run.place)}


def run_tags(run: Run) -> dict[str, str]:
    """What a run is and what it is made from; nothing of the machine or its user."""
    who = {"method": run.name, "seed": str(run.seed), "record_key": run.key[:SHORT]}
    return _common_tags(run) | place_tags(run) | who | {"mlflow.note.content": _description(run)}


def _common_tags(run: Run) -> dict[str, str]:
    return {
        "study": run.study,
        "data": run.data[:SHORT],
        "weights": run.weights[:SHORT],
        "mlflow.user": AUTHOR,
        "mlflow.source.name": AUTHOR,
        "mlflow.source.type": "LOCAL",
    }


def sweep_name(run: Run) -> str:
    """The name of the run under which the configurations of a grid are nested."""
    return f"Grid, seed {run.seed}"


def sweep_tags(run: Run) -> dict[str, str]:
    """Of that run; ``sweep`` is the digest of what its configurations share: all but LoRA's."""
    shared = run.settings.model_dump(mode="json", exclude={"lora"})
    sweep = digest([run.seed, run.data, run.weights, run.results, shared])[:SHORT]
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


def record_points(record: Record, file: Path) -> list[Point]:
    """Every value of a record, at the times that it tells: it finished, before that it evaluated,
    before that came its epochs. Raises ``DataError``, which names ``file``.
    """
    happened = record.happened
    finished = utc_milliseconds(record.where.finished, file)
    end = finished - 1000 * (happened.evaluation_seconds or 0.0)
    points: list[Point] = []
    for epoch in reversed(happened.epochs):
        points = epoch_points(epoch, round(end)) + points
        end -= 1000 * epoch.seconds
    best = next((one for one in happened.epochs if one.epoch == happened.best_epoch), None)
    counts = {"train": happened.train, "validation": happened.val, "test": happened.test}
    values = {f"accuracy/{part}": count.fraction for part, count in counts.items() if count}
    return points + _points(
        {
            **values,
            "loss/train": best and best.train_loss,
            "loss/validation": best and best.val_loss,
            "cost/training_minutes": _over(happened.training_seconds, 60),
            "cost/evaluation_minutes": _over(happened.evaluation_seconds, 60),
            "cost/peak_memory_gib": _over(happened.peak_memory_bytes, 2**30),
            "cost/tokens_per_second": happened.tokens_per_second,
            "parameters/trainable": happened.trainable_parameters,
            "parameters/total": happened.total_parameters,
        },
        finished,
        0,
    )


def _over(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def utc_milliseconds(time: str, file: Path) -> int:
    """Milliseconds since 1970 of an ISO 8601 time in ``file``, UTC where it names no zone."""
    try:
        moment = datetime.fromisoformat(time)
    except ValueError:
        raise DataError(
            f"{file}: {time!r} is not a time; allowed: ISO 8601, such as "
            "2024-01-31T12:00:00+00:00; delete it to run it again"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _points(values: dict[str, float | None], milliseconds: int, step: int) -> list[Point]:
    return [
        Point(name, float(value), milliseconds, step)
        for name, value in values.items()
        if value is not None and math.isfinite(value)
    ]
