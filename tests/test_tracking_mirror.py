"""A run in MLflow while it goes on, on real SQLite databases, dead, silent and foreign servers."""

import getpass
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from lora_replication.errors import Stopped
from lora_replication.files import file_digest
from lora_replication.tracking import store
from lora_replication.tracking.mirror import Mirror, open_mirror
from tests import tracking_runs
from tests.report_records import make_manifest
from tests.tracking_runs import (
    NO_RESULT,
    a_record,
    a_run,
    client,
    curve,
    listener,
    mirrored,
    prepared,
    runs,
    synced,
)

empty_database, tracked = tracking_runs.empty_database, tracking_runs.tracked
pytestmark = pytest.mark.usefixtures("tracked")

RUN = """
import sys, time
from tests.tracking_runs import *
seed, epochs, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
record = a_record(a_run(seed=seed))
with open_mirror(prepared(), record.asked) as mirror:
    for epoch in record.happened.epochs[:epochs]:
        mirror.epoch(epoch)
        print("epoch", flush=True)
        time.sleep(pause)
    mirror.finish(written(record), record)
"""


def another_process(*arguments: object, code: str = RUN):
    """A process that logs a run: seed, epochs logged while it goes, seconds after each."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def wait_for(condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_a_run_has_curves_results_settings_and_files_and_nothing_of_the_user(tracked):
    folder = mirrored(a_record(a_run()))
    (run,) = runs()
    assert (run.info.status, run.info.run_name) == ("FINISHED", "LoRA default, seed 1")
    assert curve(run, "train_loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert dict(curve(run, "validation_accuracy")) == pytest.approx({1: 0.7, 2: 0.8, 3: 0.9})
    assert run.data.metrics["accuracy/test"] == 0.75
    assert run.data.params["lora.rank"] == "8"
    inputs = {one.tags[0].value: one.dataset.digest for one in run.inputs.dataset_inputs}
    assert inputs == dict.fromkeys(("training", "validation", "test"), "a1" * 18)
    assert run.data.tags["record_sha256"] == file_digest(folder / "record.json")
    artifacts = tracked / "mlartifacts" / "toy" / run.info.run_id / "artifacts"
    copies, files = (
        {one.name: one.read_bytes() for one in at.iterdir()} for at in (artifacts, folder)
    )
    assert copies == files and len(files) == 3
    assert run.info.user_id == "lora-replication"
    words = [*run.data.tags.values(), *run.data.params.values()]
    assert not {getpass.getuser(), socket.gethostname()} & set(" ".join(words).split())
    assert not [word for word in words if str(tracked.parent) in word]


@pytest.mark.parametrize(
    ("raised", "status"), [(Stopped(15), "KILLED"), (ValueError("x"), "FAILED"), (None, "FINISHED")]
)
def test_leaving_ends_the_run(raised, status):
    record = a_record(a_run())
    try:
        with open_mirror(prepared(), record.asked) as mirror:
            assert [run.info.status for run in runs()] == ["RUNNING"]
            mirror.epoch(record.happened.epochs[0])
            if raised:
                raise raised
    except BaseException as caught:
        assert caught is raised
    (found,) = runs()
    assert found.info.status == status
    assert found.data.metrics["curve/train_loss"] == 1.0


@pytest.mark.parametrize(
    ("status", "said"), [("diverged", "FINISHED"), ("timeout", "FAILED"), ("killed", "KILLED")]
)
def test_the_status_of_the_record_decides(status, said):
    mirrored(a_record(a_run(), status=status, **NO_RESULT))
    (run,) = runs()
    assert (run.info.status, run.data.tags["status"]) == (said, status)


@pytest.mark.fault(1, 5)
def test_a_running_run_of_the_same_place_is_dead_when_a_mirror_opens():
    others = [a_run(seed=2), a_run("r8", "cell")]
    with (
        open_mirror(prepared(), a_run()),
        open_mirror(prepared(), others[0]),
        open_mirror(prepared(), others[1]),
        open_mirror(prepared(), a_run()),
    ):
        found = [(run.data.tags["place"], run.info.status) for run in runs()]
        place = "lora_default/seed-1"
        assert found[0] == (place, "KILLED") and found[3] == (place, "RUNNING")
        assert [status for _, status in found[1:3]] == ["RUNNING", "RUNNING"]


@pytest.mark.fault(11)
def test_two_processes_make_and_fill_one_database_and_print_nothing():
    Path("mlflow.db").unlink()
    both = [another_process(seed, 3, 0.0) for seed in (1, 2)]
    assert [process.communicate(timeout=120)[1] for process in both] == ["", ""]
    assert synced() == {"already there": 2}


@pytest.mark.fault(9)
def test_a_dead_server_costs_one_warning_and_little_time(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:s3cr%40t@127.0.0.1:9")
    begun = time.monotonic()
    for seed in (1, 2):
        mirrored(a_record(a_run(seed=seed)))
    assert time.monotonic() - begun < 30
    (warning,) = capsys.readouterr().err.splitlines()
    assert "127.0.0.1:9" in warning
    assert "start the server" in warning
    assert "lora-replication sync" in warning
    assert not any(secret in warning for secret in ("someone", "s3cr", "s3cr@t"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert synced() == {"added": 2}


def test_a_silent_server_costs_one_call_which_is_short_when_the_process_is_stopped(
    monkeypatch, capsys
):
    with listener(None) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
        begun = time.monotonic()
        for seed in (1, 2):
            mirrored(a_record(a_run(seed=seed)))
        assert 4 <= time.monotonic() - begun < 30  # two tries, and what is promised
        assert len(capsys.readouterr().err.splitlines()) == 1
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        stopped = Mirror(store.Store(uri, "mirror"), a_run(), make_manifest())
        stopped._run_id = "begun"
        begun = time.monotonic()
        stopped.end("KILLED")
        assert 3 <= time.monotonic() - begun < 30


@pytest.mark.fault(9)
@pytest.mark.parametrize(
    "uri", ["foo://bar", "http://[bad", "sqlite:////proc/none/mlflow.db", "sqlite:///taken"]
)
def test_a_bad_address_costs_one_warning(uri, monkeypatch, capsys):
    Path("taken").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mirrored(a_record(a_run()))
    assert len(capsys.readouterr().err.splitlines()) == 1


LIE = b'{"experiment": {"experiment_id": 7, "name": []}, "run": {"info": 3}, "experiments": 1}'


@pytest.mark.parametrize("answer", [b"hello", b"{}", LIE])
def test_a_server_that_is_not_mlflow_costs_one_warning(answer, monkeypatch, capsys):
    with listener(answer) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mirrored(a_record(a_run()))
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_locked_database_costs_one_warning_with_its_own_remedy(monkeypatch, capsys):
    monkeypatch.setattr(store, "LOCK_WAIT_SECONDS", 0.1)
    holder = sqlite3.connect("mlflow.db")
    holder.execute("PRAGMA journal_mode = DELETE")
    holder.execute("BEGIN EXCLUSIVE")
    mirrored(a_record(a_run()))
    holder.close()
    (warning,) = capsys.readouterr().err.splitlines()
    assert "another program holds the database" in warning


def test_an_import_of_mlflow_that_fails_costs_one_warning(tracked):
    (tracked / "mlflow.py").write_text("raise TypeError('of protobuf')")
    process = another_process(1, 3, 0.0, code=f"import sys\nsys.path.insert(0, '.')\n{RUN}")
    out, complaints = process.communicate(timeout=120)
    assert (process.returncode, out.count("epoch")) == (0, 3)
    (warning,) = complaints.splitlines()
    assert "requirements.lock" in warning


@contextmanager
def mlflow_server(port: int):
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    places = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "served"]
    # Its job runner takes seconds to start.
    quick = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        [*command, *places], stdout=silent, stderr=silent, env=quick, start_new_session=True
    ) as server:
        try:
            wait_for(partial(answers, f"http://127.0.0.1:{port}/health"))
            yield
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=1).status == 200  # noqa: S310  # on loopback
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.fault(10)
def test_a_server_killed_in_mid_run_loses_nothing_after_sync(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    with mlflow_server(port):
        process = another_process(1, 2, 3.0)
        wait_for(lambda: any(curve(run, "validation_loss") for run in runs()))
    _, complaints = process.communicate(timeout=120)
    assert (process.returncode, len(complaints.splitlines())) == (0, 1)
    with mlflow_server(port):
        assert synced() == {"completed": 1}
        assert synced() == {"already there": 1}
        (run,) = runs()
        assert run.info.status == "FINISHED"
        assert curve(run, "validation_loss") == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
        assert len(client().list_artifacts(run.info.run_id)) == 3
