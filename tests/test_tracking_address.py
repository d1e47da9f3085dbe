"""Addresses of MLflow stores, and databases that are made, refused or left alone."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lora_replication.errors import EnvironmentProblem
from lora_replication.reading import load_study
from lora_replication.tracking import address
from lora_replication.tracking.address import database_file, prepare_database, remedy, shown
from tests import tracking_runs

empty_database, tracked = tracking_runs.empty_database, tracking_runs.tracked

OLD, NEW = "0a8213491aaa", "f" * 12  # a revision from MLflow's first years, and one of none


def test_the_variable_overrules_and_relative_files_are_made_absolute(tracked, monkeypatch):
    assert database_file(address.resolved("sqlite:///mlflow.db")) == tracked / "mlflow.db"
    assert address.resolved("http://host:5000") == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert address.resolved("sqlite:///mlflow.db") == "http://elsewhere"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////a/b.db", "/a/b.db"),
        ("sqlite:///50%25%3F/b.db?timeout=5", "50%?/b.db"),
        ("sqlite:///:memory:", None),
        ("postgresql://host/sqlite", None),
    ],
)
def test_the_file_of_an_address(uri, file):
    assert database_file(uri) == (file and Path(file))
    kept = "?timeout=5" if "?" in uri else ""
    assert address.absolute(uri, Path("/")).endswith(kept)


def test_a_path_becomes_an_address_and_again_that_path(tmp_path):
    from sqlalchemy import make_url

    file = tmp_path / "50%25 #1?x é@b" / "mlflow.db"
    uri = address.sqlite_address(file)
    assert database_file(uri) == file == Path(str(make_url(uri).database))


def test_a_study_in_a_folder_of_any_name_keeps_its_database_there(tracked):
    params = tracked / "params.yaml"
    params.write_bytes((Path(__file__).parents[1] / "params.yaml").read_bytes())
    assert database_file(load_study(params).tracking.uri) == tracked / "mlflow.db"


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
        ("DatabaseError: file is not a database", "move that file away"),
        (f"MlflowException: out-of-date schema (found version {OLD},", "mlflow db upgrade"),
        (f"MlflowException: out-of-date schema (found version {NEW},", "newer MLflow"),
        (f"CommandError: Can't locate revision identified by '{NEW}'", "newer MLflow"),
        ("MlflowException: API request to http://x failed with exception", "start the server"),
        ("MlflowException: API request to /x failed with error code 401", "MLFLOW_TRACKING_USER"),
        ("ImportError: mlflow: TypeError: x", "requirements.lock"),
        ("MlflowException: whatever", "correct tracking.uri"),
    ],
)
def test_each_cause_has_its_own_remedy(failure, advice):
    assert advice in remedy(failure, "sqlite:////a.db")


@pytest.mark.fault(11)
def test_a_database_that_a_killed_process_was_making_does_no_harm(tmp_path):
    file = tmp_path / "new" / "mlflow.db"
    file.parent.mkdir()
    file.with_name("mlflow.db.new").write_bytes(b"half a database")
    prepare_database(address.sqlite_address(file))
    prepare_database(address.sqlite_address(file))
    assert sorted(left.name for left in file.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT name FROM experiments").fetchone() == ("Default",)


def test_a_file_that_is_no_database_of_mlflow_is_left_as_it_is(tmp_path):
    file = tmp_path / "mlflow.db"
    file.write_text("reviews, not a database\n" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        prepare_database(address.sqlite_address(file))
    assert file.read_text().startswith("reviews")
    file.unlink()
    with closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE own (x)")
    with pytest.raises(sqlite3.DatabaseError, match="none of MLflow"):
        prepare_database(address.sqlite_address(file))


@pytest.mark.parametrize(("version", "advice"), [(OLD, "db upgrade"), (NEW, "newer MLflow")])
def test_a_database_of_another_mlflow_is_not_altered(tracked, version, advice):
    with closing(sqlite3.connect("mlflow.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", (version,))
    with pytest.raises(EnvironmentProblem, match=advice):
        prepare_database(address.resolved("sqlite:///mlflow.db"))
    with closing(sqlite3.connect("mlflow.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchone() == (version,)
