"""Addresses of MLflow stores, and databases that are made, refused or left alone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lora_replication.tracking import store
from lora_replication.tracking.mirror import Mirror
from lora_replication.tracking.store import database_file, prepare_database, remedy, shown
from tests import tracking_runs
from tests.report_records import make_manifest
from tests.tracking_runs import a_run

empty_database, tracked = tracking_runs.empty_database, tracking_runs.tracked


def test_the_variable_overrules_and_relative_files_are_made_absolute(tracked, monkeypatch):
    assert database_file(store.resolved("sqlite:///mlflow.db")) == tracked / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert store.resolved("sqlite:///mlflow.db") == "http://elsewhere"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:///50%25%3F/b.db?timeout=5", "50%?/b.db"),
        ("sqlite:///:memory:", None),
        ("postgresql://host/sqlite", None),
    ],
)
def test_the_file_of_an_address(uri, file):
    assert database_file(uri) == (file and Path(file))
    kept = "?timeout=5" if "?" in uri else ""
    assert store.absolute(uri, Path("/")).endswith(kept)


def test_a_path_becomes_an_address_and_again_that_path(tmp_path):
    from sqlalchemy import make_url

    file = tmp_path / "50%25 #1?x é@b" / "mlflow.db"
    uri = store.sqlite_address(file)
    assert database_file(uri) == file == Path(str(make_url(uri).database))


@pytest.mark.fault(42)
@pytest.mark.parametrize(
    ("uri", "text", "said"),
    [
        ("http://me:p@ss@host/x", "no http://me:p@ss@host/x", "no http://***@host/x"),
        ("http://me:p%40ss@host", "password p@ss refused", "password *** refused"),
        ("http://t0ken@host", "t0ken refused", "*** refused"),
        ("x://host/d?password=p4ss&x=1", "x://d?password=p4ss&x=1", "x://d?password=***&x=1"),
        ("http://host", "http://host is down", "http://host is down"),
    ],
)
def test_credentials_are_not_shown(uri, text, said):
    assert shown(text, uri) == said


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        ("OperationalError: (sqlite3.OperationalError) database is locked", "close it"),
        ("MlflowException: Detected out-of-date database schema (found x,", "mlflow db upgrade"),
        ("CommandError: Can't locate revision identified by 'x'", "newer MLflow"),
        ("MlflowException: API request to http://x failed with exception", "start the server"),
        ("MlflowException: API request to /x failed with error code 401", "MLFLOW_TRACKING_USER"),
        ("MlflowException: Invalid model name ('a/b') provided", "another name for --register"),
        ("ModuleNotFoundError: No module named 'psycopg'", "install that module"),
        ("MlflowException: whatever", "correct tracking.uri"),
    ],
)
def test_each_cause_has_its_own_remedy(failure, advice):
    assert advice in remedy(failure)


@pytest.mark.fault(11)
def test_a_database_that_a_killed_process_was_making_does_no_harm(tmp_path):
    file = tmp_path / "new" / "mlflow.db"
    file.parent.mkdir()
    file.with_name("mlflow.db.new").write_bytes(b"half a database")
    prepare_database(store.sqlite_address(file))
    prepare_database(store.sqlite_address(file))
    assert sorted(left.name for left in file.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT name FROM experiments").fetchone() == ("Default",)


def test_a_file_that_is_no_database_of_mlflow_is_left_as_it_is(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_text("reviews, not a database\n" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        prepare_database(store.sqlite_address(file))
    assert file.read_text().startswith("reviews")
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE own (x)")
    with pytest.raises(sqlite3.DatabaseError, match="none of MLflow"):
        prepare_database(store.sqlite_address(file))


def test_an_experiment_deleted_in_the_page_comes_back(tmp_path, capsys, monkeypatch):
    at = store.Store(f"sqlite:///{tmp_path}/mlflow.db", "e")
    at.call("delete_experiment", at.experiment_id(a_run()))
    Mirror(at, a_run(), make_manifest()).open()
    assert "the experiment was deleted; sync restores it" in capsys.readouterr().err
    monkeypatch.setattr(at, "_quiet_until", 0.0)
    Mirror(at, a_run(), make_manifest()).open()
    assert capsys.readouterr().err == ""
    assert len(at.runs(at.experiment_id(a_run()), "tags.role = 'method'")) == 1
