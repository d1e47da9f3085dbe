"""The record of a run: what was asked, what happened, where. Records are the truth; reports and MLflow are made from them.

A run's folder holds ``record.json``, ``predictions.parquet`` and ``adapter.safetensors``; the record is written last, so
where it stands the run is whole. Every file is written beside its place, synced and renamed: a reader sees all of it or none.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError

from lora_replication.errors import DataError, EnvironmentProblem

RECORD = "record.json"
PREDICTIONS = "predictions.parquet"
ADAPTER = "adapter.safetensors"

Role = Literal["method", "cell", "winner", "runner_up"]

FOLDERS = {"cell": "grid", "runner_up": "grid_runners_up"}
"""Where the runs of a role that has many names lie in a study's folder."""

Status = Literal["ok", "diverged", "failed", "killed", "timeout"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Count(_Part):
    """An accuracy as it was counted: ``correct`` of ``reviews``; ``ones`` of them were answered 1 (positive)."""

    correct: int
    reviews: int
    ones: int

    @property
    def fraction(self) -> float:
        """Accuracy, 0 to 1."""
        return self.correct / self.reviews

    @property
    def one_class(self) -> bool:
        """Whether every review was answered alike."""
        return self.ones in (0, self.reviews)


class Asked(_Part):
    """What decides the result of the run.

    Attributes:
        study: the study's name.
        title: the study's title, as tables and pages show it.
        role: "method" (one of the study's methods), "cell" (a grid configuration), "winner" or "runner_up" (the grid's winner,
            or a configuration beside it, on a fresh seed).
        name: the method's name, the configuration's name (``r8-a16-query-value``), or ``grid_winner``.
        settings: the resolved parameters, ``methods.RunSettings.as_dict()``.
        seed: names every random draw, together with its purpose.
        data: sha256 of the data manifest's digests.
        weights: sha256 of the encoder's weights file.
        code: sha256 over the modules that compute a run.
        key: sha256 over all of these but study, title, role and name: equal keys, equal results.
    """

    study: str
    title: str
    role: Role
    name: str
    settings: dict[str, Any]
    seed: int
    data: str
    weights: str
    code: str
    key: str


class Epoch(_Part):
    """One pass over the training reviews. Losses are means of cross-entropy in nats, null where not finite.

    ``train_loss`` and ``train_accuracy`` were taken while training, with dropout on; ``val_*`` after the epoch, in eval mode.
    Accuracies are null in the epoch in which a run diverged: what answers by a logit that is no number answers nothing.
    """

    epoch: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


class Happened(_Part):
    """What came of it.

    Attributes:
        status: ok, diverged (loss or weights not finite), failed (``error`` says how), killed, timeout.
        attempt: how often it was tried in its sweep up to here, from 1.
        error: what went wrong, for failed, killed and timeout.
        first_bad_step: the first training step with a loss that is not finite, counted from 1 over all epochs; null where every loss was
            finite. A run in fp16 can have one and be ok, because its scaler skips such steps.
        one_class: the chosen epoch answers the same class for every test review.
        epochs: in order, from 1.
        best_epoch: the first epoch with the highest validation accuracy.
        stopped_after: the epoch after which training was given up for answering one class, where the study asks for that.
        train, val, test: counts at the best epoch; null where not evaluated or not ok.
        trainable_parameters, total_parameters: numbers of scalars.
        notes: things worth telling, such as a rank above a layer's smaller side.
        pack: how many configurations trained together with this one, itself included.
        training_seconds, evaluation_seconds: monotonic wall time, over all parts of an interrupted run; in a pack, an equal share.
        tokens_per_second: real tokens (no padding) trained per second of training.
        peak_memory_bytes: of the run, or its pack: resident in the process on CPU, allocated on the device on CUDA.
    """

    status: Status
    attempt: int = 1
    error: str | None = None
    first_bad_step: int | None = None
    one_class: bool = False
    epochs: list[Epoch] = []
    best_epoch: int | None = None
    stopped_after: int | None = None
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    notes: list[str] = []
    pack: int = 1
    training_seconds: float | None = None
    evaluation_seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None


class Where(_Part):
    """The machine and the software.

    Attributes:
        git_commit: of the project, or null outside git; ``git_dirty``: whether tracked files differed from it.
        versions: of python, torch, transformers and so on.
        cpu, gpu: model names; ``threads``: of torch; ``platform``: operating system.
        started, finished: UTC, ISO 8601.
        data_source, data_revision, encoder_revision: as the manifest names them.
    """

    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    cpu: str
    cores: int
    memory_bytes: int
    gpu: str | None
    threads: int
    platform: str
    started: str
    finished: str
    data_source: str
    data_revision: str | None
    encoder_revision: str | None


class Record(_Part):
    """One run, whole."""

    schema_version: Literal[1] = 1
    asked: Asked
    happened: Happened
    where: Where

    @property
    def is_done(self) -> bool:
        """Whether the run has a result; failed, killed and timed-out runs are tried again."""
        return self.happened.status in ("ok", "diverged")


def run_folder(study: str, role: str, name: str, seed: int, root: Path = Path("runs")) -> Path:
    """``runs/<study>/<method>/seed-<k>``; for grid configurations ``runs/<study>/grid/<configuration>/seed-<k>``."""
    return root / study / FOLDERS.get(role, "") / name / f"seed-{seed}"


def write_record(record: Record, folder: Path) -> None:
    """Write ``record.json`` into ``folder``, whole or not at all."""
    write_whole(folder / RECORD, record.model_dump_json(indent=1).encode() + b"\n")


def read_record(folder: Path) -> Record | None:
    """The record in ``folder``, or null where there is none. Raises ``DataError`` for one that is not a record."""
    try:
        return Record.model_validate_json((folder / RECORD).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise DataError(f"{folder / RECORD}: can't be read ({problem.strerror}); mend or remove it to run it again") from None
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{folder / RECORD}: not a record of this project ({where}: {first['msg']}); delete it to run it again") from None


def read_records(study: str, root: Path = Path("runs")) -> list[tuple[Path, Record]]:
    """Every record of ``study`` with its folder, in the order of their folders' names."""
    folders = sorted(file.parent for file in (root / study).rglob(RECORD))
    return [(folder, record) for folder in folders if (record := read_record(folder))]


def digest(content: Any) -> str:
    """sha256 of plain content, the same whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sizes(file: Path, content: bytes | Callable[[Path], None]) -> str:
    """What was to be written, where that is known, and the room there is, for a message."""
    there = next(folder for folder in file.absolute().parents if folder.exists())
    needed = "" if callable(content) else f"; it has {len(content):,} bytes"
    return f"{needed}; {shutil.disk_usage(there).free:,} bytes are free"


def write_whole(file: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write ``file`` so that a reader, or a crash at any moment, finds the old content or the new, never half.

    Args:
        content: the bytes, or a function that writes them to the path it is given.

    Raises:
        EnvironmentProblem: the disk is full, or the folder can't be written; the old file is as it was.
    """
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(handle)
        temporary = Path(name)
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(file)
    except (OSError, SafetensorError) as problem:  # the latter is what a full disk gives where safetensors writes
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else problem
        raise EnvironmentProblem(
            f"{file}: could not be written ({reason}{_sizes(file, content)}); free space or choose another folder, then run again"
        ) from problem
    finally:
        if temporary is not None:
            with suppress(FileNotFoundError):
                temporary.unlink()
