import json
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from lora_replication import doctor
from lora_replication.doctor import CHECKS, examine_study
from lora_replication.errors import DataError, EnvironmentProblem, ParameterError
from lora_replication.study import Study
from tests.projects import ROOT, add_study, tree
from tests.study_files import study_params

DEAD = "http://127.0.0.1:9"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project to stand in, without hub or tracking server."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    add_study(tmp_path, "tiny")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "IMDB_ARCHIVE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def seen(check, root=Path(), **changes):
    finding = check(Study.model_validate(study_params(**changes)), root)
    return finding.state, finding.text, finding.exit_code


def test_a_study_that_needs_nothing_has_a_line_for_each_check_and_nothing_is_written(
    project, capsys
):
    before = tree(project)
    examine_study("tiny")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"ok       {c.__name__}" for c in CHECKS]
    examine_study("tiny", as_json=True)
    assert {one["state"] for one in json.loads(capsys.readouterr().out)} == {"ok"}
    assert tree(project) == before


def test_the_worst_problem_gives_the_code(project, monkeypatch):
    monkeypatch.setenv("PATH", "")
    add_study(project, "far", data={"source": "archive"}, train={"device": "cuda"})
    with pytest.raises(EnvironmentProblem, match=r"2 of 6 checks .*: device, reviews"):
        examine_study("far")
    add_study(project, "near", data={"source": "archive"})
    with pytest.raises(DataError, match="1 of 6 checks found a problem: reviews"):
        examine_study("near")
    with pytest.raises(ParameterError, match="study is 'none'"):
        examine_study("none")


def test_disk(project, monkeypatch):
    usage = namedtuple("usage", "free")
    assert seen(doctor.disk, project)[0] == "ok"
    few, many = (seen(doctor.disk, project, run={"seeds": s})[1] for s in ([1], list(range(99))))
    assert few.split("about")[1] < many.split("about")[1]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100_000_000))
    state, text, code = seen(doctor.disk, project)
    assert (state, code) == ("problem", 4)
    assert text.startswith("0.1 GB free at")
    assert text.endswith("needed; free some")
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    assert "can't be written; choose another folder" in seen(doctor.disk, project)[1]


def test_memory(monkeypatch):
    available = namedtuple("memory", "available")
    for amount, state in ((5 * 2**30, "ok"), (2**29, "warning")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda amount=amount: available(amount))
        assert seen(doctor.memory)[0] == state


def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    """An nvidia-smi that answers so."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")


def test_device(tmp_path, monkeypatch):
    cuda = {"device": "cuda", "precision": "bf16-mixed"}
    assert seen(doctor.device)[0] == "ok"
    assert seen(doctor.device, train={"precision": "fp16-mixed"})[0] == "warning"
    for has_bf16, state in ((True, "ok"), (False, "warning")):
        monkeypatch.setattr(doctor.machine, "multiplies_bf16", lambda has_bf16=has_bf16: has_bf16)
        assert seen(doctor.device, train={"precision": "bf16-mixed"})[0] == state
    gpu(tmp_path, monkeypatch, "Example GPU, 7.5, 15000")
    state, text, code = seen(doctor.device, train=cuda)
    assert (state, code) == ("problem", 4)
    assert "Example GPU (capability 7.5) has no bf16; set fp16-mixed or fp32" in text
    assert seen(doctor.device, train=cuda | {"precision": "fp16-mixed"})[0] == "ok"
    gpu(tmp_path, monkeypatch, "")
    assert "nvidia-smi shows no GPU; set train.device to cpu" in seen(doctor.device, train=cuda)[1]


def test_reviews(project, monkeypatch):
    archive = {"source": "archive"}
    assert seen(doctor.reviews)[0] == "ok"
    state, text, code = seen(doctor.reviews, data=archive)
    assert (state, code) == ("problem", 3)
    assert "IMDB_ARCHIVE" in text
    monkeypatch.setenv("IMDB_ARCHIVE", str(project / "a.tar.gz"))
    assert "a.tar.gz is not there" in seen(doctor.reviews, data=archive)[1]
    (project / "a.tar.gz").touch()
    assert seen(doctor.reviews, data=archive)[0] == "ok"
    none = {"source": "folder", "path": str(project / "none")}
    assert seen(doctor.reviews, data=none)[2] == 3
    assert seen(doctor.reviews, data={"source": "parquet", "path": str(project)})[0] == "ok"
    prepared = project / "data" / "tiny" / "manifest.json"
    prepared.parent.mkdir(parents=True)
    prepared.touch()
    assert "prepared in" in seen(doctor.reviews, project, data={"source": "hub"})[1]


ASK = (
    "import sys; from pathlib import Path; from lora_replication import doctor\n"
    "from lora_replication.reading import load_study\n"
    "study = load_study(Path(sys.argv[1]))\n"
    "for check in (doctor.reviews, doctor.encoder): print(check(study, Path(sys.argv[2])))"
)


@pytest.mark.parametrize("is_there", [True, False])
def test_the_hub_and_its_cache(is_there, tmp_path):
    """In a process of its own, because the hub's library reads its settings at import."""
    home = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-c", ASK, str(ROOT / "params.yaml"), str(tmp_path)]
    with socket.create_server(("127.0.0.1", 0)) as hub:
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}" if is_there else DEAD
        variables = os.environ | home | {"HF_ENDPOINT": endpoint}
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    state, words = (
        ("ok", f"will be fetched from {endpoint}")
        if is_there
        else ("problem", "no hub answers; connect, or set")
    )
    names = ("stanfordnlp/imdb", "distilbert/distilbert-base-uncased")
    for line, name in zip(done.stdout.splitlines(), names, strict=True):
        assert line.startswith(state)
        assert name in line
        assert words in line


def test_encoder(project):
    assert seen(doctor.encoder)[0] == "ok"
    (project / "config.json").touch()
    model = {"encoder": "folder", "path": str(project)}
    state, text, code = seen(doctor.encoder, model=model)
    assert (state, code) == ("problem", 3)
    assert text.endswith("lacks model.safetensors, vocab.txt; see model.path")


def test_tracking(project, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert seen(doctor.tracking, project)[0] == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD.replace("//", "//me:secret@"))
    state, text, _ = seen(doctor.tracking, project)
    assert state == "warning"
    assert "lora-replication sync" in text
    assert "secret" not in text
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert seen(doctor.tracking, project)[0] == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    assert seen(doctor.tracking, project)[0] == "warning"


def test_it_loads_nothing_heavy():
    heavy = "{'torch', 'transformers', 'mlflow', 'scipy', 'pandas'}"
    code = f"import sys, lora_replication.doctor; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
