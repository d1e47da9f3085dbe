"""The grid on a real Ray: one started for the sweep, and a cluster of two nodes on loopback."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from grid_faults import Faults, is_running, left_behind, soon
from test_executors import NAMES, happened, run_sweep, start_sweep, study_with, unbroken, wait_for  # noqa: F401  # a fixture

from lora_replication.errors import EnvironmentProblem, IncompleteError
from lora_replication.grid.executors import on_ray
from lora_replication.grid.space import cell_jobs
from lora_replication.records import RECORD, read_record
from lora_replication.runs import Bench

pytest.importorskip("ray", reason="needs the package ray (pip install 'ray>=2.52')")

RAY = [sys.executable, "-m", "ray.scripts.scripts"]
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "a-token-of-the-tests-which-nobody-else-knows", "RAY_USAGE_STATS_ENABLED": "0"}


@pytest.fixture(autouse=True)
def no_token_left(monkeypatch):
    """What the executor puts into the environment goes with the test."""
    for name in TOKEN:
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)


def start_node(cache: Path, *arguments: str) -> subprocess.Popen:
    """``ray start`` of a node with one CPU on loopback; ``cache`` is its user's cache folder."""
    return subprocess.Popen(
        [*RAY, "start", *arguments, "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1", "--disable-usage-stats",
         "--object-store-memory=100000000"],
        env=os.environ | TOKEN | {"XDG_CACHE_HOME": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def kill_node(node: subprocess.Popen) -> None:
    """As a power cut would: everything of it at once."""
    tree = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
    for process in tree:
        process.kill()
    node.wait(10)


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_two_nodes_one_killed_in_mid_sweep(tiny_root, unbroken, tmp_path, monkeypatch):  # noqa: F811
    address = f"127.0.0.1:{free_port()}"
    head = start_node(tmp_path / "cache a", "--head", f"--port={address.split(':')[1]}", "--include-dashboard=false")
    wait_for(head, "Ray runtime started")
    other = start_node(tmp_path / "cache b", f"--address={address}")
    wait_for(other, "Ray runtime started")
    for name, value in TOKEN.items():
        monkeypatch.setenv(name, value)
    told = []

    def say(text):
        told.append(text)
        if "grid: 4 of 8" in text:
            kill_node(other)

    mirrored = Faults(tiny_root)
    try:
        run_sweep(tiny_root, mirrored, say, executor="ray", ray_address=address, pack=1)
    finally:
        if other.poll() is None:
            kill_node(other)
        kill_node(head)
    assert left_behind(tiny_root / "runs", "tiny") == unbroken
    assert sorted(mirrored.started) == sorted([*(f"{name} seed 1" for name in NAMES), "grid_winner seed 101"])
    assert max(happened(tiny_root, name).attempt for name in NAMES) == 2
    for cache in ("cache a", "cache b"):
        copies = list((tmp_path / cache).rglob("model.safetensors"))
        assert len(copies) == 1
    folders = [folder for folder in (tiny_root / "runs").rglob("seed-*")]
    assert all(sorted(file.name for file in folder.iterdir()) == ["adapter.safetensors", "predictions.parquet", "record.json"] for folder in folders)


def test_a_ray_of_its_own(tiny_root, unbroken):  # noqa: F811
    """Killed workers, a configuration that can't be trained, one that hangs; then what is missing is trained."""
    study = study_with(executor="ray", pack=3, pack_timeout=20)
    bench = Bench(study, tiny_root)
