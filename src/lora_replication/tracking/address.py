"""Addresses of MLflow stores: which one is meant, how it is shown, what to do where it fails."""

import fcntl
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lora_replication.errors import EnvironmentProblem

VARIABLE = "MLFLOW_TRACKING_URI"

LOCK_WAIT_SECONDS = 20.0
"""A statement waits so long for another process's; MLflow gives its own sessions the same."""

WHERE = f"tracking.uri or {VARIABLE}"
NEWER = "install a newer MLflow, the one that wrote the database"

REMEDIES = {
    r"database is locked": "another program holds the database; close it or wait for it",
    r"not a database|none of MLflow": f"move that file away, or correct {WHERE}",
    r"Can't locate revision": NEWER,
    r"error code 40[13]": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    r"API request to|TimeoutError|no server": f"start the server, or correct {WHERE}",
    r"unable to open|readonly|Permission": "make its folder and file writable",
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


def for_mlflow(uri: str) -> str:
    """``uri`` as MLflow gets it: it makes the folders of a plain SQLite address as quoted."""
    return re.sub(r"^sqlite:", "sqlite+pysqlite:", uri)


def artifact_folder(uri: str, study: str) -> str | None:
    """``mlartifacts/<study>`` next to a SQLite database, as a URI; None where a server decides."""
    file = database_file(uri)
    return (file.absolute().parent / "mlartifacts" / study).as_uri() if file else None


def shown(text: str, uri: str) -> str:
    """``text`` without the user name, password and keys of ``uri`` or any other address in it."""
    if credentials := re.match(r"[^/]*://(?!/)(\S*)@", uri):
        user, _, password = credentials[1].partition(":")
        for secret in filter(None, (password, unquote(password), user if not password else "")):
            text = text.replace(secret, "***")
    text = re.sub(r"://(?!/)\S*@", "://***@", text)
    return re.sub(r"(?i)\b(\w*(?:password|token|secret|key))=[^&\s'\"]+", r"\1=***", text)


def remedy(failure: str, uri: str) -> str:
    """What to do where MLflow at ``uri`` failed with these words."""
    if version := re.search(r"found version (\w+)", failure):
        older = version[1] in {one.revision for one in _migrations().walk_revisions()}
        upgrade = f"back the database up, then run: mlflow db upgrade '{shown(uri, uri)}'"
        return upgrade if older else NEWER
    fitting = (told for words, told in REMEDIES.items() if re.search(words, failure))
    return next(fitting, f"correct {WHERE}")


def _migrations() -> Any:
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def prepare_database(uri: str) -> None:
    """Make the SQLite database of ``uri`` where there is none, and let readers and a writer work on
    it at once. Other addresses are left alone.

    A process killed while MLflow makes its tables would leave a database that nobody can use any
    more. So they are made in a file of another name, which takes its place when it is done.

    Raises:
        OSError, sqlite3.Error: the file can't be written, or is not a database of MLflow. (MLflow
            would retry for an hour, or add its tables.)
        EnvironmentProblem: an older or newer MLflow made it. (MLflow would alter it unasked.)
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
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode = WAL")
        if not connection.execute("PRAGMA table_info(alembic_version)").fetchall():
            raise sqlite3.DatabaseError("of its tables none of MLflow")
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]
    if found != (head := _migrations().get_current_head()):
        told = f"{file} has the tables of another MLflow (found version {found}, needed {head})"
        raise EnvironmentProblem(f"{told}; {remedy(told, uri)}")


def _make_database(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = file.absolute().with_name(f"{file.name}.new")
    for leftover in (made, made.with_name(f"{made.name}-journal")):
        leftover.unlink(missing_ok=True)
    uri, artifacts = for_mlflow(sqlite_address(made)), made.with_name("mlartifacts").as_uri()
    store: Any = SqlAlchemyStore(uri, artifacts)  # type: ignore[no-untyped-call]
    store.engine.dispose()
    made.replace(file)
