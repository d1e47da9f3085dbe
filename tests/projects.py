"""A project of a test's own, in which commands run as people run them, and how to look at it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.study_files import write_params

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("lora-replication")

SMALL = {
    "study": "small",
    "root": "../..",
    "data": {"reviews": {"train": 24, "val": 12, "test": 12}},
    "train": {"epochs": 1},
    "run": {"methods": ["last_layers", "full"]},
    "grid": {"alpha": [1], "mlp": [False]},
}  # fmt: skip
"""Five runs: two methods, two configurations of the grid, the winner on a fresh seed."""

PLACES = [
    "full/seed-1", "grid/r1-a1-query-value/seed-1", "grid/r2-a1-query-value/seed-1",
    "grid_winner/seed-101", "last_layers/seed-1",
]  # fmt: skip


def checkout(folder: Path, *, git: bool = True) -> Path:
    """A project at a path with a space and an accent, with the study ``small``."""
    root = folder / "d 2 é"
    root.mkdir()
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".gitattributes", ".dvcignore"):
        shutil.copy(ROOT / name, root)
    (root / ".dvc").mkdir()
    for name in (".gitignore", "config"):
        shutil.copy(ROOT / ".dvc" / name, root / ".dvc")
    for name in ("src", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    add_study(root, "small", **SMALL)
    if git:
        commit(root, "start")
    return root


def add_study(project: Path, name: str, **changes: object) -> Path:
    """Write a study of the project; its params file."""
    file = write_params(project / "studies" / name, **{"study": name, "root": "../.."} | changes)
    shutil.copy(ROOT / "dvc.yaml", file.parent)
    return file


def commit(root: Path, message: str) -> None:
    """Commit everything that git does not ignore."""
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", message]):
        subprocess.run(["git", *words], cwd=root, check=True)


def environment(root: Path, **more: str) -> dict[str, str]:
    """The project's own code and nothing of ours."""
    left_out = ("MLFLOW_TRACKING_URI", "IMDB_ARCHIVE", "DVC_SITE_CACHE_DIR")
    clean = {name: value for name, value in os.environ.items() if name not in left_out}
    source = {"PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    path = f"{COMMAND.parent}{os.pathsep}{os.environ['PATH']}"
    return clean | source | {"PATH": path, "PYTHONDONTWRITEBYTECODE": "1"} | more


def run(
    root: Path, *arguments: str, timeout: float = 900, cwd: Path | None = None, **more: str
) -> subprocess.CompletedProcess[str]:
    """``lora-replication`` with these arguments in the project."""
    return _call([COMMAND, *arguments], cwd or root, environment(root, **more), timeout)


def _call(
    command: list[Any], cwd: Path, env: dict[str, str], timeout: float = 900
) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": timeout}
    return subprocess.run(command, cwd=cwd, env=env, check=False, **options)


def dvc(root: Path, *arguments: str, study: str = "small") -> subprocess.CompletedProcess[str]:
    """Plain ``dvc`` in the folder of a study."""
    site_cache = {"DVC_SITE_CACHE_DIR": str(root / ".dvc" / "site-cache")}
    command = [sys.executable, "-m", "dvc", *arguments]
    return _call(command, root / "studies" / study, environment(root, **site_cache))


def tree(folder: Path) -> dict[str, str]:
    """sha256 of every file below ``folder``."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def places(root: Path, study: str = "small") -> list[str]:
    """Where the study has records."""
    runs = root / "runs" / study
    return sorted(str(file.parent.relative_to(runs)) for file in runs.rglob("record.json"))


def changed(root: Path) -> list[str]:
    """What git would show."""
    status = ["git", "status", "--porcelain", "-uall"]
    done = subprocess.run(status, cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def metrics(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, float]]:
    """What ``dvc metrics show --json`` prints, by method."""
    files = json.loads(done.stdout)[""]["data"]
    return {Path(name).stem: content.get("data", {}) for name, content in files.items()}
