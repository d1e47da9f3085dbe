"""What tests share: small prepared data, settings, a silent mirror. All runs on one thread."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
os.environ.pop("MLFLOW_TRACKING_URI", None)

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest

from lora_replication.reading import load_study
from lora_replication.record import Run, Settings
from lora_replication.study import LoraParams, Study
from tests.study_files import link_data, write_params


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What lies in ``faults`` belongs to ``make test-faults`` alone."""
    for item in items:
        if item.path.parent.name == "faults":
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.fault())


@pytest.fixture(scope="session")
def tiny_study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """The study of ``study_files``."""
    return load_study(write_params(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session")
def tiny_data(tiny_study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data/tiny`` prepared, never written to afterwards."""
    from lora_replication.data.prepare import prepare
    from lora_replication.encoders import locate_encoder

    root = tmp_path_factory.mktemp("prepared")
    prepare(tiny_study, locate_encoder(tiny_study.model), root / "data" / "tiny")
    return root


@pytest.fixture(scope="session")
def trained(tiny_study: Study, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a LoRA run, never written to afterwards."""
    from lora_replication.grid.ray import SILENT
    from lora_replication.plan import method_run
    from lora_replication.training.run import perform
    from lora_replication.workspace import Workspace

    root = tmp_path_factory.mktemp("trained")
    (root / "data").symlink_to(tiny_data / "data")
    workspace = Workspace(tiny_study, root)
    run = method_run(workspace, "lora_default", 1)
    perform(workspace, [run], lambda _run: nullcontext(SILENT))
    return workspace.folder(run)


@pytest.fixture(scope="session")
def tokens(tiny_data: Path) -> object:
    from tests.training_runs import prepared_tokens  # torch takes seconds

    return prepared_tokens(tiny_data)


@pytest.fixture
def tiny_root(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder of this test with the prepared data linked in."""
    return link_data(tmp_path, tiny_data)


@pytest.fixture
def settings() -> Callable[..., Settings]:
    """Settings of a short run on a tiny encoder; keywords change them, ``lora`` as a dict."""

    def make(**changes: object) -> Settings:
        values = {
            "encoder": "folder", "max_tokens": 64, "epochs": 2, "batch_size": 12,
            "learning_rate": 1e-2, "precision": "fp32", "device": "cpu", "trains": "head",
        } | changes  # fmt: skip
        if isinstance(lora := values.get("lora"), dict):
            plain = {"rank": 2, "alpha": 4, "targets": ["query", "value"]}
            values |= {"lora": LoraParams(**plain | lora), "trains": changes.get("trains", "lora")}
        return Settings(**values)

    return make


@pytest.fixture
def mirror() -> Callable[[Run], object]:
    """Opens a mirror that shows nothing."""
    from lora_replication.grid.ray import SILENT

    return lambda _run: nullcontext(SILENT)
