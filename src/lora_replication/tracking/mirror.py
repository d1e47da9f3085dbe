"""A run in MLflow while it goes on. MLflow never costs a run: what is missing, ``sync`` adds."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from lora_replication.data.manifest import Manifest
from lora_replication.errors import Stopped
from lora_replication.record import Epoch, Record, Run
from lora_replication.tracking import content
from lora_replication.tracking.store import Store, failures, resolved
from lora_replication.workspace import Workspace

_store = cache(Store)


class Mirror:
    """The MLflow run of one training run. Nothing here raises because of MLflow."""

    def __init__(self, store: Store, run: Run, manifest: Manifest) -> None:
        self._store = store
        self._run = run
        self._manifest = manifest
        self._run_id = ""
        self._epochs: set[int] = set()

    def open(self) -> None:
        """Make the MLflow run. Others RUNNING in this place, whose lock is ours, become KILLED."""

        def make() -> None:
            alike = f"tags.place = '{self._run.place}' AND attributes.status = 'RUNNING'"
            for dead in self._store.runs(self._store.experiment_id(self._run), alike):
                self._store.call("set_terminated", dead.info.run_id, "KILLED")
            self._run_id = self._store.create_run(self._run, self._manifest)

        self._try(make)

    def epoch(self, epoch: Epoch) -> None:
        """Log the learning curves at an epoch that has just ended."""
        points = content.epoch_points(epoch, time.time_ns() // 1_000_000)
        if self._run_id and self._try(lambda: self._store.log(self._run_id, points)):
            self._epochs.add(epoch.epoch)

    def finish(self, folder: Path, record: Record) -> None:
        """Log what ``record`` in ``folder`` has more, and the files, and end the MLflow run."""

        def complete() -> None:
            points = content.record_points(record)
            missed = [point for point in points if point.step not in self._epochs]
            self._store.complete(self._run_id, folder, record, missed)
            self._run_id = ""

        if self._run_id:
            self._try(complete)

    def end(self, status: str) -> None:
        """End the MLflow run as FINISHED, FAILED or KILLED, where ``finish`` has not ended it."""
        if status == "KILLED":  # the process is about to end, so no answer is waited for long
            os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "3"
            os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        if self._run_id:
            self._try(lambda: self._store.call("set_terminated", self._run_id, status))

    def _try(self, step: Callable[[], object]) -> bool:
        """Whether ``step`` was done. A failure is told once, then the address is left alone."""
        if self._store.is_quiet:
            return False
        try:
            step()
        except failures() as problem:
            from tqdm import tqdm

            advice = "Runs go on; 'lora-replication sync' adds them to MLflow afterwards."
            tqdm.write(f"warning: {self._store.give_up(problem)}. {advice}", file=sys.stderr)
            return False
        return True


@contextmanager
def open_mirror(workspace: Workspace, run: Run) -> Iterator[Mirror]:
    """The MLflow run of a training run that is about to start, whose lock the caller holds.

    The variable MLFLOW_TRACKING_URI overrules ``tracking.uri``. Left without ``finish``, the run
    ends as FINISHED, by ``Stopped`` or Ctrl-C as KILLED, by another exception as FAILED.
    """
    tracking = workspace.study.tracking
    store = _store(resolved(tracking.uri), tracking.experiment)
    mirror = Mirror(store, run, workspace.manifest)
    status = "FAILED"
    try:
        mirror.open()
        yield mirror
        status = "FINISHED"
    except (Stopped, KeyboardInterrupt):
        status = "KILLED"
        raise
    finally:
        mirror.end(status)
