"""The grid on a real Ray: one started for the sweep, and a cluster of two nodes on loopback. Each
driver is a process of its own.
"""

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from grid_faults import Faults, left_behind, soon
from process_tree import descendants, is_running
from test_executors import NAMES, ROOT, happened, start_sweep, study_with, unbroken, wait_for  # noqa: F401  # unbroken is a fixture

from lora_replication.grid.executors import open_executor
from lora_replication.grid.space import cell_jobs
from lora_replication.process import kill_tree
from lora_replication.training.run import Bench

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not importlib.util.find_spec("ray"),
        reason="needs the package ray (pip install 'ray>=2.52')",
    ),
]

TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of the tests alone"}


def start_node(cache: Path, *arguments: str) -> subprocess.Popen:
    """``ray start`` of a node with one CPU on loopback; ``cache`` is its user's cache folder."""
    node = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", *arguments, "--block", "--node-ip-address=127.0.0.1", "--num-cpus=1",
         "--num-gpus=0", "--disable-usage-stats", "--object-store-memory=100000000"],
        env=os.environ | TOKEN | {"XDG_CACHE_HOME": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(node, "Ray runtime started")
    return node


def kill_node(node: subprocess.Popen) -> None:
    """As a power cut would: everything of it at once."""
    kill_tree(node.pid)
    node.wait(10)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.fault(28)
def test_two_nodes_one_killed_in_mid_sweep(tiny_root, unbroken, tmp_path):  # noqa: F811
    address = f"127.0.0.1:{free_port()}"
    nodes = [
        start_node(
            tmp_path / "cache a",
            "--head",
            f"--port={address.split(':')[1]}",
            "--include-dashboard=false",
        )
    ]
    nodes.append(start_node(tmp_path / "cache b", f"--address={address}"))
    try:
        with start_sweep(
            tiny_root, {}, TOKEN, executor="ray", ray_address=address, pack=1
        ) as driver:
            wait_for(driver, "grid: 4 of 8")
            kill_node(nodes.pop())
            out, err = driver.communicate(timeout=100)
            assert driver.returncode == 0, err
        with start_sweep(
            tiny_root,
            {},
            TOKEN,
            executor="ray",
            ray_address=address,
            ray_cpus=9,
            device="cuda",
            ray_gpu_share=0.5,
        ) as driver:
            assert (
                "no machine of the Ray cluster has grid.ray_cpus = 9 CPUs and 0.5 GPUs"
                in driver.communicate(timeout=60)[1]
            )
            assert driver.returncode == 4
    finally:
        for node in nodes:
            kill_node(node)
    assert "8 of 8 configurations done, 0 diverged" in out
    assert left_behind(tiny_root / "runs", "tiny") == unbroken
    assert sorted(Faults(tiny_root).started) == sorted(
        [*(f"{name} seed 1" for name in NAMES), "grid_winner seed 101"]
    )
    for cache in ("cache a", "cache b"):
        assert len(list((tmp_path / cache).rglob("model.safetensors"))) == 1
    for folder in (tiny_root / "runs").rglob("seed-*"):
        assert sorted(file.name for file in folder.iterdir()) == [
            "adapter.safetensors",
            "predictions.parquet",
            "record.json",
        ]


def altered(job, name, rank=None, **changes):
    """``job`` under another name, with other settings, and a rank that is not checked."""
    lora = job.settings.lora.model_copy(update={"rank": rank} if rank else {})
    return replace(job, name=name, settings=replace(job.settings, lora=lora, **changes))


def fail_on_ray(root: Path) -> None:
    """A driver: a run that no memory holds, one that takes too long, one whose worker is killed;
    prints what came of each, in seconds.
    """
    jobs = cell_jobs(study_with())
    large, endless = (
        altered(jobs[0], "large", rank=10**13),
        altered(jobs[0], "endless", epochs=10_000),
    )
    robbed, beside = altered(jobs[0], "robbed", epochs=20), altered(jobs[3], "beside", epochs=20)
    bench = Bench(study_with(executor="ray", attempts=1, pack_timeout=8), root)
    found, seconds = {}, 0.0
    with open_executor(bench, Faults(root)) as executor:
        for packs in ([[jobs[0], large], [endless]], [[jobs[1]]], [[jobs[2]]], [[robbed, beside]]):
            begun = time.monotonic()
            if packs[0][0] == robbed:
                assert soon(
                    lambda: not ray_workers(os.getpid())
                )  # the worker of the pack before may still be ending
                print("ready", flush=True)
            found |= {
                job.name: record.happened.model_dump(include={"status", "attempt", "error"})
                for job, record in executor(packs)
            }
            seconds = time.monotonic() - begun if packs[0][0] == jobs[2] else seconds
    print(json.dumps([found, seconds, os.environ["RAY_AUTH_MODE"]]))


def ray_workers(driver: int) -> list[int]:
    return [
        pid for pid, name in descendants(driver, "name").items() if name.startswith("ray::run_pack")
    ]


def test_on_a_ray_of_its_own_packs_fail_hang_and_are_killed(tiny_root):
    command = "import sys, pathlib; sys.path.insert(0, sys.argv[1]); import test_ray; test_ray.fail_on_ray(pathlib.Path(sys.argv[2]))"
    arguments = [sys.executable, "-c", command, ROOT / "tests", tiny_root]
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as driver:
        wait_for(driver, "ready")
        assert soon(lambda: ray_workers(driver.pid))
        children = descendants(driver.pid, "name")
        for worker in ray_workers(driver.pid):
            os.kill(worker, signal.SIGKILL)
        out, err = driver.communicate(timeout=60)
    assert driver.returncode == 0, err
    found, seconds, auth = json.loads(out.splitlines()[-1])
    assert {name: (one["status"], one["attempt"]) for name, one in found.items()} == {
        "large": ("failed", 2), "endless": ("timeout", 1), "robbed": ("ok", 2),
        NAMES[0]: ("ok", 2), NAMES[1]: ("ok", 1), NAMES[2]: ("ok", 1), "beside": ("ok", 2),
    }  # fmt: skip
    assert "RuntimeError at batch_size 12, 1 in the pack, peak memory " in found["large"]["error"]
    assert "grid.pack_timeout, 8 seconds" in found["endless"]["error"]
    assert "robbed seed 1 and 1 more killed: its Ray worker was lost" in err
    assert seconds < 1.2  # with the training of a tiny run: less than 2 % of a minute
    assert auth == "token"
    assert soon(lambda: not any(is_running(pid) for pid in children))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_driver_leaves_no_ray_behind(tiny_root, number, code):
    with start_sweep(tiny_root, executor="ray", pack=1) as driver:
        wait_for(driver, "grid: 2 of 8")
        children = descendants(driver.pid, "name")
        driver.send_signal(number)
        assert driver.wait(10) == code
    # After SIGKILL two idle agents of Ray's own wait for a minute whether it comes back.
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"} if number == signal.SIGKILL else set()
    assert soon(
        lambda: not any(is_running(pid) for pid, name in children.items() if name not in agents)
    )
    assert len(list((tiny_root / "runs").rglob("record.json"))) >= 2


def test_no_ray_at_the_address(tiny_root):
    with start_sweep(tiny_root, executor="ray", ray_address=f"127.0.0.1:{free_port()}") as driver:
        _, err = driver.communicate(timeout=60)
    assert driver.returncode == 4
    assert "no Ray there" in err
