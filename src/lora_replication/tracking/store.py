"""Where the mirror lives: an MLflow store, its experiments and runs. Every function here may raise
one of ``failures()``.
"""

import logging
import os
import sqlite3
import sys
import textwrap
import threading
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lora_replication.files import file_digest
from lora_replication.record import RECORD, Record, Run
from lora_replication.tracking import content
from lora_replication.tracking.address import artifact_folder, prepare_database, resolved, shown
from lora_replication.tracking.liveness import is_alive, this_process

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.tracking import MlflowClient

    from lora_replication.study import TrackingParams

QUIET_SECONDS = 300.0
"""After a failure the address is left alone for so long: in a grid of hundreds of short runs one
warning does for many.
"""

PROCESS = "process"
"""Tag of the process that logs a run; taken off when the run ends, so that an ended run says
nothing of a machine.
"""

RECORD_DIGEST = "record_sha256"
"""Tag of the record that a run mirrors whole; set after everything else."""

_HTTP_DEFAULTS = {
    # With MLflow's own values a dead server costs about 244 seconds a call; with these one that
    # refuses costs one, one that is silent 21.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
}
_QUIET_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def load_mlflow() -> None:
    """Import MLflow with telemetry and chatter off and short time-outs, unless the environment says
    otherwise. Raises ``ImportError``.

    To be called on the main thread: a module that two threads import at once can fail to load for
    either.
    """
    for name, value in (_HTTP_DEFAULTS | _QUIET_DEFAULTS).items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(
        logging.ERROR
    )  # it would tell of each retry
    import mlflow.store.tracking.sqlalchemy_store
    import mlflow.tracking  # noqa: F401


class Store:
    """An MLflow address. Connects when first needed; safe to use from several threads.

    Args:
        uri: as ``address.resolved`` gives it.
        experiment: what the experiments' names begin with; each study has one,
            ``<experiment>/<study>``.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        self.experiment = experiment
        self._lock = threading.RLock()
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._sweeps: dict[tuple[str, str], str] = {}
        self._quiet_until = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether the address failed a short while ago and is left alone."""
        return time.monotonic() < self._quiet_until

    def give_up(self, problem: Exception) -> None:
        """Leave the address alone for ``QUIET_SECONDS`` and say so once on stderr."""
        from tqdm import tqdm

        if not self.is_quiet:
            self._quiet_until = time.monotonic() + QUIET_SECONDS
            advice = "Runs go on and their records are complete; MLflow misses them until 'lora-replication sync'."
            tqdm.write(f"warning: {self.complaint(problem)}. {advice}", file=sys.stderr)

    def complaint(self, problem: Exception) -> str:
        """What went wrong, in one line without user name or password."""
        lines = f"{type(problem).__name__}: {problem}".splitlines()
        return f"MLflow at {shown(self.uri, self.uri)} failed ({textwrap.shorten(shown(lines[0], self.uri), 200)})"

    def client(self) -> "MlflowClient":
        """The connection; a SQLite database is made where there is none."""
        with self._lock:
            if self._client is None:
                load_mlflow()
                from mlflow.tracking import MlflowClient

                prepare_database(self.uri)
                self._client = MlflowClient(self.uri)
            return self._client

    def experiment_id(self, asked: Run) -> str:
        """The experiment of the run's study, made where there is none."""
        from mlflow.exceptions import MlflowException

        name = f"{self.experiment}/{asked.study}"
        with self._lock:
            if name not in self._experiments and (
                found := self.client().get_experiment_by_name(name)
            ):
                self._experiments[name] = found.experiment_id
            if name not in self._experiments:
                try:
                    folder = artifact_folder(self.uri, asked.study)
                    self._experiments[name] = self.client().create_experiment(
                        name, folder, {"mlflow.note.content": asked.title}
                    )
                except MlflowException as problem:
                    if problem.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    return self.experiment_id(asked)  # another process was faster
            return self._experiments[name]

    def experiment_ids(self) -> list[str]:
        """The experiments of all studies."""
        experiments = self.client().search_experiments(
            filter_string=f"name LIKE '{self.experiment}/%'"
        )
        return [experiment.experiment_id for experiment in experiments]

    def runs(
        self, experiment_id: str, tags: dict[str, str], status: str | None = None
    ) -> "Iterator[Run]":
        """The runs of an experiment with these tags and status, the oldest first."""
        terms = [f"tags.{name} = '{value}'" for name, value in tags.items()] + (
            [f"attributes.status = '{status}'"] if status else []
        )
        token: str | None = None
        while True:
            page = self.client().search_runs(
                [experiment_id],
                " AND ".join(terms),
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def create_run(self, asked: Run, git_commit: str | None, began_milliseconds: int) -> str:
        """A new RUNNING run with its parameters and tags, nested under its sweep if it is a grid's
        cell. Gives its id.
        """
        experiment_id = self.experiment_id(asked)
        tags = content.run_tags(asked, git_commit) | {PROCESS: this_process()}
        if asked.role == "cell":
            tags["mlflow.parentRunId"] = self._sweep_id(experiment_id, asked)
        run_id = (
            self.client()
            .create_run(experiment_id, began_milliseconds, tags, content.run_name(asked))
            .info.run_id
        )
        self.log(run_id, parameters=content.parameters(asked))
        return str(run_id)

    def adopt(self, run_id: str, asked: Run) -> None:
        """Make a run that another process left this process's, with all its parameters."""
        self.log(run_id, parameters=content.parameters(asked), tags={PROCESS: this_process()})

    def _sweep_id(self, experiment_id: str, asked: Run) -> str:
        tags = content.sweep_tags(asked)
        sought = {name: tags[name] for name in ("role", "sweep")}
        sweep = (experiment_id, tags["sweep"])
        with self._lock:
            if sweep not in self._sweeps:
                made = None
                if not any(self.runs(experiment_id, sought)):
                    made = (
                        self.client()
                        .create_run(experiment_id, tags=tags, run_name=content.sweep_name(asked))
                        .info.run_id
                    )
                    self.client().set_terminated(
                        made, "FINISHED"
                    )  # it groups; its cells tell how they ended
                # Two processes may each have made one: both take the oldest, and who made another
                # withdraws it.
                self._sweeps[sweep] = next(self.runs(experiment_id, sought)).info.run_id
                if made and made != self._sweeps[sweep]:
                    self.client().delete_run(made)
            return self._sweeps[sweep]

    def log(
        self,
        run_id: str,
        points: Iterable[content.Point] = (),
        parameters: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Log values, parameters and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [
            Metric(point.name, point.value, point.milliseconds, point.step) for point in points
        ]
        params = [Param(name, value) for name, value in (parameters or {}).items()]
        run_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        size = (
            800  # MLflow takes 1000 entries in a call, at most 100 of them parameters and 100 tags
        )
        for start in range(0, max(len(metrics), 1), size):
            self.client().log_batch(
                run_id,
                metrics[start : start + size],
                params if start == 0 else [],
                run_tags if start == 0 else [],
            )

    def complete(
        self,
        run_id: str,
        folder: Path,
        record: Record,
        points: Iterable[content.Point],
        ended_milliseconds: int,
    ) -> None:
        """Log the last ``points`` and the files of ``folder``, and end the run; from then on it is
        whole.
        """
        self.log(run_id, points, tags=content.outcome_tags(record.happened))
        for name in content.ARTIFACTS:
            if (folder / name).is_file():
                self.client().log_artifact(run_id, str(folder / name))
        self.log(run_id, tags={RECORD_DIGEST: file_digest(folder / RECORD)})
        self.end(run_id, content.RUN_STATUS[record.happened.status], ended_milliseconds)

    def end(self, run_id: str, status: str, ended_milliseconds: int | None = None) -> None:
        """End a run: FINISHED, FAILED or KILLED."""
        self.client().delete_tag(run_id, PROCESS)
        self.client().set_terminated(run_id, status, ended_milliseconds)

    def kill_stale(self, experiment_id: str, tags: dict[str, str]) -> int:
        """Set to KILLED what is RUNNING with these tags though its process is gone. Gives how
        many.
        """
        stale = [run for run in self.runs(experiment_id, tags, "RUNNING") if not goes_on(run)]
        for run in stale:
            self.client().set_terminated(run.info.run_id, "KILLED")
            if PROCESS in run.data.tags:
                self.client().delete_tag(run.info.run_id, PROCESS)
        return len(stale)


def goes_on(run: "Run") -> bool:
    """Whether a living process is logging the run."""
    return run.info.status == "RUNNING" and is_alive(
        run.data.tags.get(PROCESS, ""), run.info.start_time
    )


def is_whole(run: "Run", record: Record, record_digest: str) -> bool:
    """Whether the run mirrors this very record completely."""
    return (
        run.data.tags.get(RECORD_DIGEST) == record_digest
        and run.info.status == content.RUN_STATUS[record.happened.status]
    )


def store_at(tracking: "TrackingParams") -> Store:
    """The store that the study, or the variable MLFLOW_TRACKING_URI, names; one per address and
    process.
    """
    return _store(resolved(tracking.uri), tracking.experiment, os.getpid())


@cache
def _store(uri: str, experiment: str, _process: int) -> Store:
    return Store(uri, experiment)


def failures() -> tuple[type[Exception], ...]:
    """What a store may raise: MLflow's own errors, those of the libraries that it lets through, and
    what a wrong address provokes.
    """
    known: list[type[Exception]] = [OSError, ImportError, ValueError, sqlite3.Error]
    for module, name in (
        ("mlflow.exceptions", "MlflowException"),
        ("sqlalchemy.exc", "SQLAlchemyError"),
        ("alembic.util", "CommandError"),
    ):
        loaded: Any = sys.modules.get(module)  # what is not loaded can't have raised
        if loaded is not None:
            known.append(getattr(loaded, name))
    return tuple(known)
