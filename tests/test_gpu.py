"""The plan for a GPU, whole, on a CPU: inputs in pieces, every part, what comes back."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from benchmarks import gpu, gpu_inputs, gpu_runs
from benchmarks.gpu_runs import open_workspace, spread, units
from benchmarks.results import Results
from lora_replication.data.prepare import prepare
from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError, ParameterError
from lora_replication.grid.space import grid_runs
from lora_replication.plan import progress
from lora_replication.reading import load_study
from lora_replication.record import Record, read_records
from lora_replication.workspace import Workspace
from tests.made_runs import make_workspace
from tests.study_files import read_params, write_params
from tests.tiny_encoders import tiny_encoder

ROOT = Path(__file__).resolve().parents[1]
LABELS = ["full seed 1", "last_layers seed 1", "full seed 2", "last_layers seed 2"]

BLOCK = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
ABSENT = ("dvc", "mlflow", "datasets")
PathFinder.find_spec = lambda name, *rest: None if name in ABSENT else find(name, *rest)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project's folder with a prepared study of a tiny encoder."""
    root = tmp_path_factory.mktemp("project")
    (root / "dvc.yaml").touch()
    folder = root / "studies" / "small"
    shutil.copytree(tiny_encoder("bert"), folder / "tiny")
    file = write_params(
        folder,
        study="small",
        data={"reviews": {"train": 24, "val": 8, "test": 8}},
        model={"path": "tiny"},
        train={"epochs": 1},
        run={"seeds": [1, 2], "methods": ["full", "last_layers"]},
        grid={"alpha": [1, 64], "rank": [1], "evaluate_train": False},
    )
    study = load_study(file)
    prepare(study, locate_encoder(study.model), root / "data" / "small")
    return root


def prepared(project):
    return Workspace(load_study(project / "studies/small/params.yaml"), project)


@pytest.fixture(scope="module")
def pieces(project):
    folder = project / "pieces"
    (folder / "wheels").mkdir(parents=True)
    (folder / "wheels" / "some-1-py3-none-any.whl").write_bytes(b"wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        gpu_inputs.main([str(folder), "--study", "small"])
    return folder


def test_inputs_give_back_what_was_prepared_and_an_altered_piece_is_refused(
    project, pieces, tmp_path
):
    cut, into = tmp_path / "cut", tmp_path / "inputs"
    cut.mkdir()
    gpu_inputs._cut(pieces / "inputs.tar.000", cut, 100_000)
    parts = sorted(cut.glob("inputs.tar.*"))
    whole = (pieces / "inputs.tar.000").read_bytes()
    assert b"".join(part.read_bytes() for part in parts) == whole
    assert len(parts) > 2
    gpu_inputs.main([str(cut), "--join", str(into)])
    for file in (project / "data" / "small").glob("tokens-*"):
        assert (into / "data" / "small" / file.name).read_bytes() == file.read_bytes()
    assert (into / "wheels" / "some-1-py3-none-any.whl").read_bytes() == b"wheel"
    workspace = open_workspace(into, tmp_path / "work")
    assert workspace.encoder.folder == into / "encoder"
    asked = sorted(progress(prepared(project)).asked[:4], key=lambda run: run.seed)
    assert [run.key for (run,) in units(workspace, "study", 1)] == [run.key for run in asked]
    with parts[1].open("r+b") as stream:
        stream.write(b"x")
    with pytest.raises(SystemExit, match=r"inputs\.tar\.001: missing or altered"):
        gpu_inputs.join(cut, tmp_path / "altered")
    assert not (tmp_path / "altered").exists()


@pytest.mark.slow
def test_the_whole_plan_where_dvc_mlflow_and_datasets_are_absent(project, pieces, tmp_path):
    (tmp_path / "absent").mkdir()
    (tmp_path / "absent" / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join(map(str, (tmp_path / "absent", ROOT / "src", ROOT)))
    words = ["--inputs", str(pieces), "--device", "cpu", "--tiny", "--minutes", "600"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words, "--at-once", "2", "--pack", "2"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "study: full seed 1: ok, test" in done.stdout
    folder = tmp_path / "build" / "gpu" / "results"
    names = {f"{part}.json" for part in gpu.PARTS} | {"log.txt", "records.tar.gz"}
    assert {file.name for file in folder.iterdir()} == names
    files = {name: (folder / f"{name}.json").read_bytes() for name in gpu.PARTS}
    parts = {name: Results.model_validate_json(content) for name, content in files.items()}
    assert not any(part.skipped for part in parts.values())
    # Three methods and a pack; on each path one and the pack; two of them killed.
    assert len(parts["smoke"].checks) == 4 + 3 * 2 + 2
    speed = {(m.contender, m.phase, m.pack) for m in parts["speed"].measurements}
    phases, contenders = ("training", "evaluation"), ("article", "peft", "ours")
    alone = {(name, phase, 1) for name in contenders for phase in phases}
    assert speed == alone | {("ours", "training", 2)}
    paths = {(m.cuda_paths, m.pack) for m in parts["speed"].measurements}
    on = (), ("graphs",), ("fused_attention",), ("fused_attention", "graphs")
    assert paths == {*((each, 1) for each in on), ((), 2)}
    assert [line.split(":")[0] for line in parts["study"].finished] == LABELS
    assert len(parts["grid"].finished) == 4
    with tarfile.open(folder / "records.tar.gz") as archive:
        archive.extractall(tmp_path / "runs", filter="data")
    workspace = prepared(project)
    workspace.runs = tmp_path / "runs" / "small"
    state = progress(workspace)
    assert (state.stale, state.copies) == (0, ())
    assert {run.role for run in state.missing} == {"winner"}
    assert all(isinstance(record, Record) and record.happened.test for record in state.done)
    found = read_records(workspace.runs)
    assert len(found) == 8
    assert all((place / "predictions.parquet").is_file() for place, _ in found)
    assert not list(workspace.runs.rglob("adapter.safetensors"))


def test_what_time_does_not_allow_is_named(pieces, tmp_path, capsys):
    words = ["--inputs", str(pieces), "--device", "cpu", "--tiny", "--minutes", "1e-6"]
    gpu.main([*words, "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    files = {name: (tmp_path / "out" / f"{name}.json").read_text() for name in gpu.PARTS}
    skipped = {name: json.loads(content)["skipped"] for name, content in files.items()}
    assert (len(skipped["smoke"]), len(skipped["speed"])) == (10, 5)
    assert [line for line in skipped["study"] if "process" not in line] == LABELS
    assert "grid: not done: r1-a" in capsys.readouterr().out


def test_a_run_that_fails_is_recorded_and_costs_no_other(pieces, tmp_path, monkeypatch):
    gpu_inputs.join(pieces, tmp_path / "inputs")
    tried, clock = [], iter([0, 0, 50, 50, 50, 60, 60, 95])

    def perform(workspace, runs, mirror):
        tried.append(runs[0].label)
        if len(tried) == 1:
            raise RuntimeError("CUDA out of memory")
        return []

    monkeypatch.setattr(gpu_runs, "perform", perform)
    monkeypatch.setattr(gpu_runs.time, "monotonic", lambda: next(clock))
    gpu_runs.at_work(tmp_path / "inputs", tmp_path, "study", 1, 100.0, 1)
    # The first took 50 seconds, the second 10, and at 60 there is no time for another 50.
    assert tried == LABELS[:2]
    ((_, record),) = read_records(tmp_path / "runs")
    assert (record.happened.status, record.happened.error) == ("failed", "CUDA out of memory")


def test_the_dry_run_prints_each_part_with_its_budget(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    gpu.main(["--minutes", "10", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(gpu.PARTS)
    assert lines[2].startswith("study    240 s, until   504 s")
    assert not list(tmp_path.iterdir())
    assert sum(share for share, _ in gpu.PARTS.values()) < 1


def test_nonsense_is_refused(project, tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match="allowed: above 0"):
        gpu.main(["--minutes", "0"])
    asked = gpu._read(["--device", "cuda"])
    found = gpu._runs("study", prepared(project), asked, 0.0)
    assert found == {"skipped": ["study: the study asks for cpu"]}
    shutil.copytree(project, tmp_path / "copy", ignore=shutil.ignore_patterns("pieces"))
    (tmp_path / "copy" / "data" / "small" / "tokens-val.safetensors").write_bytes(b"")
    monkeypatch.chdir(tmp_path / "copy")
    with pytest.raises(DataError, match="the file was altered"):
        gpu_inputs.pack(tmp_path / "pieces", "small", 60)


def test_any_beginning_of_the_grid_is_spread_over_its_space():
    runs = grid_runs(make_workspace(grid=read_params()["grid"]))
    order = spread(runs)
    assert len(order) == 576
    assert sorted(run.name for run in order) == sorted(run.name for run in runs)
    assert order == spread(runs)
    # Alpha 1 or 64, MLP or not: after the first comes the opposite corner.
    small = make_workspace(grid={"alpha": [1, 64], "rank": [1]})
    first, second = (run.settings.lora for run in spread(grid_runs(small))[:2])
    assert first.alpha != second.alpha
    assert first.targets != second.targets
