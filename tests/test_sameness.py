"""Padded arithmetic under this project's masks: the same experiment, and what is said of it."""

import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks import sameness
from benchmarks.results import Results
from lora_replication.data.prepare import prepare
from lora_replication.encoders import locate_encoder
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.reading import load_study
from lora_replication.training.checkpoints import Training
from tests.tiny_encoders import tiny_encoder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with a prepared study of a tiny encoder, in which the test runs."""
    (tmp_path / "dvc.yaml").touch()
    folder = tmp_path / "studies" / "tiny"
    folder.mkdir(parents=True)
    content = YAML(typ="safe", pure=True).load((ROOT / "studies/demo/params.yaml").read_text())
    content |= {"study": "tiny", "title": "Generated reviews"}
    content["data"]["reviews"] = {"train": 24, "val": 8, "test": 24}
    content["model"] |= {"encoder": "folder", "path": "encoder", "max_tokens": 64}
    content["train"] |= {"epochs": 1, "precision": "fp32"}
    shutil.copytree(tiny_encoder("distilbert"), folder / "encoder")
    save(content, folder)
    study = load_study(folder / "params.yaml")
    prepare(study, locate_encoder(study.model), tmp_path / "data" / "tiny")
    monkeypatch.chdir(tmp_path)
    return content, folder


def save(content, folder):
    with (folder / "params.yaml").open("w") as stream:
        YAML().dump(content, stream)


def test_both_arithmetics_are_trained_and_agree(project, tmp_path):
    words = ["--methods", "full", "last_layers", "--seeds", "1", "2", "--folder", "results"]
    sameness.main(["tiny", *words])
    (results,) = Results.read_all(tmp_path / "results")
    assert results.name == f"sameness-{results.machine.name}-tiny-same-masks"
    assert [(each.method, each.seeds, each.reviews) for each in results.comparisons] == [
        ("full", (1, 2), 24),
        ("last_layers", (1, 2), 24),
    ]
    assert all(each.padded == each.ours for each in results.comparisons)


def test_a_machine_may_compute_in_a_precision_of_its_own(project, monkeypatch):
    computed = []
    monkeypatch.setattr(sameness, "show", lambda *_: None)
    monkeypatch.setattr(
        sameness, "_correct", lambda _w, run, _kind: computed.append(run.settings.precision) or 1
    )
    sameness.main(["tiny", "--seeds", "1"])
    sameness.main(["tiny", "--seeds", "1", "--precision", "bf16-mixed"])
    assert computed == ["fp32"] * 2 + ["bf16-mixed"] * 2


def test_runs_that_diverge_are_no_result(project, monkeypatch):
    monkeypatch.setattr(sameness, "train", lambda *_: [Training(diverged=True)])
    match = "lora_default seed 7 diverged in SameMasksClassifier"
    with pytest.raises(IncompleteError, match=match):
        sameness.main(["tiny", "--seeds", "7"])


def test_dropout_of_lora_is_refused(project):
    content, folder = project
    content["methods"]["lora_default"]["lora"]["dropout"] = 0.1
    save(content, folder)
    match = r"methods\.lora_default\.lora\.dropout is 0\.1; allowed here: 0"
    with pytest.raises(ParameterError, match=match):
        sameness.main(["tiny"])
