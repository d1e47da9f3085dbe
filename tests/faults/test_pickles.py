"""Fault 37: nothing on disk is ever unpickled, whatever its name."""

import os
import pickle
import shutil
from pathlib import Path

import pytest

from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError
from lora_replication.study import ModelParams
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import load_classifier
from tests.tiny_encoders import tiny_model
from tests.training_runs import encoder_of


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
def test_a_pickle_in_place_of_weights_a_checkpoint_an_adapter_or_tokens_is_refused(
    tmp_path, poison, settings, tiny_data
):
    folder = shutil.copytree(encoder_of().folder, tmp_path / "encoder")
    (folder / "model.safetensors").write_bytes(poison.ljust(100_000, b"\0"))
    model = ModelParams(**tiny_model() | {"path": str(folder)})
    with pytest.raises(
        DataError, match=r"model\.safetensors: not a whole safetensors file"
    ) as told:
        load_classifier(locate_encoder(model))
    assert told.value.exit_code == 3
    file = tmp_path / "file.safetensors"
    file.write_bytes(poison)
    assert Checkpoint(file, "key").restore(None) is None
    with pytest.raises(DataError, match="not a whole safetensors file"):
        Classifier(encoder_of(), settings(), 1).load_adapter(file)
    data = shutil.copytree(tiny_data / "data" / "tiny", tmp_path / "data")
    (data / "tokens-test.safetensors").write_bytes(poison)
    with pytest.raises(DataError, match="altered"):
        read_tokens(data, "test", read_manifest(data))
    assert not (tmp_path / "canary").exists()
