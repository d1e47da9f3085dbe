import json
import shutil

import pytest
import torch

from lora_replication import single
from lora_replication.data.manifest import read_manifest
from lora_replication.errors import DataError, EnvironmentProblem, IncompleteError, ParameterError
from lora_replication.jobs import Job, run_key
from lora_replication.methods import resolve
from lora_replication.files import only_writer
from lora_replication.single import predict_texts, train_single
from lora_replication.training.run import Bench, perform

SWITCHES = {
    "r": 8,
    "alpha": 16.0,
    "query": True,
    "key": False,
    "value": True,
    "projection": False,
    "mlp": False,
    "head": False,
}


@pytest.fixture(scope="module")
def run(tiny_study, tiny_data, tmp_path_factory):
    """A trained run's folder."""
    from contextlib import contextmanager

    from conftest import SilentMirror

    root = tmp_path_factory.mktemp("trained")
    (root / "data").symlink_to(tiny_data / "data")
    bench, job = (
        Bench(tiny_study, root),
        Job("method", "full", resolve(tiny_study, tiny_study.methods["full"]), 1),
    )
    perform(bench, job, contextmanager(lambda asked: iter([SilentMirror()])))
    return bench.folder(job)


def ask(run, settings=(), **changes):
    """Let the record of ``run`` be of a run that was asked for otherwise."""
    record = json.loads((run / "record.json").read_text())
    asked = record["asked"] | changes
    asked["settings"] |= dict(settings)
    record["asked"] = asked | {
        "key": run_key(
            asked["settings"], asked["seed"], asked["data"], asked["weights"], asked["code"]
        )
    }
    (run / "record.json").write_text(json.dumps(record))


def test_predictions_agree_with_the_runs_own(run, tiny_data, capsys):
    import pyarrow.parquet as pq

    texts = pq.read_table(tiny_data / "data/tiny/test.parquet")["text"].to_pylist()
    table = pq.read_table(run / "predictions.parquet").to_pylist()
    expected = [
        "positive" if row["logit_1"] > row["logit_0"] else "negative"
        for row in table
        if row["split"] == "test"
    ]
    predict_texts(run, texts, None, encoder_path=None, device=None, as_json=True)
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in told] == expected
    assert [line["text"] for line in told] == texts
    assert all(0.5 <= line["probability"] <= 1 for line in told)


def test_texts_come_from_a_file_one_a_line(run, tmp_path, capsys):
    (tmp_path / "texts").write_text("a fine film\n\na dull film\n", "utf-8")
    predict_texts(run, ["first"], tmp_path / "texts", encoder_path=None, device=None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("%  ")[1] for line in lines] == ["first", "a fine film", "a dull film"]


def test_what_is_missing_is_named(run, tmp_path):
    with pytest.raises(DataError, match=r"record\.json: there is no such record"):
        predict_texts(tmp_path, ["x"], None, encoder_path=None, device=None, as_json=False)
    with pytest.raises(ParameterError, match="no text was given"):
        predict_texts(run, [], None, encoder_path=None, device=None, as_json=False)
    with pytest.raises(DataError, match="none: can't be read"):
        predict_texts(run, [], tmp_path / "none", encoder_path=None, device=None, as_json=False)


def test_a_run_of_another_encoder_is_refused(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    ask(copy, weights="0" * 64)
    with pytest.raises(DataError, match="the run was trained on 0000"):
        predict_texts(copy, ["x"], None, encoder_path=None, device=None, as_json=False)
    with pytest.raises(
        ParameterError, match="the run's encoder is tiny-distilbert; leave the option out"
    ):
        predict_texts(copy, ["x"], None, encoder_path=tmp_path, device=None, as_json=False)
    ask(copy, settings={"encoder": "folder"})
    with pytest.raises(EnvironmentProblem, match="name it with --encoder-path"):
        predict_texts(copy, ["x"], None, encoder_path=None, device=None, as_json=False)


def test_a_run_trained_on_a_gpu_predicts_on_the_processor_in_fp32_when_told_to(
    run, tmp_path, capsys
):
    copy = shutil.copytree(run, tmp_path / "run")
    ask(copy, settings={"device": "cuda", "precision": "fp16-mixed"})
    if not torch.cuda.is_available():
        with pytest.raises(
            EnvironmentProblem,
            match="the run was trained on cuda, but torch sees no GPU here; add --device cpu",
        ):
            predict_texts(copy, ["a fine film"], None, encoder_path=None, device=None, as_json=True)
        with pytest.raises(EnvironmentProblem, match="--device is cuda"):
            predict_texts(
                run, ["a fine film"], None, encoder_path=None, device="cuda", as_json=True
            )
    predict_texts(copy, ["a fine film"], None, encoder_path=None, device="cpu", as_json=True)
    predict_texts(run, ["a fine film"], None, encoder_path=None, device=None, as_json=True)
    there, here = capsys.readouterr().out.splitlines()
    assert there == here


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_run_without_a_result_does_not_predict(run, tmp_path, status):
    copy = shutil.copytree(run, tmp_path / "run")
    record = json.loads((copy / "record.json").read_text())
    record["happened"] |= {"status": status}
    (copy / "record.json").write_text(json.dumps(record))
    with pytest.raises(
        DataError, match=f"status is {status}; only a run with status ok can predict"
    ):
        predict_texts(copy, ["x"], None, encoder_path=None, device=None, as_json=False)


def test_altered_and_foreign_settings_are_told(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    record = json.loads((copy / "record.json").read_text())
    record["asked"]["settings"]["max_tokens"] = "64"
    (copy / "record.json").write_text(json.dumps(record))
    with pytest.raises(DataError, match="does not make its key, so it was altered"):
        predict_texts(copy, ["x"], None, encoder_path=None, device=None, as_json=False)
    ask(copy, settings={"warmup": 3})
    with pytest.raises(
        DataError, match=r"record\.json: its settings are not of this version .*warmup"
    ):
        predict_texts(copy, ["x"], None, encoder_path=None, device=None, as_json=False)


@pytest.fixture
def workspace(tiny_study, tiny_root, monkeypatch):
    """Single runs of the tiny study happen in a folder of this test."""
    monkeypatch.setattr(single, "open_workspace", lambda name, root: (tiny_root, tiny_study))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tiny_root}/mlflow.db")
    return tiny_root


def test_the_articles_switches_train_that_configuration(workspace, capsys):
    train_single("tiny", None, 3, SWITCHES | {"r": 2, "alpha": 1.0, "mlp": True})
    out = capsys.readouterr().out
    record = json.loads(
        (workspace / "singles/tiny/r2-a1-query-value-mlp/seed-3/record.json").read_text()
    )
    assert record["asked"]["settings"]["lora"] == {
        "rank": 2,
        "alpha": 1.0,
        "targets": ["query", "value", "mlp"],
        "scaling": "article",
        "dropout": 0.0,
    }
    test = record["happened"]["test"]
    assert (
        f"test  accuracy {test['correct'] / test['reviews']:7.2%}  ({test['correct']} of {test['reviews']} reviews)"
        in out
    )
    assert "not IMDb" in out


def test_a_method_of_the_study_can_be_trained_by_name(workspace):
    train_single("tiny", "last_layers", 1, SWITCHES)
    assert (workspace / "singles/tiny/last_layers/seed-1/record.json").is_file()


def test_a_run_that_diverges_is_a_result(workspace, monkeypatch, capsys):
    study = single.open_workspace("tiny", None)[1]
    wild = study.model_copy(
        update={"train": study.train.model_copy(update={"learning_rate": 1e38})}
    )
    monkeypatch.setattr(single, "open_workspace", lambda name, root: (workspace, wild))
    train_single("tiny", "full", 1, SWITCHES)
    out = capsys.readouterr().out
    assert "diverged" in out
    assert "there are no accuracies" in out
    assert "test  accuracy" not in out


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        MemoryError("no room"),
    ],
)
def test_a_run_that_runs_out_of_memory_is_recorded_as_failed(workspace, monkeypatch, problem):
    def exhausted(*_):
        raise problem

    monkeypatch.setattr("lora_replication.training.run.train", exhausted)
    with pytest.raises(
        IncompleteError,
        match=r"(?s)last_layers seed 1: failed, recorded in .*batch_size 12: .* smaller train\.batch_size",
    ):
        train_single("tiny", "last_layers", 1, SWITCHES)
    record = json.loads((workspace / "singles/tiny/last_layers/seed-1/record.json").read_text())
    assert record["happened"]["status"] == "failed"
    assert str(problem) in record["happened"]["error"]


@pytest.mark.parametrize(
    "words",
    [
        "mat1 and mat2 shapes cannot be multiplied",
        "CUDA error: an illegal memory access was encountered",
    ],
)
def test_any_other_error_of_a_run_is_a_bug_to_be_seen(workspace, monkeypatch, words):
    def wrong(*_):
        raise RuntimeError(words)

    monkeypatch.setattr("lora_replication.training.run.train", wrong)
    with pytest.raises(RuntimeError, match=words):
        train_single("tiny", "last_layers", 1, SWITCHES)
    assert not (workspace / "singles").exists()


def test_data_of_what_the_study_asked_before_are_prepared_again(workspace, monkeypatch, tiny_data):
    shutil.copytree(tiny_data / "data", workspace / "own")
    (workspace / "data").unlink()
    (workspace / "own").rename(workspace / "data")
    manifest = workspace / "data/tiny/manifest.json"
    before = manifest.stat().st_mtime_ns
    train_single("tiny", "last_layers", 1, SWITCHES)
    assert manifest.stat().st_mtime_ns == before
    study = single.open_workspace("tiny", None)[1]
    other = study.model_copy(update={"data": study.data.model_copy(update={"generated_seed": 2})})
    monkeypatch.setattr(single, "open_workspace", lambda name, root: (workspace, other))
    with (
        only_writer(workspace / "build/state/tiny/prepare.lock"),
        pytest.raises(EnvironmentProblem, match=r"prepare\.lock: locked by process"),
    ):
        train_single("tiny", "last_layers", 1, SWITCHES)
    train_single("tiny", "last_layers", 1, SWITCHES)
    record = json.loads((workspace / "singles/tiny/last_layers/seed-1/record.json").read_text())
    assert json.loads(manifest.read_text())["generated_seed"] == 2
    assert record["asked"]["data"] == read_manifest(workspace / "data/tiny").digest


@pytest.mark.parametrize(
    ("method", "seed", "switches", "message"),
    [
        ("ful", 1, {}, "--method is 'ful'; allowed: last_layers, lora_default, lora_tuned, full"),
        (None, -1, {}, "--seed is -1; allowed"),
        (None, 1, {"r": 0}, "--lora_r is 0; allowed: a whole number from 1 to 768"),
        (None, 1, {"alpha": -1.0}, "--lora_alpha is -1.0; allowed: a number above 0"),
        (
            None,
            1,
            {"query": False, "value": False},
            "--lora_query, --lora_key, .* are all False; allowed: True for at least one",
        ),
    ],
)
def test_wrong_switches_are_told_with_what_is_allowed(workspace, method, seed, switches, message):
    with pytest.raises(ParameterError, match=message):
        train_single("tiny", method, seed, SWITCHES | switches)
    assert not (workspace / "singles").exists()
