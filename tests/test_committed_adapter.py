"""The small adapter in the repository answers plain sentences, out of the box."""

import json
import re
import shlex
from pathlib import Path

import pytest

from lora_replication.adapter import Description, read_description
from lora_replication.files import file_digest
from lora_replication.predict import predict_texts
from lora_replication.record import ADAPTER, PREDICTIONS, read_record
from tests.study_files import read_params

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "adapters" / "minilm-imdb"


def test_it_is_small_and_the_one_of_its_record():
    record = read_record(RUN)
    assert record is not None
    assert (RUN / ADAPTER).stat().st_size < 1_000_000
    assert file_digest(RUN / ADAPTER) == record.happened.adapter_sha256
    assert not (RUN / PREDICTIONS).exists()
    assert record.asked.study == "minilm-adapter"
    assert record.happened.test.fraction > 0.8
    head = ("bert.pooler.dense", "classifier")
    described = Description.of(record.asked, record.where.encoder_revision, head)
    assert read_description(RUN / ADAPTER) == described


def test_ten_plain_sentences_are_answered_rightly(capsys):
    sentences = read_params(Path(__file__).with_name("sentences.yaml"))
    predict_texts(RUN, [*sentences], None, encoder_path=None, device="cpu", as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["text"]: line["label"] for line in lines} == sentences


def test_readmes_example_is_answered_as_readme_says(capsys):
    text = (ROOT / "README.md").read_text("utf-8")
    unbroken = text.replace("\\\n", "")
    (command,) = re.findall(r"^\.venv/bin/lora-replication predict (.*)$", unbroken, re.MULTILINE)
    run, *texts = shlex.split(command)
    predict_texts(ROOT / run, texts, None, encoder_path=None, device="cpu", as_json=False)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    said = re.findall(r"^(positive|negative) +([\d.]+)%  (.*)$", text, re.MULTILINE)
    assert [words[0] for words in shown] == [label for label, _, _ in said]
    for words, (_, percent, _) in zip(shown, said, strict=True):
        assert float(words[1].rstrip("%")) == pytest.approx(float(percent), abs=1.0)
