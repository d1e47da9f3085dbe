import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lora_replication.jobs import Job
from lora_replication.methods import resolve

from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import file_digest, only_writer
from lora_replication.reading import check_study
from lora_replication.record import read_record
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, predict_logits
from lora_replication.training.run import Bench, perform, record_failure

METHODS = ["last_layers", "lora_default", "full"]
TIMES = {"training_seconds", "evaluation_seconds", "tokens_per_second", "peak_memory_bytes"}


def job_of(study, method, seed=1):
    return Job("method", method, resolve(study, study.methods[method]), seed)


def without_times(record):
    content = record.model_dump(exclude={"where": {"started", "finished"}, "happened": TIMES})
    for epoch in content["happened"]["epochs"]:
        del epoch["seconds"]
    return content


@pytest.fixture
def bench(tiny_study, tiny_root):
    return Bench(tiny_study, tiny_root)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_a_record_predictions_and_an_adapter_that_agree(
    bench, mirror, method, settings
):
    job = job_of(bench.study, method)
    record = perform(bench, job, mirror)
    folder = bench.folder(job)
    assert read_record(folder) == record
    assert sorted(file.name for file in folder.iterdir()) == [
        "adapter.safetensors",
        "predictions.parquet",
        "record.json",
    ]
    assert record.happened.status == "ok"
    table = pq.read_table(folder / "predictions.parquet").to_pydict()
    logits = np.column_stack([table["logit_0"], table["logit_1"]]).astype(np.float32)
    split, labels = np.array(table["split"]), np.array(table["label"])
    for part in ("train", "val", "test"):
        own = split == part
        assert count(logits[own], labels[own]) == getattr(record.happened, part)
        assert np.array_equal(labels[own], bench.tokens[part].labels)
        assert np.array_equal(np.array(table["row"])[own], np.arange(own.sum()))
    loaded = Classifier(bench.encoder, job.settings, seed=999)
    loaded.load_adapter(folder / "adapter.safetensors")
    assert np.array_equal(predict_logits(loaded, bench.tokens["test"])[0], logits[split == "test"])
    best = record.happened.epochs[record.happened.best_epoch - 1]
    assert best.val_accuracy == record.happened.val.fraction


def test_the_same_seed_twice_gives_the_same_files_but_for_times_and_another_seed_others(
    tiny_study, tiny_data, tmp_path, mirror
):
    records, digests = [], []
    for place, seed in (("a", 1), ("b c", 1), ("d", 2)):
        root = tmp_path / place
        root.mkdir()
        (root / "data").symlink_to(tiny_data / "data")
        bench, job = Bench(tiny_study, root), job_of(tiny_study, "lora_default", seed)
        records.append(without_times(perform(bench, job, mirror)))
        digests.append(
            [
                file_digest(bench.folder(job) / name)
                for name in ("predictions.parquet", "adapter.safetensors")
            ]
        )
    assert records[0] == records[1]
    assert digests[0] == digests[1]
    assert records[0]["asked"]["key"] != records[2]["asked"]["key"]
    assert all(one != other for one, other in zip(digests[0], digests[2], strict=True))


@pytest.mark.fault(30)
def test_what_is_recorded_is_not_run_again_and_what_changed_is(bench, mirror, tiny_root):
    job = job_of(bench.study, "last_layers")
    first = perform(bench, job, mirror)
    assert perform(bench, job, mirror) == first
    content = bench.study.model_dump(mode="json")
    content["methods"]["last_layers"]["learning_rate"] = 1e-3
    changed = check_study(content)
    second = perform(Bench(changed, tiny_root), job_of(changed, "last_layers"), mirror)
    assert second.asked.key != first.asked.key
    assert second.asked.settings["learning_rate"] == 1e-3
    assert second.happened.epochs != first.happened.epochs


def test_train_is_evaluated_only_where_asked(bench, mirror):
    job = job_of(bench.study, "last_layers")
    quick = Job(
        "cell", "quick", type(job.settings)(**vars(job.settings) | {"evaluate_train": False}), 1
    )
    record = perform(bench, quick, mirror)
    assert record.happened.train is None
    assert record.happened.test is not None
    assert set(pq.read_table(bench.folder(quick) / "predictions.parquet")["split"].to_pylist()) == {
        "val",
        "test",
    }


@pytest.mark.fault(23)
def test_a_diverged_run_is_recorded_as_such_without_accuracies(bench, mirror, monkeypatch):
    original = Classifier.parts

    def spoiled(classifier, batch):
        return (
            logits * (float("nan") if torch.is_grad_enabled() else 1)
            for logits in original(classifier, batch)
        )

    monkeypatch.setattr(Classifier, "parts", spoiled)
    job = job_of(bench.study, "lora_default")
    happened = perform(bench, job, mirror).happened
    assert (happened.status, happened.first_bad_step, happened.best_epoch) == ("diverged", 1, None)
    assert (happened.train, happened.val, happened.test, happened.one_class) == (
        None,
        None,
        None,
        False,
    )
    assert "NaN" not in (bench.folder(job) / "record.json").read_text()
    assert bench.recorded(job) is not None


@pytest.mark.fault(24)
def test_a_run_that_answers_one_class_is_flagged(bench, mirror, monkeypatch):
    original = Classifier.logits

    def one_sided(self, batch):
        return original(self, batch) + torch.tensor([0.0, 50.0])

    monkeypatch.setattr(Classifier, "logits", one_sided)
    happened = perform(bench, job_of(bench.study, "last_layers"), mirror).happened
    assert happened.status == "ok"
    assert happened.one_class
    assert happened.test.ones == happened.test.reviews


@pytest.mark.fault(26)
def test_a_failure_is_recorded_and_tried_again(bench, mirror):
    job = job_of(bench.study, "last_layers")
    bench.attempt = 3
    happened = record_failure(bench, job, "killed", "out of memory at batch_size 12", 7).happened
    assert (happened.status, happened.error) == ("killed", "out of memory at batch_size 12")
    assert (happened.attempt, happened.peak_memory_bytes) == (3, 7)
    assert bench.recorded(job) is None
    happened = perform(bench, job, mirror).happened
    assert (happened.status, happened.attempt) == ("ok", 3)


@pytest.mark.fault(32)
def test_a_run_that_another_process_writes_is_refused(bench, mirror):
    with (
        only_writer(bench.state / "last_layers" / "seed-1.lock"),
        pytest.raises(EnvironmentProblem, match=f"locked by process {os.getpid()}"),
    ):
        perform(bench, job_of(bench.study, "last_layers"), mirror)


@pytest.mark.fault(20, 38)
def test_altered_tokens_and_another_encoder_are_refused(tiny_study, tiny_data, tmp_path, mirror):
    shutil.copytree(tiny_data / "data", tmp_path / "data")
    tokens = tmp_path / "data/tiny/tokens-test.safetensors"
    content = bytearray(tokens.read_bytes())
    content[-1] ^= 1
    tokens.write_bytes(content)
    with pytest.raises(
        DataError, match=r"tokens-test\.safetensors: has sha256 .* the file was altered"
    ):
        perform(Bench(tiny_study, tmp_path), job_of(tiny_study, "full"), mirror)
    other = check_study(
        tiny_study.model_dump(mode="json")
        | {"model": {"encoder": "tiny-bert", "path": None, "max_tokens": 64}}
    )
    with pytest.raises(DataError, match="the data was prepared for weights with"):
        perform(Bench(other, tmp_path), job_of(other, "full"), mirror)
    assert not (tmp_path / "runs").exists()


RUN = """
import json, os, sys
from contextlib import contextmanager
from pathlib import Path
from lora_replication.jobs import Job
from lora_replication.methods import resolve
from lora_replication.reading import check_study
from lora_replication.training.run import Bench, perform
study = check_study(json.loads(sys.argv[1]))
class Told:
    def epoch(self, epoch):
        print(f"epoch {epoch.epoch}", flush=True)
    def finish(self, folder, record):
        print("finished", flush=True)
@contextmanager
def mirror(asked):
    print("started", flush=True)
    yield Told()
method = sys.argv[2]
perform(Bench(study, Path(sys.argv[3])), Job("method", method, resolve(study, study.methods[method]), 1), mirror)
"""


def start(study, method, root):
    command = [
        sys.executable,
        "-c",
        RUN,
        json.dumps(study.model_dump(mode="json")),
        method,
        str(root),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("method", "moment", "wait"),
    [
        ("lora_default", "epoch 1", 0.0),
        pytest.param("full", "started", 0.4, marks=pytest.mark.slow),
        pytest.param("full", "epoch 1", 0.05, marks=pytest.mark.slow),
        pytest.param("last_layers", "epoch 2", 0.0, marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_resumes_to_the_bits_of_an_unbroken_one(
    tiny_study, tiny_root, mirror, method, moment, wait
):
    """SIGKILL, for real; then the same run again in a new process beside the one that nothing
    disturbed.
    """
    study = check_study(
        tiny_study.model_dump(mode="json")
        | {"train": tiny_study.train.model_dump() | {"epochs": 3}}
    )
    with start(study, method, tiny_root) as process:
        while process.stdout.readline().strip() != moment:
            pass
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
    job = job_of(study, method)
    broken = Bench(study, tiny_root)
    with start(study, method, tiny_root) as process:
        told = process.communicate(timeout=60)[0].split("\n")
    assert process.returncode == 0
    assert "finished" in told or broken.recorded(job)
    whole_root = tiny_root / "whole"
    whole_root.mkdir()
    (whole_root / "data").symlink_to((tiny_root / "data").resolve())
    whole = Bench(study, whole_root)
    with start(study, method, whole_root) as process:
        process.communicate(timeout=60)
    assert without_times(broken.recorded(job)) == without_times(whole.recorded(job))
    for name in ("predictions.parquet", "adapter.safetensors"):
        assert file_digest(broken.folder(job) / name) == file_digest(whole.folder(job) / name)
    assert not list(broken.state.rglob("*.safetensors"))
    assert [file.name for file in broken.folder(job).iterdir() if file.name.startswith(".")] == []
