import json
import shutil

import pytest
import torch

from lora_replication import single
from lora_replication.data.manifest import read_manifest
from lora_replication.errors import EnvironmentProblem, IncompleteError, ParameterError
from lora_replication.files import only_writer
from lora_replication.single import train_single

SWITCHES = {
    "rank": 8, "alpha": 16.0, "query": True, "key": False, "value": True,
    "projection": False, "mlp": False, "head": False,
}  # fmt: skip


@pytest.fixture
def root(tiny_study, tiny_root, monkeypatch):
    """Single runs of the tiny study happen in a folder of this test."""
    monkeypatch.setattr(single, "project_root", lambda: tiny_root)
    monkeypatch.setattr(single, "read_study", lambda _name, _root: tiny_study)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tiny_root}/mlflow.db")
    return tiny_root


def recorded(root, name="last_layers", seed=1):
    return json.loads((root / f"singles/tiny/{name}/seed-{seed}/record.json").read_text())


def test_the_articles_switches_train_that_configuration(root, capsys):
    train_single("tiny", None, 3, SWITCHES | {"rank": 2, "alpha": 1.0, "mlp": True})
    out = capsys.readouterr().out
    record = recorded(root, "r2-a1-query-value-mlp", 3)
    lora = {"rank": 2, "alpha": 1.0, "targets": ["query", "value", "mlp"]}
    assert record["asked"]["settings"]["lora"] == lora
    test = record["happened"]["test"]
    share = f"{test['correct'] / test['reviews']:7.2%}"
    counts = f"({test['correct']} of {test['reviews']} reviews)"
    assert f"test  accuracy {share}  {counts}" in out
    assert "not IMDb" in out


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        MemoryError("no room"),
    ],
)
def test_a_run_that_runs_out_of_memory_is_recorded_as_failed(root, monkeypatch, problem):
    def exhausted(*_):
        raise problem

    monkeypatch.setattr("lora_replication.training.run.train", exhausted)
    message = r"(?s)last_layers seed 1: failed, .*batch_size 12: .* smaller train\.batch_size"
    with pytest.raises(IncompleteError, match=message):
        train_single("tiny", "last_layers", 1, SWITCHES)
    happened = recorded(root)["happened"]
    assert happened["status"] == "failed"
    assert str(problem) in happened["error"]
    problem = RuntimeError("mat1 and mat2 shapes cannot be multiplied")  # a bug, to be seen
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train_single("tiny", "last_layers", 1, SWITCHES)


def test_data_of_what_the_study_asked_before_are_prepared_again(root, monkeypatch, tiny_data):
    (root / "data").unlink()
    shutil.copytree(tiny_data / "data", root / "data")
    manifest = root / "data/tiny/manifest.json"
    before = manifest.stat().st_mtime_ns
    train_single("tiny", "last_layers", 1, SWITCHES)
    assert manifest.stat().st_mtime_ns == before
    study = single.read_study("tiny", None)
    data = study.data.model_copy(update={"generated_seed": 2})
    other = study.model_copy(update={"data": data})
    monkeypatch.setattr(single, "read_study", lambda _name, _root: other)
    lock = root / "build/state/tiny/prepare.lock"
    locked = pytest.raises(EnvironmentProblem, match=r"prepare\.lock: locked by process")
    with only_writer(lock), locked:
        train_single("tiny", "last_layers", 1, SWITCHES)
    train_single("tiny", "last_layers", 1, SWITCHES)
    assert json.loads(manifest.read_text())["generated_seed"] == 2
    assert recorded(root)["asked"]["data"] == read_manifest(root / "data/tiny").digest


@pytest.mark.parametrize(
    ("method", "seed", "switches", "message"),
    [
        ("ful", 1, {}, "--method is 'ful'; allowed: .*last_layers"),
        (None, -1, {}, "--seed is -1; allowed"),
        (None, 1, {"rank": 0}, "--lora-r is 0; allowed: a whole number from 1 to 768"),
        (None, 1, {"alpha": -1.0}, "--lora-alpha is -1.0; allowed: a number above 0"),
        (None, 1, {"query": False, "value": False}, "--lora-query, .* are all off; allowed"),
    ],
)
def test_wrong_switches_are_refused_with_what_is_allowed(root, method, seed, switches, message):
    with pytest.raises(ParameterError, match=message):
        train_single("tiny", method, seed, SWITCHES | switches)
    assert not (root / "singles").exists()
