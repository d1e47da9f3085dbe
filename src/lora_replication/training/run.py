"""Runs, alone or in packs, from what is asked to their records; recorded runs are skipped."""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from lora_replication import machine
from lora_replication.adapter import Description
from lora_replication.data.reviews import PARTS
from lora_replication.data.tokens import Tokens
from lora_replication.errors import IncompleteError
from lora_replication.files import digest, file_digest, only_writer, write_whole
from lora_replication.record import (
    ADAPTER,
    PREDICTIONS,
    RECORD,
    Count,
    Epoch,
    Happened,
    Record,
    Run,
    Status,
    Where,
    write_record,
)
from lora_replication.training.checkpoints import Checkpoint, Training
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, predict_logits
from lora_replication.training.loop import train
from lora_replication.training.randomness import nudge
from lora_replication.workspace import Workspace

OUT_OF_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED")
"""Parts of the message of the plain ``RuntimeError`` that torch raises for it on some devices."""

Logits = Mapping[str, np.ndarray]
"""(reviews, classes) by part of the split; nothing for a run that diverged."""


class Mirror(Protocol):
    """Follows a run as it goes; ``tracking`` has one."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch ended."""

    def finish(self, folder: Path, record: Record) -> None:
        """The run is on disk."""


OpenMirror = Callable[[Run], AbstractContextManager[Mirror]]


def perform_one(workspace: Workspace, run: Run, mirror: OpenMirror) -> Record:
    """``perform`` one run. Raises ``IncompleteError`` where memory ran out, and records that."""
    try:
        return perform(workspace, [run], mirror)[0]
    except (RuntimeError, MemoryError) as problem:
        known = isinstance(problem, MemoryError)
        if not known and not any(words in str(problem) for words in OUT_OF_MEMORY):
            raise  # a bug to be seen
        error = f"{type(problem).__name__} at batch_size {run.settings.batch_size}: {problem}"
        peak = machine.peak_memory_bytes(run.settings.device)
        record_failure(workspace, run, "failed", error, peak)
        raise IncompleteError(
            f"{run.label}: failed, recorded in {workspace.folder(run)}: {error}; "
            "set a smaller train.batch_size, then run again"
        ) from None


def perform(
    workspace: Workspace, runs: Sequence[Run], mirror: OpenMirror, attempt: int = 1
) -> list[Record]:
    """Train, evaluate and record ``runs`` together, leaving out those that are recorded already.

    Args:
        runs: one run, or several of one seed that may be in a pack, see ``shared_in_pack``.
        mirror: opens what follows each run while it goes.
        attempt: see ``record.Happened``.

    Returns:
        The record of each run, in their order.

    Raises:
        EnvironmentProblem: another process has one of these runs, the device is missing, or the
            disk is full.
    """
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(only_writer(workspace.lock(run.place)))
        records = {run.place: workspace.done(run) for run in runs}
        missing = [run for run in runs if records[run.place] is None]
        if missing:
            mirrors = [stack.enter_context(mirror(run)) for run in missing]
            made = _train(workspace, missing, mirrors, attempt)
            for run, record, live in zip(missing, made, mirrors, strict=True):
                records[run.place] = record
                live.finish(workspace.folder(run), record)
        return [record for record in records.values() if record is not None]


def _checkpoint(workspace: Workspace, runs: Sequence[Run]) -> Checkpoint:
    keys = [run.key for run in runs]
    name = runs[0].place if len(runs) == 1 else f"packs/{digest(keys)[:16]}"
    return Checkpoint(workspace.state / f"{name}.safetensors", keys)


def _train(
    workspace: Workspace, runs: Sequence[Run], mirrors: Sequence[Mirror], attempt: int
) -> Iterator[Record]:
    """Train the pack; write each run's files and yield its record."""
    started = machine.utc_now()
    encoder, tokens = workspace.encoder, workspace.tokens  # checked before anything large is loaded
    seed, settings = runs[0].seed, runs[0].settings
    machine.reset_peak_memory(settings.device)
    others, cuda = [run.settings for run in runs[1:]], workspace.study.execution.cuda
    classifier = Classifier(encoder, settings, seed, others, cuda=cuda)
    for index, run in enumerate(runs):
        if run.nudge:
            nudge(classifier.trainable(index), seed, run.nudge)
    checkpoint = _checkpoint(workspace, runs)
    trainings = train(
        classifier,
        seed,
        tokens["train"],
        tokens["val"],
        checkpoint,
        lambda index, epoch: mirrors[index].epoch(epoch),
        f"{runs[0].name} and {len(runs) - 1} more" if len(runs) > 1 else runs[0].label,
    )
    begun = time.monotonic()
    wanted = {"train": settings.evaluate_train, "test": settings.evaluate_test}
    parts = [part for part, is_wanted in wanted.items() if is_wanted]
    logits = _evaluate(classifier, trainings, tokens, parts)
    evaluated = (time.monotonic() - begun) / len(runs)
    where = _where(workspace, started, settings.device)
    peak = machine.peak_memory_bytes(settings.device)
    for index, (run, training, own) in enumerate(zip(runs, trainings, logits, strict=True)):
        training.evaluation_seconds += evaluated
        folder = workspace.folder(run)
        (folder / RECORD).unlink(missing_ok=True)  # it must not be next to the files of another run
        write_whole(folder / PREDICTIONS, partial(write_predictions, logits=own, tokens=tokens))
        if settings.evaluate_test:  # what a sweep tries is not kept
            described = Description.of(run, encoder.revision, encoder.layout.head)
            classifier.save_adapter(folder / ADAPTER, index, described.metadata())
        trainable, total = classifier.parameter_counts(index)
        happened = _happened(
            training,
            {part: count(values, tokens[part].labels) for part, values in own.items()},
            attempt=attempt,
            trainable_parameters=trainable,
            total_parameters=total,
            notes=classifier.notes[index],
            pack=len(runs),
            peak_memory_bytes=peak,
            predictions_sha256=file_digest(folder / PREDICTIONS),
            adapter_sha256=file_digest(folder / ADAPTER) if settings.evaluate_test else None,
        )
        record = Record(asked=run, happened=happened, where=where)
        write_record(record, folder)
        yield record
    checkpoint.remove()


def _happened(training: Training, counts: Mapping[str, Count], **others: Any) -> Happened:
    own = {
        "status": "ok" if counts else "diverged",
        "first_bad_step": training.first_bad_step,
        "one_class": bool(counts) and (counts.get("test") or counts["val"]).one_class,
        "epochs": training.epochs,
        "best_epoch": training.best_epoch if counts else None,
        "stopped_after": len(training.epochs) if training.stopped_early else None,
        "training_seconds": training.seconds,
        "evaluation_seconds": training.evaluation_seconds,
        "tokens_per_second": training.tokens / training.seconds,
    }
    return Happened.model_validate({**counts, **others, **own})


def _evaluate(
    classifier: Classifier,
    trainings: Sequence[Training],
    tokens: Mapping[str, Tokens],
    parts: Sequence[str],
) -> list[dict[str, np.ndarray]]:
    """For each run the logits of each part at its best epoch."""
    logits = [
        {} if training.diverged or training.val_logits is None else {"val": training.val_logits}
        for training in trainings
    ]
    if kept := [index for index, own in enumerate(logits) if own]:
        classifier.activate(kept)
        for part in parts:
            for index, own in zip(kept, predict_logits(classifier, tokens[part]), strict=True):
                logits[index][part] = own
    return logits


def write_predictions(file: Path, logits: Logits, tokens: Mapping[str, Tokens]) -> None:
    """Write a table of split, row, label, logit_0, logit_1 ..., in the order train, val, test."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = max((own.shape[1] for own in logits.values()), default=2)
    parts = [logits.get(part, np.empty((0, classes), np.float32)) for part in PARTS]
    sizes, every = [len(part) for part in parts], np.concatenate(parts)
    labels = [tokens[part].labels for part in PARTS if part in logits]
    kind = np.int8 if classes <= 127 else np.int16
    columns = {
        "split": pa.array(np.repeat(PARTS, sizes), pa.string()).dictionary_encode(),
        "row": np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        "label": np.concatenate([np.empty(0, np.int8), *labels]).astype(kind),
        **{f"logit_{label}": every[:, label] for label in range(classes)},
    }
    pq.write_table(pa.table(columns), file, compression="zstd")


def _where(workspace: Workspace, started: str, device: str) -> Where:
    commit, dirty = machine.git_state()
    manifest = workspace.manifest
    return Where(
        git_commit=commit,
        git_dirty=dirty,
        versions=machine.versions(),
        cpu=machine.cpu_name(),
        cpu_features=machine.cpu_features(),
        cores=machine.cores(),
        load=round(os.getloadavg()[2], 1),
        memory_bytes=machine.memory_bytes(),
        gpu=machine.gpu_name(device),
        cuda_paths=workspace.study.execution.cuda.on,
        threads=torch.get_num_threads(),
        platform=machine.platform_name(),
        started=started,
        finished=machine.utc_now(),
        data_source=manifest.source,
        data_revision=manifest.revision,
        encoder_revision=manifest.encoder.revision,
    )


def record_failure(
    workspace: Workspace, run: Run, status: Status, error: str, peak: int | None, attempt: int = 1
) -> Record:
    """Record that ``run`` failed; it is tried again by the next start. ``peak``: bytes."""
    happened = Happened(status=status, attempt=attempt, error=error, peak_memory_bytes=peak)
    where = _where(workspace, machine.utc_now(), run.settings.device)
    record = Record(asked=run, happened=happened, where=where)
    write_record(record, workspace.folder(run))
    return record
