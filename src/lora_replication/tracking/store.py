"""MLflow itself: addresses of its stores, its import, one address with experiments and runs."""

import fcntl
import logging
import os
import re
import sqlite3
import sys
import textwrap
import time
import warnings
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from lora_replication.files import file_digest
from lora_replication.record import ADAPTER, PREDICTIONS, RECORD, Record, Run, checked_file
from lora_replication.tracking import content
from lora_replication.tracking.content import Point

if TYPE_CHECKING:
    from lora_replication.data.manifest import Manifest

Tags = Iterable[tuple[str, str]]

VARIABLE = "MLFLOW_TRACKING_URI"

LOCK_WAIT_SECONDS = 20.0
"""A statement waits so long for another process's; MLflow gives its own sessions the same."""

QUIET_SECONDS = 300.0
"""An address that failed is left alone for so long, so that one warning does for many runs."""

RECORD_DIGEST = "record_sha256"
"""Tag of the record that a run mirrors whole; set after everything else."""

DEFAULTS = {
    # A silent server costs 21 seconds, with MLflow's own values about 244.
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

NO_SERVER = "what answers there is no server of MLflow"

WHERE = f"tracking.uri or {VARIABLE}"

REMEDIES = {
    r"database is locked": "another program holds the database; close it or wait for it",
    r"not a database|none of MLflow": f"move that file away, or correct {WHERE}",
    r"out-of-date database": "back the database up, then run mlflow db upgrade with its address",
    r"Can't locate revision": "install a newer MLflow, the one that wrote the database",
    r"must be in the 'active' state": "the experiment was deleted; sync restores it",
    r"error code 40[13]": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    r"API request to|TimeoutError|no server": f"start the server, or correct {WHERE}",
    r"unable to open|readonly|Permission": "make its folder and file writable",
    r"Invalid model name": "choose another name for --register",
    r"No module named": f"install that module, or correct {WHERE}",
    r"ImportError": "install what requirements.lock says (make setup)",
}
"""What to do, by words of the failure."""


def resolved(uri: str) -> str:
    """The address in ``MLFLOW_TRACKING_URI`` or else ``uri``, its SQLite file made absolute."""
    return absolute(os.environ.get(VARIABLE, "").strip() or uri, Path.cwd())


def absolute(uri: str, folder: Path) -> str:
    """``uri`` with the file of a SQLite address taken from ``folder``."""
    file = database_file(uri)
    return sqlite_address(folder / file) + "".join(uri.partition("?")[1:]) if file else uri


def sqlite_address(file: Path) -> str:
    """The address of a database file, quoted: SQLAlchemy decodes % and cuts at the first ?."""
    return f"sqlite:///{str(file).replace('%', '%25').replace('?', '%3F')}"


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address; None for other addresses and for a database in memory."""
    found = re.match(r"sqlite(?:\+pysqlite)?:///([^?]+)", uri)
    return Path(unquote(found[1])) if found and found[1] != ":memory:" else None


def shown(text: str, uri: str) -> str:
    """``text`` without the user name, password and keys of ``uri`` or any other address in it."""
    if credentials := re.match(r"[^/]*://(?!/)(\S*)@", uri):
        user, _, password = credentials[1].partition(":")
        for secret in filter(None, (password, unquote(password), user if not password else "")):
            text = text.replace(secret, "***")
    text = re.sub(r"://(?!/)\S*@", "://***@", text)
    return re.sub(r"(?i)\b(\w*(?:password|token|secret|key))=[^&\s'\"]+", r"\1=***", text)


def remedy(failure: str) -> str:
    """What to do where MLflow failed with these words."""
    fitting = (advice for words, advice in REMEDIES.items() if re.search(words, failure))
    return next(fitting, f"correct {WHERE}")


def prepare_database(uri: str) -> None:
    """Make the SQLite database of ``uri`` where there is none; other addresses are left alone.

    A process killed while MLflow makes its tables would leave a database that nobody can use any
    more. So they are made in a file of another name, which takes its place when it is done.

    Raises:
        OSError, sqlite3.Error: the file can't be written, or is not a database of MLflow. (MLflow
            would retry for an hour, or add its tables.)
    """
    file = database_file(uri)
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(f"{file.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists() or file.stat().st_size == 0:
            _make_database(file)
    with closing(sqlite3.connect(file, timeout=LOCK_WAIT_SECONDS)) as connection:
        if not connection.execute("PRAGMA table_info(alembic_version)").fetchall():
            raise sqlite3.DatabaseError("of its tables none of MLflow")
        connection.execute("PRAGMA journal_mode = WAL")  # readers and a writer at once


def _make_database(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = file.absolute().with_name(f"{file.name}.new")
    for leftover in (made, made.with_name(f"{made.name}-journal")):
        leftover.unlink(missing_ok=True)
    artifacts = made.with_name("mlartifacts").as_uri()
    store: Any = SqlAlchemyStore(sqlite_address(made), artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    made.replace(file)


def failures() -> tuple[type[Exception], ...]:
    """What a store may raise: errors of MLflow and of the libraries that it lets through."""
    loaded = [(sys.modules[name], error) for name, error in FOREIGN.items() if name in sys.modules]
    foreign = (getattr(module, error) for module, error in loaded)
    return (OSError, ImportError, ValueError, sqlite3.Error, *foreign)


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
        uri: as ``resolved`` returns it.
        experiment: each study has the experiment ``<experiment>/<study>``.

    Attributes:
        trouble: why the address is left alone, and what to do.
    """

    def __init__(self, uri: str, experiment: str) -> None:
        self.uri = uri
        self.trouble = ""
        self._experiment = experiment
        self._client: Any = None
        self._experiments: dict[str, Any] = {}
        self._parents: dict[str, str] = {}
        self._quiet_until = 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether the address failed a short while ago and is left alone."""
        return time.monotonic() < self._quiet_until

    def give_up(self, problem: Exception) -> str:
        """Leave the address alone for ``QUIET_SECONDS``. Returns ``trouble``, without passwords."""
        self._quiet_until = time.monotonic() + QUIET_SECONDS
        self._experiments.clear()  # one that was deleted meanwhile is looked up, and restored
        told = f"{type(problem).__name__}: {problem}"
        short = textwrap.shorten(shown(told.splitlines()[0], self.uri), 200)
        self.trouble = f"MLflow at {shown(self.uri, self.uri)} failed ({short}); {remedy(told)}"
        return self.trouble

    def call(self, method: str, *arguments: Any, **named: Any) -> Any:
        """The result of a method of MLflow's client."""
        with warnings.catch_warnings(action="ignore"):
            if self._client is None:
                load_mlflow()
                from mlflow.tracking import MlflowClient

                prepare_database(self.uri)
                self._client = MlflowClient(self.uri)
            try:
                return getattr(self._client, method)(*arguments, **named)
            except failures():
                raise
            except Exception as problem:  # its parser of answers raises what it likes
                raise ConnectionError(f"{NO_SERVER} ({type(problem).__name__})") from None

    def experiment(self, study: str) -> Any:
        """The experiment of a study, None where there is none yet."""
        name = f"{self._experiment}/{study}"
        if not (found := self._experiments.get(study)):
            found = self.call("get_experiment_by_name", name)
            if found and not found.experiment_id:
                raise ConnectionError(NO_SERVER)
            if found and found.lifecycle_stage == "deleted":  # it keeps its name
                self.call("restore_experiment", found.experiment_id)
            self._experiments[study] = found
        return found

    def experiment_id(self, run: Run) -> str:
        """The experiment of the run's study, made where there is none."""
        if self.experiment(run.study) is None:
            file = database_file(self.uri)  # else the server decides where artifacts are
            folder = (file.parent / "mlartifacts" / run.study).as_uri() if file else None
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

    def create_run(self, run: Run, manifest: "Manifest | None", began: int | None = None) -> str:
        """The id of a new RUNNING run on the data of ``manifest`` below its parent, which ``began``
        at these milliseconds since 1970, or now.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        experiment_id = self.experiment_id(run)
        tags = content.run_tags(run)
        tags["mlflow.parentRunId"] = self.parent_id(run, began)
        made = self.call("create_run", experiment_id, began, tags, run.words)
        params = [Param(*setting) for setting in content.parameters(run).items()]
        self.call("log_batch", made.info.run_id, [], params)
        if manifest:
            inputs = [
                DatasetInput(Dataset(**fields), [InputTag("mlflow.data.context", context)])
                for context, fields in content.datasets(run, manifest).items()
            ]
            try:
                self.call("log_inputs", made.info.run_id, inputs)
            except failures() as problem:
                if "unique" not in str(problem).lower():
                    raise
                self.call("log_inputs", made.info.run_id, inputs)  # another process was faster
        return str(made.info.run_id)

    def parent_id(self, run: Run, began: int | None = None) -> str:
        """The run under which ``run`` is nested, made where there is none."""
        experiment_id, (name, tags) = self.experiment_id(run), content.parent(run)
        group = tags["group"]
        if group not in self._parents:
            condition, made = f"tags.group = '{group}'", None
            if not self.runs(experiment_id, condition):
                made = self.call("create_run", experiment_id, began, tags, name).info.run_id
                self.call("set_terminated", made, None, began)  # the runs below tell how they ended
            # Of two processes each may have made one: both take the oldest, the other goes.
            self._parents[group] = self.runs(experiment_id, condition)[0].info.run_id
            if made and made != self._parents[group]:
                self.call("delete_run", made)
        return self._parents[group]

    def log(self, run_id: str, points: Sequence[Point], tags: Tags = ()) -> None:
        """Log metrics and tags in as few calls as MLflow allows."""
        from mlflow.entities import Metric, RunTag

        metrics, told = [Metric(*point) for point in points], [RunTag(*tag) for tag in tags]
        for start in range(0, len(metrics) or 1, 900):  # it takes 1,000 of both
            self.call("log_batch", run_id, metrics[start : start + 900], [], told)

    def copy(self, folder: Path, record: Record, manifest: "Manifest | None" = None) -> str:
        """The id of a new run that mirrors ``record`` in ``folder`` whole."""
        began = content.milliseconds(record.where.started)
        run_id = self.create_run(record.asked, manifest, began)
        self.complete(run_id, folder, record, content.record_points(record))
        return run_id

    def complete(self, run_id: str, folder: Path, record: Record, points: Sequence[Point]) -> None:
        """Log ``points`` and the files of ``folder``, and end the run; then it is whole."""
        self.log(run_id, points, content.outcome_tags(record).items())
        files = [n for n in (PREDICTIONS, ADAPTER) if (folder / n).exists()]
        for file in (folder / RECORD, *(checked_file(folder, record, name) for name in files)):
            self.call("log_artifact", run_id, str(file))
        self.call("set_tag", run_id, RECORD_DIGEST, file_digest(folder / RECORD))
        ended = content.milliseconds(record.where.finished)
        self.call("set_terminated", run_id, content.RUN_STATUS[record.happened.status], ended)
