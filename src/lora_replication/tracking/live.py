"""Logging a run while it goes on, in the background: training never waits for MLflow, and its end
waits only so long.
"""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from lora_replication.errors import Stopped
from lora_replication.machine import git_state
from lora_replication.record import Epoch, Record, Run
from lora_replication.study import TrackingParams
from lora_replication.tracking import content
from lora_replication.tracking.store import Store, failures, load_mlflow, store_at
from lora_replication.tracking.system import SystemSampler

PATIENCE_SECONDS = 25.0
"""The end of a run waits so long for MLflow, ..."""

SLOWEST_UPLOAD = 1e6
"""... plus the time for its files at so many bytes per second, ..."""

STOP_PATIENCE_SECONDS = 5.0
"""... but only so long when a signal asked to stop."""


class Worker(threading.Thread):
    """Makes calls one after another on a thread of its own, up to the first that fails, which
    ``give_up`` is told.

    It is a daemon: what hangs in it does not hold up the end of the process.
    """

    def __init__(self, give_up: Callable[[Exception], None]) -> None:
        super().__init__(name="mlflow", daemon=True)
        self._give_up = give_up
        self._calls: SimpleQueue[Callable[[], object] | None] = SimpleQueue()

    def put(self, call: Callable[[], object]) -> None:
        """Have ``call`` made when those before it are done."""
        self._calls.put(call)

    def finish(self, seconds: float) -> bool:
        """Wait at most so long for the calls; gives whether the thread came to its end."""
        self._calls.put(None)
        self.join(seconds)
        return not self.is_alive()

    def run(self) -> None:
        """Make the calls."""
        while (call := self._calls.get()) is not None:
            try:
                call()
            except failures() as problem:
                self._give_up(problem)
                return


class LiveRun:
    """The MLflow run of one training run. A context: leaving it ends the MLflow run.

    Left normally, it ends as FINISHED, or as the record given to ``finish`` says; by ``Stopped`` or
    Ctrl-C as KILLED; by any other exception as FAILED. Nothing here raises because of MLflow.
    """

    def __init__(self, store: Store, asked: Run) -> None:
        self._store = store
        self._asked = asked
        self._worker: Worker | None = None
        self._ended = threading.Event()
        self._sampler: SystemSampler | None = None
        self._run_id = ""
        self._epochs: set[int] = set()
        self._finished = False
        self._patience = PATIENCE_SECONDS

    def __enter__(self) -> Self:
        if not self._store.is_quiet:
            try:
                load_mlflow()
            except ImportError as problem:
                self._store.give_up(problem)
            else:
                self._worker = Worker(self._store.give_up)
                self._worker.start()
                self._put(partial(self._open, _now()))
        return self

    def epoch(self, epoch: Epoch) -> None:
        """Log the learning curves at an epoch that has just ended."""
        self._put(partial(self._log_epoch, epoch, _now()))

    def finish(self, folder: Path, record: Record) -> None:
        """Log the end of the run: what it has once, epochs not yet logged, and the files.

        Args:
            folder: the run's folder, with ``record`` written in it.
            record: the record, whole.
        """
        self._finished = True
        sizes = [
            (folder / name).stat().st_size
            for name in content.ARTIFACTS
            if (folder / name).is_file()
        ]
        self._patience += sum(sizes) / SLOWEST_UPLOAD
        self._put(partial(self._complete, folder, record, _now()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        stopped = kind is not None and issubclass(kind, Stopped | KeyboardInterrupt)
        if not self._finished:
            status = "KILLED" if stopped else "FAILED" if kind else "FINISHED"
            self._put(partial(self._end, status, _now()))
        if self._worker:
            seconds = (
                0.0
                if self._store.is_quiet
                else STOP_PATIENCE_SECONDS
                if stopped
                else self._patience
            )
            if not self._worker.finish(seconds):
                self._store.give_up(TimeoutError(f"no answer within {seconds:.0f} seconds"))
        self._ended.set()

    def _put(self, call: Callable[[], None]) -> None:
        if self._worker:
            self._worker.put(call)

    def _open(self, now: int) -> None:
        self._store.kill_stale(
            self._store.experiment_id(self._asked), content.identity(self._asked)
        )
        self._run_id = self._store.create_run(self._asked, git_state()[0], now)
        self._sampler = SystemSampler(self._ended)
        self._sampler.start()

    def _log_epoch(self, epoch: Epoch, now: int) -> None:
        self._store.log(self._run_id, content.epoch_points(epoch, now) + self._sampled())
        self._epochs.add(epoch.epoch)

    def _complete(self, folder: Path, record: Record, now: int) -> None:
        missed = [
            point
            for point in content.record_points(record, folder)
            if point.step and point.step not in self._epochs
        ]
        points = missed + content.final_points(record.happened, now) + self._sampled(last=True)
        self._store.complete(self._run_id, folder, record, points, now)

    def _end(self, status: str, now: int) -> None:
        self._store.log(self._run_id, self._sampled(last=True))
        self._store.end(self._run_id, status, now)

    def _sampled(self, last: bool = False) -> list[content.Point]:
        if self._sampler is None:
            return []
        if last:
            self._ended.set()
            self._sampler.sample()
        return self._sampler.taken()


def live_run(tracking: TrackingParams, asked: Run) -> LiveRun:
    """The MLflow run for a training run that is about to start, to be used in a ``with``.

    A RUNNING run of the same record whose process is gone is set to KILLED. A grid's cell is nested
    under the run of its sweep. An address that can't be used costs one warning on stderr.

    Args:
        tracking: where to; the variable MLFLOW_TRACKING_URI overrules its ``uri``.
        asked: what the run is.
    """
    return LiveRun(store_at(tracking), asked)


def _now() -> int:
    return time.time_ns() // 1_000_000
