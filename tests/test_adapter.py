"""An adapter describes itself, and predicts without the record of its run."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lora_replication.adapter import METADATA, read_description
from lora_replication.errors import DataError
from lora_replication.predict import find_trained, predict_texts
from lora_replication.record import ADAPTER, read_record
from lora_replication.training import classifier
from lora_replication.training.batches import collate
from lora_replication.training.classifier import Classifier
from tests.tiny_encoders import tiny_encoder
from tests.training_runs import CPU, KINDS, encoder_of, random_tokens, their_classifier

ENCODER = tiny_encoder("distilbert")


def predicted(run, capsys) -> str:
    predict_texts(run, ["a fine film"], None, encoder_path=ENCODER, device=None, as_json=True)
    return capsys.readouterr().out


def test_an_adapter_says_what_its_record_says(trained):
    described, asked = read_description(trained / ADAPTER), read_record(trained).asked
    assert (described.study, described.name, described.seed, described.key) == (
        asked.study, asked.name, asked.seed, asked.key,
    )  # fmt: skip
    assert described.settings == asked.settings
    assert (described.base.name, described.base.sha256) == ("folder", asked.weights)
    assert described.head == ["pre_classifier", "classifier"]
    assert described.scale == asked.settings.lora.alpha  # the article's scaling
    assert described.classes == ("negative", "positive")


def test_an_adapter_predicts_alone_as_its_run_does_in_its_own_class_names(
    trained, tmp_path, capsys
):
    shutil.copy(trained / ADAPTER, tmp_path)
    alone = predicted(tmp_path / ADAPTER, capsys)
    assert alone == predicted(trained, capsys) == predicted(tmp_path, capsys)
    described = read_description(trained / ADAPTER)
    renamed = described.model_copy(update={"classes": ("bad", "good")}).metadata()
    save_file(load_file(trained / ADAPTER), tmp_path / ADAPTER, renamed)
    words = {"negative": "bad", "positive": "good"}
    assert json.loads(predicted(tmp_path, capsys))["label"] == words[json.loads(alone)["label"]]


@pytest.mark.fault(38)
@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "does not say what it is, and there is no record.json"),
        ({METADATA: "{}"}, r"do not describe an adapter .* \(base: Field required\)"),
        ({METADATA: "[" * 60_000}, "do not describe an adapter"),
        ({METADATA: " " * 70_000}, "describes itself in 70,000 characters; allowed: 65,536"),
    ],
)
def test_a_file_that_does_not_describe_itself_is_refused(trained, tmp_path, metadata, message):
    save_file(load_file(trained / ADAPTER), tmp_path / ADAPTER, metadata)
    with pytest.raises(DataError, match=message):
        find_trained(tmp_path / ADAPTER)
    (tmp_path / ADAPTER).write_bytes(b"pickle")
    with pytest.raises(DataError, match="not a whole safetensors file"):
        find_trained(tmp_path)


@pytest.mark.fault(38)
@pytest.mark.parametrize("change", [{"max_tokens": -1}, {"encoder": "gpt"}])
def test_settings_that_no_study_may_have_are_refused(trained, tmp_path, change):
    described = read_description(trained / ADAPTER)
    odd = described.model_copy(update={"settings": described.settings.model_copy(update=change)})
    save_file(load_file(trained / ADAPTER), tmp_path / ADAPTER, odd.metadata())
    with pytest.raises(DataError, match=rf"{next(iter(change))} is "):
        find_trained(tmp_path).encoder(ENCODER if "max_tokens" in change else None)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("changes", [{"lora": {"targets": ["query", "head"]}}, {"trains": "all"}])
def test_layers_without_transformers_are_those_of_its_classifier(
    kind, changes, settings, monkeypatch
):
    eps = {"layer_norm_eps": 1e-2} if kind == "bert" else {}
    encoder = replace(encoder_of(kind), config=encoder_of(kind).config | eps)
    ours = Classifier(encoder, settings(**changes), 1)
    monkeypatch.setattr(classifier, "load_classifier", their_classifier)
    theirs = Classifier(encoder, settings(**changes), 1)
    assert list(ours.trainable()) == list(theirs.trainable())
    batch = collate(random_tokens([12, 30, 7]), np.arange(3), CPU)
    assert torch.equal(ours.logits(batch), theirs.logits(batch))
