"""Faults 20, 37 and 38: what stands on disk is believed by its sha256 alone, and nothing on disk is
ever unpickled.
"""

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from lora_replication.data.manifest import (
    read_manifest,
    read_reviews,
    read_test_reviews,
    read_tokens,
)
from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError
from lora_replication.plan import method_run
from lora_replication.study import ModelParams
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import load_classifier
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.projects import ROOT, environment
from tests.tiny_encoders import tiny_encoder


def tamper(file: Path) -> None:
    """Change one byte of the content and leave size, times and mode as they were."""
    before, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(0o444)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.fault(20)
@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_altered_tokens_stop_a_run_before_the_model_is_loaded(
    part, tiny_study, tiny_data, tmp_path, mirror, monkeypatch
):
    shutil.copytree(tiny_data / "data", tmp_path / "data")
    tamper(tmp_path / "data" / "tiny" / f"tokens-{part}.safetensors")
    with pytest.raises(
        DataError, match=rf"tokens-{part}\.safetensors: has sha256 .* altered"
    ) as told:
        workspace = Workspace(tiny_study, tmp_path)
        perform(workspace, [method_run(workspace, "full", 1)], mirror)
    assert told.value.exit_code == 3
    assert not (tmp_path / "runs").exists()


@pytest.mark.fault(20)
def test_altered_reviews_stop_the_report(tiny_study, tiny_data, tmp_path):
    shutil.copytree(tiny_data / "data", tmp_path / "data")
    data = tmp_path / "data" / "tiny"
    reviews = pq.read_table(data / "test.parquet")
    assert reviews.num_rows == 24
    tamper(data / "test.parquet")
    with pytest.raises(DataError, match=r"test\.parquet: has sha256 .* altered"):
        read_reviews(data, "test", read_manifest(data))
    tamper(data / "test_reviews.parquet")
    with pytest.raises(DataError, match=r"test_reviews\.parquet: has sha256 .* altered"):
        read_test_reviews(data, read_manifest(data))


class Canary:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.fixture
def poison(tmp_path: Path) -> bytes:
    content = pickle.dumps(Canary(tmp_path / "canary"))
    pickle.loads(content)  # noqa: S301  # it does what it is feared for
    (tmp_path / "canary").rmdir()
    return content


@pytest.mark.fault(37)
def test_a_pickle_under_the_name_of_weights_is_refused(tmp_path, poison):
    folder = shutil.copytree(tiny_encoder("distilbert"), tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(poison.ljust(100_000, b"\0"))
    with pytest.raises(
        DataError, match=r"model\.safetensors: not a whole safetensors file"
    ) as told:
        load_classifier(
            locate_encoder(ModelParams(encoder="folder", path=str(folder), max_tokens=64))
        )
    assert told.value.exit_code == 3
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(37)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "model.pt", "model.pkl"])
def test_pickled_weights_are_refused_by_the_name_that_is_missing(name, tmp_path, poison):
    folder = shutil.copytree(tiny_encoder("distilbert"), tmp_path / "encoder")
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(poison)
    with pytest.raises(DataError, match=r"model\.safetensors is missing; .*nothing pickled"):
        locate_encoder(ModelParams(encoder="folder", path=str(folder), max_tokens=64))
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(37)
def test_pickles_in_place_of_a_checkpoint_an_adapter_and_tokens_are_refused(
    tmp_path, poison, settings, tiny_data
):
    encoder = locate_encoder(
        ModelParams(encoder="folder", path=str(tiny_encoder("distilbert")), max_tokens=64)
    )
    file = tmp_path / "file.safetensors"
    file.write_bytes(poison)
    classifier = Classifier(encoder, settings(), 1)
    assert Checkpoint(file, "key").restore(None) is None
    with pytest.raises(DataError, match="not a whole safetensors file"):
        classifier.load_adapter(file)
    shutil.copytree(tiny_data / "data", tmp_path / "data")
    data = tmp_path / "data" / "tiny"
    (data / "tokens-test.safetensors").write_bytes(poison)
    with pytest.raises(DataError, match="altered"):
        read_tokens(data, "test", read_manifest(data))
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(37)
def test_predict_refuses_a_pickled_adapter_with_3(tmp_path, poison, tiny_study, tiny_root, mirror):
    workspace = Workspace(tiny_study, tiny_root)
    run = method_run(workspace, "last_layers", 1)
    perform(workspace, [run], mirror)
    (workspace.folder(run) / "adapter.safetensors").write_bytes(poison)
    command = [
        Path(sys.executable).with_name("lora-replication"),
        "predict",
        workspace.folder(run),
        "I was moved.",
        "--encoder-path",
        tiny_encoder("distilbert"),
    ]
    done = subprocess.run(
        command, env=environment(ROOT), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "adapter.safetensors: not a whole safetensors file" in done.stderr
    assert not (tmp_path / "canary").exists()


@pytest.mark.fault(38)
def test_weights_of_another_width_are_listed(tmp_path):
    folder = shutil.copytree(tiny_encoder("distilbert"), tmp_path / "encoder")
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"dim": 32', '"dim": 64'))
    with pytest.raises(
        DataError, match=r"does not fit config\.json next to it: .*\(32,\), not \(64,\)"
    ):
        load_classifier(
            locate_encoder(ModelParams(encoder="folder", path=str(folder), max_tokens=64))
        )
