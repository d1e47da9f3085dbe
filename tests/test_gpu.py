"""The plan for a GPU, whole, on a CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu
from benchmarks.results import Results
from lora_replication.errors import ParameterError
from tests.projects import PLACES, checkout, environment, places
from tests.tiny_encoders import tiny_encoder

ROOT = Path(__file__).resolve().parents[1]
WORDS = ["--device", "cpu", "--tiny", str(tiny_encoder("bert"))]

BLOCK = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec
ABSENT = ("dvc", "mlflow", "datasets")
PathFinder.find_spec = lambda name, *rest: None if name in ABSENT else find(name, *rest)
"""


@pytest.mark.slow
def test_the_whole_plan_where_dvc_mlflow_and_datasets_are_absent(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    path = os.pathsep.join(map(str, (tmp_path, ROOT / "src", ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *WORDS, "--minutes", "600"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = tmp_path / "build" / "gpu"
    assert {f.name for f in folder.iterdir()} == {"smoke.json", "speed.json", "log.txt"}
    files = {name: (folder / f"{name}.json").read_bytes() for name in gpu.PARTS}
    parts = {name: Results.model_validate_json(content) for name, content in files.items()}
    assert not any(part.skipped for part in parts.values())
    assert len(parts["smoke"].checks) == 5  # three methods and a pack; one of them killed
    speed = {(m.contender, m.phase, m.pack) for m in parts["speed"].measurements}
    phases, contenders = ("training", "evaluation"), ("article", "peft", "ours")
    alone = {(name, phase, 1) for name in contenders for phase in phases}
    assert speed == alone | {("ours", "training", 2)}


@pytest.mark.slow
def test_a_study_is_its_stages_where_dvc_mlflow_and_datasets_are_absent(tmp_path):
    root = checkout(tmp_path, git=False)
    (tmp_path / "sitecustomize.py").write_text(BLOCK)
    source = environment(root, PYTHONPATH=os.pathsep.join([str(tmp_path), "../../src"]))
    for words in ("prepare.py", "train.py --method full", "train.py --method last_layers",
                  "gridsearch.py"):  # fmt: skip
        command = [sys.executable, *f"../../stages/{words}".split()]
        subprocess.run(command, cwd=root / "studies" / "small", env=source, check=True)
    assert places(root) == PLACES


def test_what_time_does_not_allow_is_named(tmp_path, capsys):
    gpu.main([*WORDS, "--minutes", "1e-6", "--out", str(tmp_path)])
    files = {name: (tmp_path / f"{name}.json").read_text() for name in gpu.PARTS}
    skipped = {name: json.loads(content)["skipped"] for name, content in files.items()}
    assert (len(skipped["smoke"]), len(skipped["speed"])) == (4, 2)
    assert "speed: not done: " in capsys.readouterr().out


def test_the_dry_run_prints_each_part_with_its_budget_and_nonsense_is_refused(capsys, tmp_path):
    gpu.main(["--minutes", "10", "--dry-run", "--out", str(tmp_path / "out")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(gpu.PARTS)
    assert lines[1].startswith("speed    360 s, until   570 s")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ParameterError, match="allowed: above 0"):
        gpu.main(["--minutes", "0"])
