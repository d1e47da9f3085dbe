"""Rebuilding the mirror from the records."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_replication.errors import EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.record import RECORD, Record, read_records
from lora_replication.study import TrackingParams
from lora_replication.tracking import content
from lora_replication.tracking.live import PATIENCE_SECONDS, Worker
from lora_replication.tracking.store import (
    RECORD_DIGEST,
    Store,
    failures,
    goes_on,
    is_whole,
    load_mlflow,
    store_at,
)

if TYPE_CHECKING:
    from mlflow.entities import Run


@dataclass(frozen=True)
class SyncResult:
    """What ``sync`` did.

    Attributes:
        created: records that had no run in MLflow.
        completed: records whose run lacked something.
        whole: records that were mirrored already.
        running: records that a living process is still logging; left to it.
        killed: runs without a living process that said RUNNING and now say KILLED.
    """

    created: int = 0
    completed: int = 0
    whole: int = 0
    running: int = 0
    killed: int = 0


def sync(root: Path, tracking: TrackingParams) -> SyncResult:
    """Bring MLflow to what the records say; a second call changes nothing.

    Args:
        root: the folder with one folder per study, usually ``runs``.
        tracking: where to; the variable MLFLOW_TRACKING_URI overrules its ``uri``.

    Raises:
        DataError: a file is not a record.
        EnvironmentProblem: MLflow is not there, or its address does not answer (told within 30
            seconds).
    """
    studies = (
        sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []
    )
    records = [found for study in studies for found in read_records(study, root)]
    store = store_at(tracking)
    try:
        load_mlflow()
        _connect(store)
        return _rebuild(store, records)
    except failures() as problem:
        remedy = "start the server, or correct tracking.uri or MLFLOW_TRACKING_URI, then sync again"
        raise EnvironmentProblem(f"{store.complaint(problem)}; {remedy}") from None


def _connect(store: Store) -> None:
    problems: list[Exception] = []
    worker = Worker(problems.append)
    worker.start()
    worker.put(store.experiment_ids)
    if not worker.finish(PATIENCE_SECONDS):
        raise TimeoutError(f"no answer within {PATIENCE_SECONDS:.0f} seconds")
    if problems:
        raise problems[0]


def _rebuild(store: Store, records: list[tuple[Path, Record]]) -> SyncResult:
    known: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    for experiment_id in store.experiment_ids():
        for run in store.runs(experiment_id, {}):
            tags = run.data.tags
            known[
                tuple(tags.get(name, "") for name in ("study", "role", "method", "record_key"))
            ].append(run)
    done = {"created": 0, "completed": 0, "whole": 0, "running": 0}
    for folder, record in records:
        asked = record.asked
        runs = known[(asked.study, *content.identity(asked).values())]
        done[_mirror(store, folder, record, runs)] += 1
    killed = sum(store.kill_stale(experiment_id, {}) for experiment_id in store.experiment_ids())
    return SyncResult(**done, killed=killed)


def _mirror(store: Store, folder: Path, record: Record, runs: "list[Run]") -> str:
    record_digest = file_digest(folder / RECORD)
    if any(is_whole(run, record, record_digest) for run in runs):
        return "whole"
    if any(goes_on(run) for run in runs):
        return "running"
    points = content.record_points(record, folder / RECORD)
    ended = content.utc_milliseconds(record.where.finished, folder / RECORD)
    # A run that mirrors another record of this key is an earlier attempt and stays; the newest of
    # the others is completed.
    partial = [
        run for run in runs if run.data.tags.get(RECORD_DIGEST, record_digest) == record_digest
    ]
    if not partial:
        began = content.utc_milliseconds(record.where.started, folder / RECORD)
        run_id = store.create_run(record.asked, record.where.git_commit, began)
    else:
        run_id = partial[-1].info.run_id
        points = _missing(store, run_id, points)
        store.adopt(run_id, record.asked)
    store.complete(run_id, folder, record, points, ended)
    return "completed" if partial else "created"


def _missing(store: Store, run_id: str, points: list[content.Point]) -> list[content.Point]:
    """Those of ``points`` that the run does not have yet, whatever the time at which it has
    them.
    """
    names = {point.name for point in points}
    logged = {
        (name, metric.step, metric.value)
        for name in names
        for metric in store.client().get_metric_history(run_id, name)
    }
    return [point for point in points if (point.name, point.step, point.value) not in logged]
