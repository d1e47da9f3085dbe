"""The MLflow mirror, on real SQLite databases and a real server."""

import getpass
import math
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_replication.errors import EnvironmentProblem, Stopped
from lora_replication.files import digest, file_digest
from lora_replication.record import (
    ADAPTER,
    PREDICTIONS,
    Run,
    Count,
    Epoch,
    Happened,
    Record,
    Where,
    run_folder,
    write_record,
)
from lora_replication.study import TrackingParams
from lora_replication.tracking import SyncResult, content, live, live_run, store, sync
from lora_replication.tracking.address import database_file, prepare_database, resolved, shown
from lora_replication.tracking.liveness import is_alive, this_process

TRACKING = TrackingParams(uri="sqlite:///mlflow.db", experiment="mirror")
SETTINGS = {
    "encoder": "minilm",
    "epochs": 3,
    "lora": {"rank": 8, "alpha": 0.5, "targets": ["query", "value"]},
    "evaluate_train": True,
}
COUNT = Count(correct=3, reviews=4, ones=1)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store.load_mlflow()
    prepare_database(f"sqlite:///{file}")
    return file


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """An empty folder with an empty database in it, and a process that knows no store yet."""
    folder = tmp_path / "d 2 é"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    store._store.cache_clear()
    return folder


def an_asked(
    name: str = "lora_default",
    role: Any = "method",
    seed: int = 1,
    settings: dict[str, Any] = SETTINGS,
) -> Asked:
    decisive = {"data": "d1", "weights": "e1", "code": "f1", "settings": settings, "seed": seed}
    return Asked(
        study="toy",
        title="Toy reviews, not IMDb",
        role=role,
        name=name,
        key=digest(decisive),
        **decisive,
    )


def a_record(asked: Asked, **happened: Any) -> Record:
    epochs = [
        Epoch(
            epoch=n,
            train_loss=1 / n,
            train_accuracy=0.5 + n / 10,
            val_loss=2 / n,
            val_accuracy=0.6 + n / 10,
            seconds=10.0 * n,
        )
        for n in (1, 2, 3)
    ]
    what = {
        "status": "ok",
        "epochs": epochs,
        "best_epoch": 3,
        "train": COUNT,
        "val": COUNT,
        "test": COUNT,
        "trainable_parameters": 147_456,
        "total_parameters": 67_102_466,
        "training_seconds": 60.0,
        "evaluation_seconds": 5.0,
        "tokens_per_second": 1000.0,
        "peak_memory_bytes": 2**30,
    }
    where = Where(
        git_commit="abc123",
        git_dirty=False,
        versions={},
        cpu="some",
        cores=2,
        memory_bytes=1,
        gpu=None,
        threads=2,
        platform="Linux",
        started="2024-01-31T12:00:00+00:00",
        finished="2024-01-31T12:01:05+00:00",
        data_source="generated",
        data_revision=None,
        encoder_revision=None,
    )
    return Record(asked=asked, happened=Happened(**(what | happened)), where=where)


def written(record: Record) -> Path:
    asked = record.asked
    folder = run_folder(asked.study, asked.role, asked.name, asked.seed)
    write_record(record, folder)
    (folder / PREDICTIONS).write_bytes(b"predictions")
    (folder / ADAPTER).write_bytes(b"adapter")
    return folder


def mirrored(record: Record) -> Path:
    """Log a run as training does."""
    with live_run(TRACKING, record.asked) as run:
        for epoch in record.happened.epochs:
            run.epoch(epoch)
        folder = written(record)
        run.finish(folder, record)
    return folder


def client(uri: str = "") -> Any:
    store.load_mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(
        uri or f"sqlite:///{Path('mlflow.db').absolute()}"
    )  # MLflow keeps connections by address


def runs(uri: str = "", **tags: str) -> list[Any]:
    """The runs with these tags, the oldest first."""
    mlflow = client(uri)
    experiment = mlflow.get_experiment_by_name("mirror/toy")
    terms = " AND ".join(f"tags.{name} = '{value}'" for name, value in tags.items())
    return (
        list(
            mlflow.search_runs(
                [experiment.experiment_id], terms, order_by=["attributes.start_time ASC"]
            )
        )
        if experiment
        else []
    )


def curve(run_id: str, name: str, uri: str = "") -> list[tuple[int, float]]:
    return sorted(
        (point.step, point.value) for point in client(uri).get_metric_history(run_id, name)
    )


def warnings_in(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_live_run_logs_curves_finals_settings_and_files(workplace: Path) -> None:
    folder = mirrored(a_record(an_asked()))
    (run,) = runs()
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "lora_default seed-1"
    assert dict(curve(run.info.run_id, "val_accuracy")) == pytest.approx({1: 0.7, 2: 0.8, 3: 0.9})
    assert curve(run.info.run_id, "train_loss") == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert run.data.metrics["final_test_accuracy"] == 0.75
    assert run.data.metrics["trainable_parameters"] == 147_456
    assert run.data.metrics["best_epoch"] == 3
    assert run.data.params["lora.targets"] == "query,value"
    assert run.data.params["lora.rank"] == "8"
    assert run.data.params["seed"] == "1"
    assert run.data.tags["record_sha256"] == file_digest(folder / "record.json")
    assert run.data.tags["mlflow.note.content"] == "Toy reviews, not IMDb"
    artifacts = workplace / "mlartifacts" / "toy" / run.info.run_id / "artifacts"
    assert {file.name: file.read_bytes() for file in artifacts.iterdir()} == {
        file.name: file.read_bytes() for file in folder.iterdir()
    }


def test_run_has_system_metrics_however_short() -> None:
    mirrored(a_record(an_asked()))
    (run,) = runs()
    use = curve(run.info.run_id, "system/system_memory_usage_percentage")
    assert len(use) >= 1
    assert all(0 < value <= 100 for _, value in use)


def test_a_gpu_that_may_not_be_asked_leaves_the_other_metrics(monkeypatch) -> None:
    class NVMLError(Exception):
        pass

    def refuse() -> None:
        raise NVMLError("Insufficient Permissions")

    monkeypatch.setattr("mlflow.system_metrics.metrics.gpu_monitor.GPUMonitor", refuse)
    mirrored(a_record(an_asked()))
    (run,) = runs()
    assert curve(run.info.run_id, "system/system_memory_usage_percentage")


def test_sampling_starts_at_once_and_steps_count_up() -> None:
    with live_run(TRACKING, an_asked()):
        time.sleep(1.8)
    (run,) = runs()
    steps = [step for step, _ in curve(run.info.run_id, "system/cpu_utilization_percentage")]
    assert len(steps) >= 2
    assert sorted(steps) == list(range(len(steps)))


def test_ended_run_tells_nothing_of_machine_or_user(workplace: Path) -> None:
    mirrored(a_record(an_asked("r8", "cell")))
    found = runs()
    assert len(found) == 2
    for run in found:
        told = " ".join(
            [*run.data.tags.values(), *run.data.params.values(), *run.data.tags, run.info.user_id]
        ).split()
        assert run.info.user_id == "lora-replication"
        assert not {getpass.getuser(), socket.gethostname(), sys.argv[0]} & set(told)
        assert not [word for word in told if str(workplace.parent) in word]
        assert "process" not in run.data.tags


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (Stopped(15), "KILLED"),
        (KeyboardInterrupt(), "KILLED"),
        (ValueError("x"), "FAILED"),
        (None, "FINISHED"),
    ],
)
def test_leaving_ends_the_run(raised: BaseException | None, status: str) -> None:
    epoch = a_record(an_asked()).happened.epochs[0]
    try:
        with live_run(TRACKING, an_asked()) as run:
            run.epoch(epoch)
            if raised:
                raise raised
    except BaseException as caught:
        assert caught is raised
    (found,) = runs()
    assert found.info.status == status
    assert found.data.metrics["train_loss"] == 1.0


@pytest.mark.parametrize(
    ("status", "said"),
    [("diverged", "FINISHED"), ("failed", "FAILED"), ("timeout", "FAILED"), ("killed", "KILLED")],
)
def test_record_status_decides(status: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    nothing: dict[str, Any] = {
        "best_epoch": None,
        "train": None,
        "val": None,
        "test": None,
        "epochs": [],
    }
    mirrored(a_record(an_asked(), status=status, **nothing))
    (run,) = runs()
    assert run.info.status == said
    assert run.data.tags["record_status"] == status
    assert capsys.readouterr().err == ""
    assert not [name for name in run.data.metrics if "accuracy" in name]
    assert sync(Path("runs"), TRACKING) == SyncResult(whole=1)


@pytest.mark.fault(23)
def test_values_that_are_not_finite_are_left_out() -> None:
    epoch = Epoch.model_construct(
        epoch=1,
        train_loss=math.inf,
        train_accuracy=0.5,
        val_loss=math.nan,
        val_accuracy=0.5,
        seconds=1.0,
    )
    assert [point.name for point in content.epoch_points(epoch, 0)] == [
        "train_accuracy",
        "val_accuracy",
    ]


def test_cells_share_one_parent_also_after_a_restart_and_by_sync() -> None:
    def cell(rank: int, seed: int = 1) -> Asked:
        return an_asked(
            f"r{rank}",
            "cell",
            seed,
            SETTINGS | {"lora": {"rank": rank, "alpha": 1.0, "targets": ["query"]}},
        )

    mirrored(a_record(cell(1)))
    store._store.cache_clear()
    mirrored(a_record(cell(2)))
    written(a_record(cell(4)))
    mirrored(a_record(cell(1, seed=2)))
    assert sync(Path("runs"), TRACKING) == SyncResult(created=1, whole=3)
    first, second = runs(role="sweep")
    parents = {run.info.run_name: run.data.tags["mlflow.parentRunId"] for run in runs(role="cell")}
    assert parents == {
        "r1 seed-1": first.info.run_id,
        "r2 seed-1": first.info.run_id,
        "r4 seed-1": first.info.run_id,
        "r1 seed-2": second.info.run_id,
    }


def test_cell_and_method_with_the_same_key_are_two_runs() -> None:
    mirrored(a_record(an_asked("lora_default", "method")))
    written(a_record(an_asked("r8", "cell")))
    assert sync(Path("runs"), TRACKING) == SyncResult(created=1, whole=1)


def test_times_of_a_rebuilt_run_come_from_its_record() -> None:
    record = a_record(an_asked())
    written(record)
    sync(Path("runs"), TRACKING)
    (run,) = runs()
    noon = 1_706_702_400_000  # 2024-01-31T12:00:00 UTC
    assert (run.info.start_time, run.info.end_time) == (noon, noon + 65_000)
    times = [point.timestamp for point in client().get_metric_history(run.info.run_id, "val_loss")]
    # Finished at 65 s, evaluated for 5 s, third epoch 30 s, second 20 s.
    assert times == [noon + 10_000, noon + 30_000, noon + 60_000]


def test_sync_creates_what_is_missing_and_nothing_twice() -> None:
    mirrored(a_record(an_asked(seed=1)))
    written(a_record(an_asked(seed=2)))
    assert sync(Path("runs"), TRACKING) == SyncResult(created=1, whole=1)
    assert sync(Path("runs"), TRACKING) == SyncResult(whole=2)
    found = sorted(runs(), key=lambda run: str(run.data.params["seed"]))
    assert len(found) == 2
    assert [curve(run.info.run_id, "val_loss") for run in found] == [
        [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    ] * 2
    assert found[0].data.params == found[1].data.params | {"seed": "1"}
    assert set(found[0].data.metrics) - set(found[1].data.metrics) == {
        n for n in found[0].data.metrics if n.startswith("system/")
    }


def test_sync_completes_a_run_that_was_cut_off() -> None:
    record = a_record(an_asked())
    with pytest.raises(Stopped), live_run(TRACKING, record.asked) as run:
        run.epoch(record.happened.epochs[0])
        raise Stopped(15)
    written(record)
    assert sync(Path("runs"), TRACKING) == SyncResult(completed=1)
    assert sync(Path("runs"), TRACKING) == SyncResult(whole=1)
    (found,) = runs()
    assert found.info.status == "FINISHED"
    assert curve(found.info.run_id, "val_loss") == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
    assert curve(found.info.run_id, "final_test_accuracy") == [(0, 0.75)]


def test_sync_of_nothing_is_nothing() -> None:
    assert sync(Path("runs"), TRACKING) == SyncResult()


RUN = """
import sys, time
from test_tracking import *
seed, epochs, pause = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
record = a_record(an_asked(seed=seed))
with live_run(TRACKING, record.asked) as run:
    for epoch in record.happened.epochs[:epochs]:
        run.epoch(epoch)
        print("epoch", flush=True)
        time.sleep(pause)
    run.finish(written(record), record)
"""


def another_process(
    *arguments: object, code: str = RUN, **environment: str
) -> subprocess.Popen[str]:
    """A process of its own that logs a run: seed, epochs told while it goes, seconds after each."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
    return subprocess.Popen(  # this interpreter, code of this file
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=inherited | {"PYTHONPATH": str(Path(__file__).parent)} | environment,
    )


def wait_for(condition: Any, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


def test_runs_of_all_pages_are_given() -> None:
    class Pages:
        def search_runs(self, *_: Any, page_token: str | None, **__: Any) -> Any:
            first = page_token is None
            from mlflow.store.entities import PagedList

            return PagedList(["a", "b"] if first else ["c"], "more" if first else None)

    found = store.Store("sqlite:///unused.db", "x")
    found._client = Pages()
    assert list(found.runs("1", {})) == ["a", "b", "c"]


@pytest.mark.fault(11)
def test_two_processes_make_and_fill_one_database() -> None:
    Path("mlflow.db").unlink()
    both = [another_process(seed, 3, 0.0) for seed in (1, 2)]
    assert [process.communicate(timeout=60)[1] for process in both] == ["", ""]
    assert sync(Path("runs"), TRACKING) == SyncResult(whole=2)
    assert sqlite3.connect("mlflow.db").execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.fault(1, 5)
def test_run_of_a_killed_process_is_closed_and_of_a_living_one_left() -> None:
    killed, living = another_process(1, 1, 60.0), another_process(2, 1, 60.0)
    try:
        wait_for(lambda: [len(run.data.metrics) >= 4 for run in runs()] == [True, True])
        assert sync(Path("runs"), TRACKING) == SyncResult()
        killed.kill()
        killed.communicate()
        assert sync(Path("runs"), TRACKING) == SyncResult(killed=1)
        assert sorted(run.info.status for run in runs()) == ["KILLED", "RUNNING"]
    finally:
        living.kill()
        living.communicate()
    mirrored(a_record(an_asked(seed=2)))
    assert [run.info.status for run in runs(record_key=an_asked(seed=2).key)] == [
        "KILLED",
        "FINISHED",
    ]


def test_living_process_is_told_from_others() -> None:
    machine, number, start = this_process().split(":")
    now = time.time() * 1000
    assert is_alive(this_process(), 0)
    assert not is_alive(f"{machine}:{number}:{int(start) - 3600}", 0)
    assert not is_alive(f"{machine}:4194305:{start}", 0)
    assert not is_alive("", 0)
    assert is_alive(f"another:{number}:{start}", round(now - 23 * 3600e3))
    assert not is_alive(f"another:{number}:{start}", round(now - 25 * 3600e3))


@pytest.mark.fault(9)
def test_dead_server_costs_one_warning_and_little_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:s3cr%40t@127.0.0.1:9")
    begun = time.monotonic()
    for seed in (1, 2):
        mirrored(a_record(an_asked(seed=seed)))
    assert time.monotonic() - begun < 10
    (warning,) = warnings_in(capsys.readouterr().err)
    assert "127.0.0.1:9" in warning
    assert "lora-replication sync" in warning
    assert not any(secret in warning for secret in ("someone", "s3cr", "s3cr%40t", "s3cr@t"))
    with pytest.raises(EnvironmentProblem) as problem:
        sync(Path("runs"), TRACKING)
    assert time.monotonic() - begun < 20
    assert "s3cr" not in str(problem.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert sync(Path("runs"), TRACKING) == SyncResult(created=2)


@pytest.mark.parametrize(
    "uri",
    ["foo://bar", "./mlruns", "http://[bad", "sqlite:////proc/none/mlflow.db", "sqlite:///taken"],
)
@pytest.mark.fault(9)
def test_bad_address_costs_one_warning(
    uri: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("taken").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    begun = time.monotonic()
    mirrored(a_record(an_asked()))
    assert len(warnings_in(capsys.readouterr().err)) == 1
    with pytest.raises(EnvironmentProblem):
        sync(Path("runs"), TRACKING)
    assert time.monotonic() - begun < 10


@contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """An address where something answers every request with ``answer``, or takes it and is
    silent.
    """
    code = f"""
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
kept = []
while True:
    kept.append(server.accept()[0])
    answer = {answer!r}
    if answer is not None:
        kept[-1].recv(65536)
        kept[-1].sendall(b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(answer) + answer)
        kept.pop().close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:  # this interpreter
        assert process.stdout
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        process.kill()


@pytest.mark.fault(9)
def test_silent_server_is_left_after_the_patience_of_a_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "PATIENCE_SECONDS", 1.0)
    with listener(None) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        begun = time.monotonic()
        mirrored(a_record(an_asked()))
        assert time.monotonic() - begun < 5
        assert len(warnings_in(capsys.readouterr().err)) == 1


@pytest.mark.parametrize("answer", [b"hello", b"[]", b"{}", b"null"])
def test_server_that_is_not_mlflow_costs_one_warning(
    answer: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listener(answer) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        mirrored(a_record(an_asked()))
        assert len(warnings_in(capsys.readouterr().err)) == 1


@contextmanager
def mlflow_server(port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    places = ["--backend-store-uri", "sqlite:///mlflow.db", "--artifacts-destination", "served"]
    quick = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"
    }  # its job runner takes seconds to start
    silent = subprocess.DEVNULL
    with subprocess.Popen(
        [*command, *places], stdout=silent, stderr=silent, env=quick, start_new_session=True
    ) as server:  # this interpreter
        try:
            wait_for(lambda: answers(f"http://127.0.0.1:{port}/health"), 40)
            yield server
        finally:
            os.killpg(server.pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return bool(urllib.request.urlopen(url, timeout=1).status == 200)  # noqa: S310  # http on loopback
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.fault(10)
def test_server_killed_in_mid_run_loses_nothing_after_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    with mlflow_server(port):
        process = another_process(1, 2, 3.0, MLFLOW_TRACKING_URI=uri)
        wait_for(lambda: any(curve(run.info.run_id, "val_loss", uri) for run in runs(uri)))
    _, complaints = process.communicate(timeout=40)
    assert process.returncode == 0
    assert len(warnings_in(complaints)) == 1
    with mlflow_server(port):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        assert sync(Path("runs"), TRACKING) == SyncResult(completed=1)
        assert sync(Path("runs"), TRACKING) == SyncResult(whole=1)
        (run,) = runs(uri)
        assert run.info.status == "FINISHED"
        assert curve(run.info.run_id, "val_loss", uri) == [(1, 2.0), (2, 1.0), (3, 2 / 3)]
        assert sorted(file.path for file in client(uri).list_artifacts(run.info.run_id)) == [
            ADAPTER,
            PREDICTIONS,
            "record.json",
        ]


def test_without_mlflow_a_run_warns_once_and_goes_on() -> None:
    process = another_process(1, 3, 0.0, code='import sys\nsys.modules["mlflow"] = None\n' + RUN)
    out, complaints = process.communicate(timeout=30)
    assert (process.returncode, out.count("epoch")) == (0, 3)
    (warning,) = warnings_in(complaints)
    assert "ModuleNotFoundError" in warning


def test_database_that_a_killed_process_was_making_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "new" / "mlflow.db"
    file.parent.mkdir()
    file.with_name("mlflow.db.new").write_bytes(b"half a database")
    prepare_database(f"sqlite:///{file}")
    assert sorted(left.name for left in file.parent.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
    assert client(f"sqlite:///{file}").get_experiment_by_name("Default") is not None


def test_database_that_is_none_is_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_text("reviews, not a database\n" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        prepare_database(f"sqlite:///{file}")
    assert file.read_text().startswith("reviews")


def test_addresses(monkeypatch: pytest.MonkeyPatch, workplace: Path) -> None:
    assert resolved("sqlite:///mlflow.db") == f"sqlite:///{workplace / 'mlflow.db'}"
    assert resolved("http://host:5000") == "http://host:5000"
    assert database_file("sqlite:////a/b.db") == Path("/a/b.db")
    assert database_file("sqlite:///:memory:") is None
    assert database_file("postgresql://host/sqlite") is None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert resolved("sqlite:///mlflow.db") == "http://elsewhere"


@pytest.mark.parametrize(
    ("uri", "text", "said"),
    [
        (
            "http://me:p@ss@host/x",
            "can't reach http://me:p@ss@host/x",
            "can't reach http://***@host/x",
        ),
        ("http://me:p%40ss@host", "password p@ss refused", "password *** refused"),
        ("http://t0ken@host", "t0ken refused", "*** refused"),
        (
            "postgresql://host/db?password=p4ss&x=1",
            "postgresql://host/db?password=p4ss&x=1",
            "postgresql://host/db?password=***&x=1",
        ),
        ("http://host", "http://host is down", "http://host is down"),
    ],
)
@pytest.mark.fault(42)
def test_credentials_are_not_shown(uri: str, text: str, said: str) -> None:
    assert shown(text, uri) == said


def test_settings_are_flattened() -> None:
    asked = an_asked(
        settings={
            "lora": {"targets": ["query", "mlp"], "alpha": 0.5},
            "device": None,
            "evaluate_train": False,
        }
    )
    assert content.parameters(asked) == {
        "study": "toy",
        "method": "lora_default",
        "seed": "1",
        "lora.targets": "query,mlp",
        "lora.alpha": "0.5",
        "device": "none",
        "evaluate_train": "false",
    }
