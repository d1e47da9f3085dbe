import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import only_writer
from lora_replication.plan import method_run
from lora_replication.record import ADAPTER, PREDICTIONS, RECORD, checked_file, read_record
from lora_replication.study import Study
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, predict_logits
from lora_replication.training.run import perform, record_failure
from lora_replication.workspace import Workspace
from tests.study_files import study_params
from tests.training_runs import spoil_outputs


@pytest.fixture
def workspace(tiny_study, tiny_root):
    return Workspace(tiny_study, tiny_root)


def one(workspace, mirror, method="last_layers", seed=1):
    return perform(workspace, [method_run(workspace, method, seed)], mirror)[0]


@pytest.mark.parametrize("method", ["last_layers", "lora_default", "full"])
def test_a_run_leaves_a_record_predictions_and_an_adapter_that_agree(workspace, mirror, method):
    record = one(workspace, mirror, method)
    folder = workspace.folder(record.asked)
    assert read_record(folder) == record
    assert sorted(file.name for file in folder.iterdir()) == [ADAPTER, PREDICTIONS, RECORD]
    assert record.happened.status == "ok"
    table = pq.read_table(checked_file(folder, record, PREDICTIONS)).to_pydict()
    logits = np.column_stack([table["logit_0"], table["logit_1"]]).astype(np.float32)
    split, labels = np.array(table["split"]), np.array(table["label"])
    for part in ("train", "val", "test"):
        own = split == part
        assert count(logits[own], labels[own]) == getattr(record.happened, part)
        assert np.array_equal(labels[own], workspace.tokens[part].labels)
        assert np.array_equal(np.array(table["row"])[own], np.arange(own.sum()))
    loaded = Classifier(workspace.encoder, record.asked.settings, seed=999)
    loaded.load_adapter(checked_file(folder, record, ADAPTER))
    again = predict_logits(loaded, workspace.tokens["test"])[0]
    assert np.array_equal(again, logits[split == "test"])
    best = record.happened.epochs[record.happened.best_epoch - 1]
    assert best.val_accuracy == record.happened.val.fraction


@pytest.mark.fault(30)
def test_a_recorded_run_is_skipped_unless_something_changed(workspace, mirror, tiny_root):
    first = one(workspace, mirror)
    assert one(workspace, mirror) == first
    study = Study.model_validate(study_params(methods={"last_layers": {"learning_rate": 1e-3}}))
    second = one(Workspace(study, tiny_root), mirror)
    assert second.asked.key != first.asked.key
    assert second.asked.settings.learning_rate == 1e-3
    assert second.happened.epochs != first.happened.epochs


def test_a_pack_leaves_a_record_for_each_run_that_was_missing(workspace, mirror, settings):
    settings_of = [settings(lora={"rank": rank}, evaluate_train=False) for rank in (1, 2, 3)]
    runs = [workspace.run("cell", f"r{s.lora.rank}", s, 1) for s in settings_of]
    (before,) = perform(workspace, runs[1:2], mirror)
    records = perform(workspace, runs, mirror, attempt=2)
    assert [record.asked for record in records] == runs
    assert records[1] == before
    assert [record.happened.pack for record in records] == [2, 1, 2]
    assert [record.happened.attempt for record in records] == [2, 1, 2]
    for run, record in zip(runs, records, strict=True):
        assert (record.happened.train, record.happened.test.reviews) == (None, 24)
        split = pq.read_table(workspace.folder(run) / PREDICTIONS)["split"].to_pylist()
        assert split == ["val"] * 24 + ["test"] * 24


@pytest.mark.fault(23)
def test_a_diverged_run_is_recorded_without_accuracies(workspace, mirror, monkeypatch):
    spoil_outputs(monkeypatch, 1, float("nan"))
    record = one(workspace, mirror, "lora_default")
    happened, folder = record.happened, workspace.folder(record.asked)
    assert (happened.status, happened.first_bad_step, happened.best_epoch) == ("diverged", 1, None)
    assert happened.train is happened.val is happened.test is None
    assert not happened.one_class
    assert "NaN" not in (folder / RECORD).read_text()
    assert pq.read_table(checked_file(folder, record, PREDICTIONS)).num_rows == 0
    assert workspace.done(record.asked) == record


@pytest.mark.fault(24)
def test_a_run_that_predicts_a_single_class_is_flagged(workspace, mirror, monkeypatch):
    original, shift = Classifier.logits, torch.tensor([0.0, 50.0])
    monkeypatch.setattr(Classifier, "logits", lambda self, batch: original(self, batch) + shift)
    happened = one(workspace, mirror).happened
    assert (happened.status, happened.one_class) == ("ok", True)
    assert happened.test.ones == happened.test.reviews


@pytest.mark.fault(26)
def test_a_failure_is_recorded_and_tried_again(workspace, mirror):
    run = method_run(workspace, "last_layers", 1)
    happened = record_failure(workspace, run, "killed", "at batch_size 12", 7, attempt=3).happened
    assert (happened.status, happened.error) == ("killed", "at batch_size 12")
    assert (happened.attempt, happened.peak_memory_bytes) == (3, 7)
    assert workspace.done(run) is None
    assert one(workspace, mirror).happened.status == "ok"


@pytest.mark.fault(32)
def test_a_run_that_another_process_writes_is_refused(workspace, mirror):
    with (
        only_writer(workspace.state / "last_layers" / "seed-1.lock"),
        pytest.raises(EnvironmentProblem, match=f"locked by process {os.getpid()}"),
    ):
        one(workspace, mirror)


@pytest.mark.fault(20, 38)
def test_altered_tokens_and_another_encoder_are_refused(tiny_study, tiny_data, tmp_path, mirror):
    shutil.copytree(tiny_data / "data", tmp_path / "data")
    (tmp_path / "data/tiny/tokens-test.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"tokens-test\.safetensors: has sha256"):
        one(Workspace(tiny_study, tmp_path), mirror)
    minilm = {"encoder": "minilm", "path": None, "max_tokens": 64}
    other = Study.model_validate(study_params() | {"model": minilm})
    with pytest.raises(DataError, match="not those that the data was prepared for"):
        one(Workspace(other, tmp_path), mirror)
    assert not (tmp_path / "runs").exists()
