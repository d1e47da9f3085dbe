"""MLflow itself: its import, what it may raise, and one address with its experiments and runs."""

import logging
import math
import os
import sqlite3
import sys
import textwrap
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lora_replication.errors import EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.record import ADAPTER, PREDICTIONS, RECORD, Record, Run
from lora_replication.tracking import address, content

QUIET_SECONDS = 300.0
"""An address that failed is left alone for so long, so that one warning does for many runs."""

LONGEST_CALL_SECONDS = 21.0
"""To a silent server, with the time-outs below: two tries of 10 seconds, one second between."""

RECORD_DIGEST = "record_sha256"
"""Tag of the record that a run mirrors whole; set after everything else."""

DEFAULTS = {
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
"""Of the environment, where it does not say otherwise."""

FOREIGN = {
    "mlflow.exceptions": "MlflowException",
    "sqlalchemy.exc": "SQLAlchemyError",
    "alembic.util": "CommandError",
}


def failures() -> tuple[type[Exception], ...]:
    """What a store may raise: errors of MLflow, of the libraries that it lets through, ours."""
    loaded = [(sys.modules[name], error) for name, error in FOREIGN.items() if name in sys.modules]
    foreign = (getattr(module, error) for module, error in loaded)
    return (EnvironmentProblem, OSError, ImportError, ValueError, sqlite3.Error, *foreign)


def load_mlflow() -> None:
    """Import MLflow without telemetry and chatter. Raises ``ImportError``."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # it would tell each retry
    try:
        import mlflow.store.tracking.sqlalchemy_store
        import mlflow.tracking  # noqa: F401
    # Libraries of other versions raise what they like as they are loaded, protobuf a TypeError.
    except Exception as problem:
        raise ImportError(f"mlflow: {type(problem).__name__}: {problem}") from None


class Store:
    """An MLflow address, connected to when first needed. Methods may raise any of ``failures()``.

    Args:
        uri: as ``address.resolved`` returns it.
        experiment: each study has the experiment ``<experiment>/<study>``.
        patience: seconds that the calls of any ``QUIET_SECONDS`` may take together.

    Attributes:
        trouble: why the address is left alone, and what to do.
    """

    def __init__(self, uri: str, experiment: str, patience: float = math.inf) -> None:
        self.uri = uri
        self.trouble = ""
        self._experiment = experiment
        self._patience = patience
        self._client: Any = None
        self._calls: list[tuple[float, float]] = []
        self._experiments: dict[str, Any] = {}
        self._sweeps: dict[str, str] = {}
        self._quiet_until = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether the address failed a short while ago and is left alone."""
        return time.monotonic() < self._quiet_until

    def give_up(self, problem: Exception) -> str:
        """Leave the address alone for ``QUIET_SECONDS``. Returns ``trouble``, without passwords."""
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        self.trouble = str(problem)
        if not isinstance(problem, EnvironmentProblem):
            told = f"{type(problem).__name__}: {problem}"
            short = textwrap.shorten(address.shown(told.splitlines()[0], self.uri), 200)
            where, advice = address.shown(self.uri, self.uri), address.remedy(told, self.uri)
            self.trouble = f"MLflow at {where} failed ({short}); {advice}"
        return self.trouble

    def call(self, method: str, *arguments: Any) -> Any:
        """The result of a method of MLflow's client. Raises ``TimeoutError`` out of patience."""
        with warnings.catch_warnings(action="ignore"):
            if self._client is None:
                load_mlflow()
                from mlflow.tracking import MlflowClient

                address.prepare_database(self.uri)
                self._client = MlflowClient(address.for_mlflow(self.uri))
            begun = time.monotonic()
            self._calls = [one for one in self._calls if one[0] > begun - QUIET_SECONDS]
            spent = sum(seconds for _, seconds in self._calls)
            if spent + LONGEST_CALL_SECONDS > self._patience:
                raise TimeoutError(f"its last {len(self._calls)} calls took {spent:.0f} seconds")
            try:
                return getattr(self._client, method)(*arguments)
            finally:
                self._calls.append((begun, time.monotonic() - begun))

    def experiment(self, study: str) -> Any:
        """The experiment of a study, None where there is none yet."""
        name = f"{self._experiment}/{study}"
        if not (found := self._experiments.get(study)):
            found = self.call("get_experiment_by_name", name)
            if found and not found.experiment_id:
                raise ConnectionError("what answers there is no server of MLflow")
            if found and found.lifecycle_stage == "deleted":
                here = address.shown(self.uri, self.uri)
                database = here if address.database_file(self.uri) else "the server's database"
                number = found.experiment_id
                raise EnvironmentProblem(
                    f"MLflow at {here}: experiment {name!r} was deleted but keeps its name; with "
                    f"{address.VARIABLE} set to that address, restore it (mlflow experiments "
                    f"restore -x {number}) or delete it permanently (mlflow gc "
                    f"--backend-store-uri '{database}' --experiment-ids {number})"
                )
            self._experiments[study] = found
        return found

    def experiment_id(self, run: Run) -> str:
        """The experiment of the run's study, made where there is none."""
        if self.experiment(run.study) is None:
            folder = address.artifact_folder(self.uri, run.study)
            name, about = f"{self._experiment}/{run.study}", {"mlflow.note.content": run.title}
            try:
                self.call("create_experiment", name, folder, about)
            except failures():
                if self.experiment(run.study) is None:  # else another process was faster
                    raise
        return str(self.experiment(run.study).experiment_id)

    def runs(self, experiment_id: str, condition: str = "") -> list[Any]:
        """The runs of an experiment, the oldest first, as many as MLflow returns at once."""
        order = ["attributes.start_time ASC", "attributes.run_id ASC"]
        return list(self.call("search_runs", [experiment_id], condition, 1, 50_000, order))

    def create_run(self, run: Run, began: int | None = None) -> str:
        """A new RUNNING run that ``began`` so many milliseconds after 1970, by default now, nested
        under its sweep if it is a grid's configuration. Returns its id.
        """
        experiment_id = self.experiment_id(run)
        tags = content.run_tags(run)
        if run.role == "cell":
            tags["mlflow.parentRunId"] = self._sweep_id(experiment_id, run)
        from mlflow.entities import Param

        made = self.call("create_run", experiment_id, began, tags, run.words)
        params = [Param(*setting) for setting in content.parameters(run).items()]
        self.call("log_batch", made.info.run_id, [], params)
        return str(made.info.run_id)

    def _sweep_id(self, experiment_id: str, run: Run) -> str:
        tags = content.sweep_tags(run)
        sweep = tags["sweep"]
        if sweep not in self._sweeps:
            condition, made = f"tags.sweep = '{sweep}'", None
            if not self.runs(experiment_id, condition):
                name = f"Grid, seed {run.seed}"
                made = self.call("create_run", experiment_id, None, tags, name).info.run_id
                self.call("set_terminated", made)  # its configurations tell how they ended
            # Of two processes each may have made one: both take the oldest, the other goes.
            self._sweeps[sweep] = self.runs(experiment_id, condition)[0].info.run_id
            if made and made != self._sweeps[sweep]:
                self.call("delete_run", made)
        return self._sweeps[sweep]

    def log(self, run_id: str, points: Sequence[content.Point]) -> None:
        """Log metrics in as few calls as MLflow allows."""
        from mlflow.entities import Metric

        for start in range(0, len(points), 1000):
            self.call("log_batch", run_id, [Metric(*one) for one in points[start : start + 1000]])

    def complete(
        self, run_id: str, folder: Path, record: Record, points: Sequence[content.Point]
    ) -> None:
        """Log ``points`` and the files of ``folder``, and end the run; then it is whole."""
        from mlflow.entities import RunTag

        self.log(run_id, points)
        tags = [RunTag(*tag) for tag in content.outcome_tags(record).items()]
        self.call("log_batch", run_id, [], [], tags)
        for name in (RECORD, PREDICTIONS, ADAPTER):
            if (folder / name).is_file():
                self.call("log_artifact", run_id, str(folder / name))
        self.call("set_tag", run_id, RECORD_DIGEST, file_digest(folder / RECORD))
        ended = content.milliseconds(record.where.finished, folder / RECORD)
        self.call("set_terminated", run_id, content.RUN_STATUS[record.happened.status], ended)
