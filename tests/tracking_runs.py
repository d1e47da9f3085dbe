"""Runs and records without training, and what MLflow has of them, for the tests of ``tracking``."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lora_replication.data.manifest import MANIFEST
from lora_replication.reading import load_study
from lora_replication.record import (
    ADAPTER,
    PREDICTIONS,
    Count,
    Epoch,
    Happened,
    Record,
    Role,
    Run,
    Settings,
    Where,
    write_record,
)
from lora_replication.study import LoraParams, Study, TrackingParams
from lora_replication.tracking import store
from lora_replication.tracking.mirror import _store, open_mirror
from lora_replication.tracking.store import prepare_database, resolved
from lora_replication.tracking.sync import sync
from lora_replication.workspace import Workspace
from tests.report_records import make_manifest

TRACKING = TrackingParams(uri="sqlite:///mlflow.db", experiment="mirror")
NOON = 1_706_702_400_000  # 2024-01-31T12:00:00 UTC
QUARTERS = {part: Count(correct=3, reviews=4, ones=1) for part in ("train", "val", "test")}
NO_RESULT: dict[str, Any] = dict.fromkeys(("best_epoch", "train", "val", "test")) | {"epochs": []}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("empty") / "mlflow.db"
    store.load_mlflow()
    prepare_database(f"sqlite:///{file}")
    return file


@pytest.fixture
def tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Path:
    """The folder of this test, with an empty database in it; and no store is known yet."""
    folder = tmp_path / "d 2 é"
    folder.mkdir()
    shutil.copy(empty_database, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
        monkeypatch.setenv(name, store.DEFAULTS[name])
    _store.cache_clear()
    return folder


@contextmanager
def listener(answer: bytes | None) -> Iterator[str]:
    """An address where every request is answered with ``answer``, or taken in silence."""
    code = f"""
import socket
server = socket.create_server(("127.0.0.1", 0))
print(server.getsockname()[1], flush=True)
kept, answer = [], {answer!r}
while True:
    kept.append(server.accept()[0])
    if answer is not None:
        kept[-1].recv(65536)
        head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n"
        kept[-1].sendall(head % len(answer) + answer)
        kept.pop().close()
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.kill()


def a_run(
    name: str = "lora_default", role: Role = "method", seed: int = 1, rank: int = 8,
    study: str = "toy",
) -> Run:  # fmt: skip
    settings = Settings(
        encoder="minilm", max_tokens=64, epochs=3, batch_size=12, learning_rate=5e-4,
        precision="fp32", device="cpu", trains="lora",
        lora=LoraParams(rank=rank, alpha=0.5, targets=("query", "value")),
    )  # fmt: skip
    return Run(
        study=study, title="Toy reviews, not IMDb", role=role, name=name, settings=settings,
        seed=seed, data=make_manifest().digest, weights="e" * 64, results=1,
    )  # fmt: skip


def a_record(run: Run, finished: str = "2024-01-31T12:01:05+00:00", **happened: Any) -> Record:
    epochs = [
        Epoch(
            epoch=n, train_loss=1 / n, train_accuracy=0.5 + n / 10, val_loss=2 / n,
            val_accuracy=0.6 + n / 10, seconds=10.0 * n,
        )
        for n in (1, 2, 3)
    ]  # fmt: skip
    what: dict[str, Any] = {
        "status": "ok", "epochs": epochs, "best_epoch": 3, "trainable_parameters": 147_456,
        "total_parameters": 67_102_466, "training_seconds": 60.0, "evaluation_seconds": 5.0,
        "tokens_per_second": 1000.0, "peak_memory_bytes": 2**29,
    }  # fmt: skip
    where = Where(
        git_commit="abc123", git_dirty=True, versions={}, cpu="some", cores=2, memory_bytes=1,
        gpu=None, threads=2, platform="Linux", started="2024-01-31T12:00:00+00:00",
        finished=finished, data_source="generated", data_revision=None, encoder_revision=None,
    )  # fmt: skip
    return Record(asked=run, happened=Happened(**(what | QUARTERS | happened)), where=where)


def a_study(name: str = "toy") -> Study:
    article = load_study(Path(__file__).parents[1] / "params.yaml")
    return article.model_copy(update={"study": name, "tracking": TRACKING})


def prepared(study: str = "toy", runs: str = "runs") -> Workspace:
    """The study's folders, with a manifest of its data."""
    workspace = Workspace(a_study(study), Path(), runs)
    workspace.data.mkdir(parents=True, exist_ok=True)
    (workspace.data / MANIFEST).write_text(make_manifest().model_dump_json())
    return workspace


def written(record: Record, runs: str = "runs") -> Path:
    folder = prepared(record.asked.study, runs).folder(record.asked)
    write_record(record, folder)
    (folder / PREDICTIONS).write_bytes(b"predictions")
    (folder / ADAPTER).write_bytes(b"adapter")
    return folder


def mirrored(record: Record) -> Path:
    """Log a run as training does."""
    with open_mirror(prepared(), record.asked) as mirror:
        for epoch in record.happened.epochs:
            mirror.epoch(epoch)
        folder = written(record)
        mirror.finish(folder, record)
    return folder


def synced(study: str = "toy") -> dict[str, int]:
    address = resolved(TRACKING.uri), TRACKING.experiment
    return dict(sync(a_study(study), Path(), store.Store(*address))[0])


def client() -> Any:
    store.load_mlflow()
    from mlflow.tracking import MlflowClient

    return MlflowClient(resolved(TRACKING.uri))


def runs(condition: str = "tags.role != 'parent'", study: str = "toy") -> list[Any]:
    """The runs in MLflow, the oldest first; those of records."""
    experiment = client().get_experiment_by_name(f"mirror/{study}")
    places = [experiment.experiment_id] if experiment else []
    order = ["attributes.start_time ASC"]
    return list(client().search_runs(places, condition, order_by=order)) if places else []


def curve(run: Any, name: str) -> list[tuple[int, float]]:
    history = client().get_metric_history(run.info.run_id, f"curve/{name}")
    return sorted((point.step, point.value) for point in history)
