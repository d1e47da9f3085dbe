import json
import os
import shutil
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
import torch

from lora_replication import doctor
from lora_replication.doctor import CHECKS, examine_study
from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.study import Study
from tests.projects import ROOT, add_study, tree
from tests.study_files import study_params


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project to stand in."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    add_study(tmp_path, "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def seen(check, root=Path(), **changes):
    return check(Study.model_validate(study_params(**changes)), root)


def test_a_line_for_each_check_and_nothing_is_written(project, capsys):
    before = tree(project)
    examine_study("tiny")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok       {c.__name__}" for c in CHECKS]
    examine_study("tiny", as_json=True)
    assert {one["state"] for one in json.loads(capsys.readouterr().out)} == {"ok"}
    assert tree(project) == before


def test_problems_are_named_at_the_end(project, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    add_study(project, "far", train={"device": "cuda"})
    with pytest.raises(EnvironmentProblem, match="1 of 4 checks found a problem: device"):
        examine_study("far")
    with pytest.raises(ParameterError, match="study is 'none'"):
        examine_study("none")


def test_disk(project, monkeypatch):
    usage = namedtuple("usage", "free")
    assert seen(doctor.disk, project)[0] == "ok"
    few, many = (seen(doctor.disk, project, run={"seeds": s})[1] for s in ([1], list(range(99))))
    assert few.split("about")[1] < many.split("about")[1]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100_000_000))
    state, text = seen(doctor.disk, project)
    assert state == "problem"
    assert text.startswith("0.1 GB free at")
    assert text.endswith("needed; free some")
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    assert "can't be written; choose another folder" in seen(doctor.disk, project)[1]


def test_memory(monkeypatch):
    available = namedtuple("memory", "available")
    for amount, state in ((5 * 2**30, "ok"), (2**29, "warning")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda amount=amount: available(amount))
        assert seen(doctor.memory)[0] == state


def test_device(monkeypatch):
    cuda = {"device": "cuda", "precision": "bf16-mixed"}
    assert seen(doctor.device)[0] == "ok"
    assert seen(doctor.device, train={"precision": "fp16-mixed"})[0] == "warning"
    for has_bf16, state in ((True, "ok"), (False, "warning")):
        monkeypatch.setattr(doctor.machine, "multiplies_bf16", lambda has_bf16=has_bf16: has_bf16)
        assert seen(doctor.device, train={"precision": "bf16-mixed"})[0] == state
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Example GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    state, text = seen(doctor.device, train=cuda)
    assert state == "problem"
    assert text.endswith("but Example GPU has no bf16; set fp16-mixed or fp32")
    cuda["precision"] = "fp16-mixed"
    assert seen(doctor.device, train=cuda)[0] == "ok"
    ragged = {"cuda": {"ragged_evaluation": True}}
    state, text = seen(doctor.device, train=cuda, execution=ragged)
    assert state == "problem"
    assert text.endswith("true, but Example GPU has no kernel for it; set it to false")
