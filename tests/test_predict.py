import json
import shutil

import pyarrow.parquet as pq
import pytest
import torch

from lora_replication.errors import DataError, EnvironmentProblem, ParameterError
from lora_replication.predict import predict_texts
from lora_replication.record import Record, read_record, write_record
from tests.tiny_encoders import tiny_encoder

ENCODER = tiny_encoder("distilbert")


def answer(run, texts=(), file=None, *, encoder=ENCODER, device=None, as_json=True):
    predict_texts(run, texts, file, encoder_path=encoder, device=device, as_json=as_json)


def altered(run, folder, **changes) -> Record:
    """A copy of ``run`` whose record says something else."""
    copy = shutil.copytree(run, folder / "run")
    record = read_record(copy)
    asked = record.asked.model_copy(update=changes)
    fresh = type(asked).model_validate(asked.model_dump(exclude={"key"}))
    write_record(record.model_copy(update={"asked": fresh}), copy)
    return copy


def test_predictions_agree_with_the_runs_own(trained, tiny_data, capsys):
    texts = pq.read_table(tiny_data / "data/tiny/test.parquet")["text"].to_pylist()
    table = pq.read_table(trained / "predictions.parquet").to_pylist()
    words = ("negative", "positive")
    expected = [words[r["logit_1"] > r["logit_0"]] for r in table if r["split"] == "test"]
    answer(trained, texts)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == expected
    assert [line["text"] for line in lines] == texts
    assert all(0.5 <= line["probability"] <= 1 for line in lines)


def test_a_line_ends_with_a_line_feed_alone_and_each_is_answered_or_named(
    trained, tmp_path, capsys
):
    odd = ["a fine\x85film", "a\u2028dull\x0bone", "", "last\x1ctext"]
    (tmp_path / "texts").write_bytes("\n".join(odd).encode() + b"\n")
    answer(trained, ["first"], tmp_path / "texts")
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.split("\n")[:-1]]
    assert [line["text"] for line in lines] == ["first", odd[0], odd[1], odd[3]]
    assert [line["origin"] for line in lines] == ["argument 1", "line 1", "line 2", "line 4"]
    assert shown.err == "line 3 is empty and not answered\n"


def test_a_text_that_is_cut_is_named(trained, capsys):
    answer(trained, ["word " * 100, "short"])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["cut_at_tokens"] for line in lines] == [64, None]
    answer(trained, ["word " * 100], as_json=False)
    assert capsys.readouterr().out.endswith("(cut at 64 tokens)\n")


def test_what_is_missing_or_no_text_is_named(trained, tmp_path):
    with pytest.raises(DataError, match=r"record\.json: there is no such record"):
        answer(tmp_path, ["x"])
    with pytest.raises(ParameterError, match="no text was given"):
        answer(trained)
    with pytest.raises(DataError, match="none: can't be read as UTF-8 text"):
        answer(trained, file=tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"caf\xe9\n")
    with pytest.raises(DataError, match="latin: can't be read as UTF-8 text"):
        answer(trained, file=tmp_path / "latin")
    with pytest.raises(DataError, match="argument 1 is not UTF-8"):
        answer(trained, ["caf\udce9"])


def test_a_run_of_another_encoder_is_refused(trained, tmp_path):
    with pytest.raises(EnvironmentProblem, match="name it with --encoder-path"):
        answer(trained, ["x"], encoder=None)
    with pytest.raises(DataError, match="not those that the run was trained on"):
        answer(altered(trained, tmp_path, weights="0" * 64), ["x"])
    settings = read_record(trained).asked.settings.model_copy(update={"encoder": "minilm"})
    other = altered(trained, tmp_path / "other", settings=settings)
    with pytest.raises(ParameterError, match="encoder is minilm; leave the option out"):
        answer(other, ["x"])


def test_a_run_of_a_gpu_predicts_on_the_processor_in_fp32_when_told_to(trained, tmp_path, capsys):
    update = {"device": "cuda", "precision": "fp16-mixed"}
    settings = read_record(trained).asked.settings.model_copy(update=update)
    copy = altered(trained, tmp_path, settings=settings)
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentProblem, match="no GPU here; add --device cpu"):
            answer(copy, ["a fine film"])
        with pytest.raises(EnvironmentProblem, match="--device is cuda"):
            answer(trained, ["a fine film"], device="cuda")
    answer(copy, ["a fine film"], device="cpu")
    answer(trained, ["a fine film"])
    there, here = capsys.readouterr().out.splitlines()
    assert there == here


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_without_a_result_does_not_predict(trained, tmp_path, status):
    copy = shutil.copytree(trained, tmp_path / "run")
    record = read_record(copy)
    happened = record.happened.model_copy(update={"status": status})
    write_record(record.model_copy(update={"happened": happened}), copy)
    with pytest.raises(DataError, match=f"is {status}; only a run with status ok can predict"):
        answer(copy, ["x"])
