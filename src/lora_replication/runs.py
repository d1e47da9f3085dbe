"""Training runs, alone or in packs, from what is asked to their records on disk; a run that is already recorded is not run again."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np

from lora_replication import machine
from lora_replication.checkpoints import Checkpoint, Training
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
    Status,
    Where,
    digest,
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

    Attributes:
        attempt: noted in the records that are written from now on, see ``records.Happened``.
    """

    def __init__(self, study: Study, root: Path = Path(), runs: str = "runs") -> None:
        self.study = study
        self.data = root / "data" / study.study
        self.runs = root / runs
        self.state = root / "build" / "state" / study.study
        self.attempt = 1

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
    """Train, evaluate and record ``job``, or give the record that is there already; see ``perform_pack``."""
    return perform_pack(bench, [job], mirror)[0]


def perform_pack(bench: Bench, jobs: Sequence[Job], mirror: Callable[[Asked], AbstractContextManager[Mirror]]) -> list[Record]:
    """Train, evaluate and record ``jobs`` together, leaving out those that are recorded already.

    Args:
        jobs: one run, or LoRA configurations that have everything but the configuration in common.
        mirror: opens what is told of each run while it goes.

    Returns:
        The record of each job, in their order.

    Raises:
        EnvironmentProblem: another process is at one of these runs, the device is missing, the disk is full.
    """
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(only_writer(_place(bench, job).with_suffix(".lock")))
        records = [bench.recorded(job) for job in jobs]
        missing = [job for job, record in zip(jobs, records, strict=True) if record is None]
        if missing:
            lives = [stack.enter_context(mirror(bench.asked(job))) for job in missing]
            for job, record, live in zip(missing, _run(bench, missing, lives), lives, strict=True):
                records[jobs.index(job)] = record
                live.finish(bench.folder(job), record)
        return [record for record in records if record is not None]


def _place(bench: Bench, job: Job) -> Path:
    """Where the lock and the checkpoint of a run stand, without their suffix."""
    return run_folder("", job.role, job.name, job.seed, bench.state)


def _checkpoint(bench: Bench, jobs: Sequence[Job]) -> Checkpoint:
    keys = [bench.asked(job).key for job in jobs]
    place = _place(bench, jobs[0]) if len(jobs) == 1 else bench.state / "packs" / digest(keys)[:16]
    return Checkpoint(place.with_suffix(".safetensors"), keys)


def _run(bench: Bench, jobs: Sequence[Job], lives: Sequence[Mirror]) -> Iterator[Record]:
    """Train the pack; write each run's files and give its record."""
    started = machine.utc_now()
    encoder, tokens = bench.encoder, bench.tokens  # checked before anything large is loaded
    seed, device = jobs[0].seed, jobs[0].settings.device
    machine.reset_peak_memory(device)
    classifier = Classifier(encoder, jobs[0].settings, seed, [job.settings for job in jobs[1:]])
    checkpoint = _checkpoint(bench, jobs)
    label = jobs[0].label if len(jobs) == 1 else f"{jobs[0].name} and {len(jobs) - 1} more"
    trainings = train(classifier, seed, tokens["train"], tokens["val"], checkpoint, lambda place, epoch: lives[place].epoch(epoch), label)
    begun = time.monotonic()
    logits = _evaluate(classifier, trainings, tokens, ("train", "test") if jobs[0].settings.evaluate_train else ("test",))
    evaluated = time.monotonic() - begun
    where = _where(bench, started, device)
    peak = machine.peak_memory_bytes(device)
    for place, (job, training) in enumerate(zip(jobs, trainings, strict=True)):
        own, folder = logits[place], bench.folder(job)
        counts = {part: count(values, tokens[part].labels) for part, values in own.items()}
        trainable, total = classifier.parameter_counts(place)
        happened = Happened(
            status="ok" if counts else "diverged",
            attempt=bench.attempt,
            first_bad_step=training.first_bad_step,
            one_class=bool(counts) and counts["test"].one_class,
            epochs=training.epochs,
            best_epoch=training.best_epoch if counts else None,
            stopped_after=len(training.epochs) if training.gave_up else None,
            train=counts.get("train"),
            val=counts.get("val"),
            test=counts.get("test"),
            trainable_parameters=trainable,
            total_parameters=total,
            notes=classifier.notes[place],
            pack=len(jobs),
            training_seconds=training.seconds,
            evaluation_seconds=training.evaluation_seconds + evaluated / len(jobs),
            tokens_per_second=training.tokens / training.seconds,
            peak_memory_bytes=peak,
        )
        record = Record(asked=bench.asked(job), happened=happened, where=where)
        (folder / RECORD).unlink(missing_ok=True)  # a stale record must not stand beside new predictions
        write_whole(folder / PREDICTIONS, partial(write_predictions, logits=own, tokens=tokens))
        classifier.save_adapter(folder / ADAPTER, place)
        write_record(record, folder)
        yield record
    checkpoint.remove()


def _evaluate(
    classifier: Classifier, trainings: Sequence[Training], tokens: dict[str, Tokens], parts: Sequence[str]
) -> list[dict[str, np.ndarray]]:
    """For each run the logits of each part at its best epoch; none for a run that diverged."""
    kept = [place for place, training in enumerate(trainings) if training.best_epoch is not None and not training.diverged]
    logits: list[dict[str, np.ndarray]] = [{} for _ in trainings]
    for place in kept:
        if (validated := trainings[place].val_logits) is not None:
            logits[place]["val"] = validated
    if kept:
        classifier.activate(kept)
    for part in parts if kept else ():
        for place, own in zip(kept, predict_logits(classifier, tokens[part]), strict=True):
            logits[place][part] = own
    return logits


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


def _where(bench: Bench, started: str, device: str) -> Where:
    import torch

    commit, dirty = machine.git_state()
    return Where(
        git_commit=commit,
        git_dirty=dirty,
        versions=machine.versions(),
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        memory_bytes=machine.memory_bytes(),
        gpu=machine.gpu_name(device),
        threads=torch.get_num_threads(),
        platform=machine.platform_name(),
        started=started,
        finished=machine.utc_now(),
        data_source=bench.manifest.source,
        data_revision=bench.manifest.revision,
        encoder_revision=bench.manifest.encoder.revision,
    )


def record_failure(bench: Bench, job: Job, status: Status, error: str, peak_memory_bytes: int | None) -> Record:
    """Record that ``job`` came to nothing; it is tried again by the next start."""
    now = machine.utc_now()
    happened = Happened(status=status, attempt=bench.attempt, error=error, peak_memory_bytes=peak_memory_bytes)
    record = Record(asked=bench.asked(job), happened=happened, where=_where(bench, now, job.settings.device))
    write_record(record, bench.folder(job))
    return record
