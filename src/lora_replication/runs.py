"""One training run from what is asked to its record on disk; a run that is already recorded is not run again."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from lora_replication import machine
from lora_replication.checkpoints import Checkpoint
from lora_replication.classifier import Classifier
from lora_replication.data.manifest import Manifest, read_manifest, read_tokens
from lora_replication.data.reviews import PARTS
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError
from lora_replication.evaluation import count, predict_logits
from lora_replication.jobs import Job, asked_of
from lora_replication.params import Study
from lora_replication.processes import only_writer
from lora_replication.records import (
    ADAPTER,
    PREDICTIONS,
    RECORD,
    Asked,
    Epoch,
    Happened,
    Record,
    Where,
    read_record,
    run_folder,
    write_record,
    write_whole,
)
from lora_replication.training import train


class Mirror(Protocol):
    """Is told of a run as it goes; ``tracking.LiveRun`` is one."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""

    def finish(self, folder: Path, record: Record) -> None:
        """The run is on disk."""


class Bench:
    """What all runs of a study in this process share: its data, its encoder, its folders. Everything is read when first needed.

    Args:
        study: checked parameters.
        root: the folder with ``data/`` and ``runs/``; ``runs``: another name for the latter.
    """

    def __init__(self, study: Study, root: Path = Path(), runs: str = "runs") -> None:
        self.study = study
        self.data = root / "data" / study.study
        self.runs = root / runs
        self.state = root / "build" / "state" / study.study

    @cached_property
    def manifest(self) -> Manifest:
        """Of the prepared data. Raises ``DataError`` where it is missing."""
        return read_manifest(self.data)

    @cached_property
    def encoder(self) -> Encoder:
        """Found and checked. Raises ``DataError`` where its weights are not those that the data was prepared for."""
        encoder = locate_encoder(self.study.model)
        if encoder.weights_sha256 != self.manifest.encoder.weights_sha256:
            raise DataError(
                f"{encoder.weights} has sha256 {encoder.weights_sha256}; the data was prepared for weights with "
                f"{self.manifest.encoder.weights_sha256}; prepare again (dvc repro --force prepare) or restore the weights"
            )
        return encoder

    @cached_property
    def tokens(self) -> dict[str, Tokens]:
        """Of each part, checked against the manifest. Raises ``DataError``."""
        return {part: read_tokens(self.data, part, self.manifest) for part in PARTS}

    def asked(self, job: Job) -> Asked:
        """What ``job`` asks, with its key."""
        return asked_of(self.study, self.manifest, job)

    def folder(self, job: Job) -> Path:
        """Where the run is recorded."""
        return run_folder(self.study.study, job.role, job.name, job.seed, self.runs)

    def recorded(self, job: Job) -> Record | None:
        """The record of exactly this job, or null: records with another key are of other parameters, data, weights or code."""
        record = read_record(self.folder(job))
        return record if record and record.is_done and record.asked.key == self.asked(job).key else None


def perform(bench: Bench, job: Job, mirror: Callable[[Asked], AbstractContextManager[Mirror]]) -> Record:
    """Train, evaluate and record ``job``, or give the record that is there already.

    Args:
        mirror: opens what is told of the run while it goes.

    Raises:
        EnvironmentProblem: another process is at this run, the device is missing, the disk is full.
    """
    place = run_folder("", job.role, job.name, job.seed, bench.state)
    with only_writer(place.with_suffix(".lock")):
        if record := bench.recorded(job):
            return record
        asked, folder = bench.asked(job), bench.folder(job)
        with mirror(asked) as live:
            record = _run(bench, job, asked, folder, Checkpoint(place.with_suffix(".safetensors"), asked.key), live)
            live.finish(folder, record)
        return record


def _run(bench: Bench, job: Job, asked: Asked, folder: Path, checkpoint: Checkpoint, live: Mirror) -> Record:
    started = machine.utc_now()
    classifier = Classifier(bench.encoder, job.settings, job.seed)
    tokens = bench.tokens
    training = train(classifier, job.seed, tokens["train"], tokens["val"], checkpoint, live.epoch, job.label)
    begun = time.monotonic()
    logits: dict[str, np.ndarray] = {}
    if not training.diverged and training.val_logits is not None:
        logits["val"] = training.val_logits
        for part in ("train", "test") if job.settings.evaluate_train else ("test",):
            logits[part] = predict_logits(classifier, tokens[part])
    counts = {part: count(values, tokens[part].labels) for part, values in logits.items()}
    trainable, total = classifier.parameter_counts()
    happened = Happened(
        status="ok" if counts else "diverged",
        first_bad_step=training.first_bad_step,
        one_class=bool(counts) and counts["test"].ones in (0, counts["test"].reviews),
        epochs=training.epochs,
        best_epoch=training.best_epoch if counts else None,
        train=counts.get("train"),
        val=counts.get("val"),
        test=counts.get("test"),
        trainable_parameters=trainable,
        total_parameters=total,
        notes=classifier.notes,
        training_seconds=training.seconds,
        evaluation_seconds=training.evaluation_seconds + time.monotonic() - begun,
        tokens_per_second=training.tokens / training.seconds,
        peak_memory_bytes=machine.peak_memory_bytes(),
    )
    record = Record(asked=asked, happened=happened, where=_where(bench, started))
    (folder / RECORD).unlink(missing_ok=True)  # a stale record must not stand beside new predictions
    write_whole(folder / PREDICTIONS, lambda file: write_predictions(file, logits, tokens))
    classifier.save_adapter(folder / ADAPTER)
    write_record(record, folder)
    checkpoint.remove()
    return record


def write_predictions(file: Path, logits: dict[str, np.ndarray], tokens: dict[str, Tokens]) -> None:
    """Write logits as a table of split, row, label, logit_0, logit_1, in the order train, val, test."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    parts = [part for part in PARTS if part in logits]
    columns = {
        "split": pa.array([part for part in parts for _ in range(len(tokens[part]))], pa.string()).dictionary_encode(),
        "row": np.concatenate([np.arange(len(tokens[part]), dtype=np.int32) for part in parts] or [np.empty(0, np.int32)]),
        "label": np.concatenate([tokens[part].labels.astype(np.int8) for part in parts] or [np.empty(0, np.int8)]),
    }
    both = np.concatenate([logits[part] for part in parts] or [np.empty((0, 2), np.float32)])
    pq.write_table(pa.table(columns | {"logit_0": both[:, 0], "logit_1": both[:, 1]}), file, compression="zstd")


def _where(bench: Bench, started: str) -> Where:
    import torch

    commit, dirty = machine.git_state()
    return Where(
        git_commit=commit,
        git_dirty=dirty,
        versions=machine.versions(),
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        memory_bytes=machine.memory_bytes(),
        gpu=machine.gpu_name(),
        threads=torch.get_num_threads(),
        platform=machine.platform_name(),
        started=started,
        finished=machine.utc_now(),
        data_source=bench.manifest.source,
        data_revision=bench.manifest.revision,
        encoder_revision=bench.manifest.encoder.revision,
    )


def record_failure(bench: Bench, job: Job, error: str) -> Record:
    """Record that ``job`` came to nothing; it is tried again by the next start."""
    now = machine.utc_now()
    happened = Happened(status="failed", error=error, peak_memory_bytes=machine.peak_memory_bytes())
    record = Record(asked=bench.asked(job), happened=happened, where=_where(bench, now))
    write_record(record, bench.folder(job))
    return record
