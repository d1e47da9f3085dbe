"""The small adapter in the repository answers plain sentences, out of the box."""

import json
import re
import shlex
from pathlib import Path

import pytest

from lora_replication.files import file_digest
from lora_replication.predict import predict_texts
from lora_replication.record import ADAPTER, PREDICTIONS, read_record

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / "adapters" / "minilm-imdb"

SENTENCES = {
    "A wonderful film: I laughed, I cried, and I would watch it again tomorrow.": "positive",
    "One of the best movies of the year, with superb acting and a brilliant script.": "positive",
    "Beautifully shot, moving from the first minute to the last. Highly recommended.": "positive",
    "I loved every minute of it, and the ending is perfect.": "positive",
    "The actors are excellent and the story is told with great care.": "positive",
    "A complete waste of time. The plot makes no sense and the acting is terrible.": "negative",
    "Boring, badly written and far too long; I wanted my money back.": "negative",
    "The worst film I have seen in years, avoid it.": "negative",
    "An awful script, wooden dialogue and cheap effects.": "negative",
    "I fell asleep twice. Dull, predictable and stupid.": "negative",
}


def test_it_is_small_and_the_one_of_its_record():
    record = read_record(RUN)
    assert record is not None
    assert (RUN / ADAPTER).stat().st_size < 1_000_000
    assert file_digest(RUN / ADAPTER) == record.happened.adapter_sha256
    assert not (RUN / PREDICTIONS).exists()
    assert record.asked.study == "minilm-adapter"
    assert record.happened.test.fraction > 0.8


def test_ten_plain_sentences_are_answered_rightly(capsys):
    predict_texts(RUN, SENTENCES, None, encoder_path=None, device="cpu", as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["text"]: line["label"] for line in lines} == SENTENCES


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
