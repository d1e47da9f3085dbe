"""What tests share: small prepared data, settings, and a private cache folder. Everything runs on
one thread.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("MLFLOW_TRACKING_URI", None)

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lora_replication.record import Settings
from lora_replication.reading import load_study
from lora_replication.record import Run
from lora_replication.study import LoraParams, Study

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies in ``faults`` belongs to ``make test-faults`` alone."""
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.fault())


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The tiny encoders go into a folder of the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def tiny_study() -> Study:
    return load_study(ROOT / "params.yaml", ROOT / "studies" / "tiny.yaml")


@pytest.fixture(scope="session")
def tiny_data(
    tiny_study: Study, private_cache: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with ``data/tiny`` prepared, never written to afterwards."""
    from lora_replication.data.prepare import prepare
    from lora_replication.encoders import locate_encoder

    root = tmp_path_factory.mktemp("prepared")
    prepare(tiny_study, locate_encoder(tiny_study.model), root / "data" / "tiny")
    return root


@pytest.fixture
def tiny_root(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder of this test with the prepared data linked in."""
    (tmp_path / "data").symlink_to(tiny_data / "data")
    return tmp_path


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """Settings of a short run on a tiny encoder; keywords change them, ``lora`` as a dict."""

    def make(**changes: object) -> Settings:
        values = {
            "encoder": "tiny-distilbert", "max_tokens": 64, "epochs": 2, "batch_size": 12, "learning_rate": 1e-2,
            "precision": "fp32", "device": "cpu", "trains": "head", "lora": None, "evaluate_train": True,
        } | changes  # fmt: skip
        if isinstance(values["lora"], dict):
            values |= {
                "lora": LoraParams(
                    **{"rank": 2, "alpha": 4, "targets": ["query", "value"]} | values["lora"]
                ),
                "trains": "lora",
            }
        return Settings(**values)

    return make


class SilentMirror:
    """Takes what a run tells, and nothing else."""

    def __init__(self) -> None:
        self.epochs = []
        self.finished = False

    def epoch(self, epoch: object) -> None:
        self.epochs.append(epoch)

    def finish(self, folder: Path, record: object) -> None:
        self.finished = True


@pytest.fixture
def mirror() -> Callable[[Asked], object]:
    @contextmanager
    def open_mirror(asked: Asked) -> Iterator[SilentMirror]:
        yield SilentMirror()

    return open_mirror
