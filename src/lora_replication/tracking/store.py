"""MLflow itself: its import, what it may raise, and one address with its experiments and runs."""

import logging
import math
import os
import sqlite3
import sys
import textwrap
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lora_replication.errors import EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.record import RECORD, Record, Run
from lora_replication.tracking import address, content

QUIET_SECONDS = 300.0
"""An address that failed is left alone for so long, so that one warning does for many runs."""

LONGEST_CALL_SECONDS = 21.0
"""Of a silent server, with the time-outs below: two tries of 10 seconds, one second between."""

RECORD_DIGEST = "record_sha256"
"""Tag of the record that a run mirrors whole; set after everything else."""

_DEFAULTS = {
    # With MLflow's own values a dead server costs about 244 seconds a call.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def load_mlflow() -> None:
    """Import MLflow with telemetry and chatter off and short time-outs, unless the environment says
    otherwise. Raises ``ImportError``.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else it tells each retry
    try:
        import mlflow.store.tracking.sqlalchemy_store
        import mlflow.tracking  # noqa: F401
    # Whatever a library of another version raises as it is loaded, such as protobuf's TypeError.
    except Exception as problem:
        raise ImportError(f"could not be imported: {type(problem).__name__}: {problem}") from None


def failures() -> tuple[type[Exception], ...]:
    """What a store may raise: MLflow's own errors, those of the libraries that it lets through, and
    what a wrong address provokes.
    """
    known: list[type[Exception]] = [
        EnvironmentProblem, OSError, ImportError, ValueError, sqlite3.Error
    ]  # fmt: skip
    for module, name in (
        ("mlflow.exceptions", "MlflowException"),
        ("sqlalchemy.exc", "SQLAlchemyError"),
        ("alembic.util", "CommandError"),
    ):
        loaded: Any = sys.modules.get(module)  # what is not loaded can't have raised
        if loaded is not None:
            known.append(getattr(loaded, name))
    return tuple(known)


class Store:
    """An MLflow address, connected to when first needed. Methods may raise any of ``failures()``.

    Args:
        uri: as ``address.resolved`` returns it.
        experiment: what the experiments' names begin with: each study has ``<experiment>/<study>``.
        patience: seconds that the calls of any ``QUIET_SECONDS`` may take together.
    """

    def __init__(self, uri: str, experiment: str, patience: float = math.inf) -> None:
        self.uri = uri
        self.experiment = experiment
        self._patience = patience
        self._client: Any = None
        self._calls: deque[tuple[float, float]] = deque()
        self._experiments: dict[str, Any] = {}
        self._sweeps: dict[tuple[str, str], str] = {}
        self._quiet_until = 0.0
        self.trouble = ""

    @property
    def is_quiet(self) -> bool:
        """Whether the address failed a short while ago, by ``trouble``, and is left alone."""
        return time.monotonic() < self._quiet_until

    def give_up(self, problem: Exception) -> str:
        """Leave the address alone for ``QUIET_SECONDS``. Returns what went wrong and what to do, in
        one line without user name or password.
        """
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        text = f"{type(problem).__name__}: {problem}"
        short = textwrap.shorten(address.shown(text.splitlines()[0], self.uri), 200)
        where = address.shown(self.uri, self.uri)
        told = f"MLflow at {where} failed ({short}); {address.remedy(text, self.uri)}"
        self.trouble = str(problem) if isinstance(problem, EnvironmentProblem) else told
        return self.trouble

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """The result of a method of MLflow's client. Raises ``TimeoutError`` out of patience."""
        with warnings.catch_warnings(action="ignore"):
            if self._client is None:
                load_mlflow()
                from mlflow.tracking import MlflowClient

                address.prepare_database(self.uri)
                self._client = MlflowClient(address.for_mlflow(self.uri))
            begun = time.monotonic()
            while self._calls and self._calls[0][0] < begun - QUIET_SECONDS:
                self._calls.popleft()
            spent = sum(seconds for _, seconds in self._calls)
            if spent + LONGEST_CALL_SECONDS > self._patience:
                raise TimeoutError(f"its last {len(self._calls)} calls took {spent:.0f} seconds")
            try:
                return getattr(self._client, method)(*arguments, **named)
            finally:
                self._calls.append((begun, time.monotonic() - begun))

    def find_experiment(self, study: str) -> Any:
        """The experiment of a study, None where there is none yet."""
        name = f"{self.experiment}/{study}"
        if not self._experiments.get(name):
            self._experiments[name] = found = self.call("get_experiment_by_name", name)
            if found and found.lifecycle_stage == "deleted":
                del self._experiments[name]
                where = f"experiment {name!r} of MLflow at {address.shown(self.uri, self.uri)}"
                raise EnvironmentProblem(
                    f"{where} was deleted, but its name stays taken; "
                    f"restore it (mlflow experiments restore -x {found.experiment_id}), or delete "
                    f"it permanently (mlflow gc --experiment-ids {found.experiment_id}), both with "
                    f"{address.VARIABLE} set to that address, then run: lora-replication sync"
                )
        return self._experiments[name]

    def experiment_id(self, run: Run) -> str:
        """The experiment of the run's study, made where there is none."""
        if self.find_experiment(run.study) is None:
            name, folder = (
                f"{self.experiment}/{run.study}",
                address.artifact_folder(self.uri, run.study),
            )
            try:
                self.call("create_experiment", name, folder, {"mlflow.note.content": run.title})
            except failures() as problem:
                # Another process may have been faster.
                if getattr(problem, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
                    raise
        return str(self.find_experiment(run.study).experiment_id)

    def runs(
        self, experiment_id: str, tags: dict[str, str], status: str | None = None
    ) -> Iterator[Any]:
        """The runs of an experiment with these tags and status, the oldest first."""
        terms = [f"tags.{name} = '{value}'" for name, value in tags.items()]
        if status:
            terms.append(f"attributes.status = '{status}'")
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        find = partial(
            self.call, "search_runs", [experiment_id], " AND ".join(terms), order_by=order
        )
        page = find()
        yield from page
        while page.token:
            page = find(page_token=page.token)
            yield from page

    def create_run(self, run: Run, began: int | None = None) -> str:
        """A new RUNNING run, nested under its sweep if it is a grid's configuration. Returns its id.

        ``began``: milliseconds since 1970, by default now.
        """
        experiment_id = self.experiment_id(run)
        tags = content.run_tags(run)
        if run.role == "cell":
            tags["mlflow.parentRunId"] = self._sweep_id(experiment_id, run)
        made = self.call("create_run", experiment_id, began, tags, content.run_name(run))
        self.log(made.info.run_id, parameters=content.parameters(run))
        return str(made.info.run_id)

    def _sweep_id(self, experiment_id: str, run: Run) -> str:
        tags = content.sweep_tags(run)
        sought = {name: tags[name] for name in ("role", "sweep")}
        sweep = (experiment_id, tags["sweep"])
        if sweep not in self._sweeps:
            made = None
            if not any(self.runs(experiment_id, sought)):
                name = content.sweep_name(run)
                made = self.call("create_run", experiment_id, tags=tags, run_name=name).info.run_id
                self.call(
                    "set_terminated", made, "FINISHED"
                )  # its configurations tell how they end
            # Two processes may each have made one: both take the oldest, and the other goes.
            self._sweeps[sweep] = next(self.runs(experiment_id, sought)).info.run_id
            if made and made != self._sweeps[sweep]:
                self.call("delete_run", made)
        return self._sweeps[sweep]

    def log(
        self,
        run_id: str,
        points: Iterable[content.Point] = (),
        parameters: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(one.name, one.value, one.milliseconds, one.step) for one in points]
        params = [Param(name, value) for name, value in (parameters or {}).items()]
        run_tags = [RunTag(name, value) for name, value in (tags or {}).items()]
        for start in range(0, max(len(metrics), 1), 800):  # MLflow takes 1000 entries in a call
            self.call("log_batch", run_id, metrics[start : start + 800], params, run_tags)
            params, run_tags = [], []

    def complete(
        self, run_id: str, folder: Path, record: Record, points: list[content.Point]
    ) -> None:
        """Log ``points`` and the files of ``folder``, and end the run; then it is whole."""
        self.log(run_id, points, tags=content.outcome_tags(record))
        for name in content.ARTIFACTS:
            if (folder / name).is_file():
                self.call("log_artifact", run_id, str(folder / name))
        self.log(run_id, tags={RECORD_DIGEST: file_digest(folder / RECORD)})
        ended = content.utc_milliseconds(record.where.finished, folder / RECORD)
        self.call("set_terminated", run_id, content.RUN_STATUS[record.happened.status], ended)
