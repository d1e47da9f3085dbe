"""Addresses of MLflow stores: which one is meant, how it is shown, and making a SQLite database
safely.
"""

import fcntl
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import unquote

VARIABLE = "MLFLOW_TRACKING_URI"

LOCK_WAIT_SECONDS = 20.0
"""How long a write to SQLite waits for another process's; the value that MLflow gives its own
connections.
"""


def resolved(uri: str) -> str:
    """The address in ``MLFLOW_TRACKING_URI`` or else ``uri``; the file of a SQLite address made
    absolute.
    """
    address = os.environ.get(VARIABLE, "").strip() or uri
    file = database_file(address)
    return f"sqlite:///{file.absolute()}" if file else address


def database_file(uri: str) -> Path | None:
    """The file of a SQLite address; null for other addresses and for a database in memory."""
    path = uri.removeprefix("sqlite:///")
    return Path(path) if path not in (uri, "", ":memory:") else None


def artifact_folder(uri: str, study: str) -> str | None:
    """``mlartifacts/<study>`` beside a SQLite database, as a file address; null where a server
    decides.
    """
    file = database_file(uri)
    return (file.absolute().parent / "mlartifacts" / study).as_uri() if file else None


def shown(text: str, uri: str) -> str:
    """``text`` without the user name, password and keys of ``uri`` or of any other address in
    it.
    """
    credentials = re.match(r"[^/]*://(\S*)@", uri)
    if credentials:
        user, _, password = credentials[1].partition(":")
        for secret in filter(None, (password, unquote(password), user if not password else "")):
            text = text.replace(secret, "***")
    text = re.sub(r"://\S*@", "://***@", text)
    return re.sub(r"(?i)\b(\w*(?:password|token|secret|key))=[^&\s'\"]+", r"\1=***", text)


def prepare_database(uri: str) -> None:
    """Make the SQLite database of ``uri`` where there is none, and let readers and a writer work on
    it at once.

    A process killed while MLflow makes its tables would leave a database that nobody can use any
    more. So the tables are made in a file of another name, which takes its place when it is done.
    Other addresses are left alone.

    Raises:
        OSError, sqlite3.Error: the folder can't be written, or the file is not a database. (MLflow
            would retry for an hour.)
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
            connection.execute("PRAGMA journal_mode = WAL")


def _make_database(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    made = file.with_name(f"{file.name}.new")
    for leftover in (made, made.with_name(f"{made.name}-journal")):
        leftover.unlink(missing_ok=True)
    store: Any = SqlAlchemyStore(f"sqlite:///{made}", (file.parent / "mlartifacts").as_uri())  # type: ignore[no-untyped-call]  # untyped in MLflow
    store.engine.dispose()
    made.replace(file)
