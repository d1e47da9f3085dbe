"""The grid on a real Ray: one started for the sweep, and a cluster of two nodes on loopback. Each
driver is a process of its own.
"""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from lora_replication.errors import EnvironmentProblem, GpuLost
from lora_replication.files import digest
from lora_replication.grid import attempts
from lora_replication.grid import ray as on_ray
from lora_replication.grid.attempts import Task, open_executor
from lora_replication.grid.space import grid_runs
from lora_replication.plan import method_run
from tests import grid_faults
from tests.grid_faults import (
    Faults,
    assert_agree,
    left_behind,
    make_workspace,
    run_sweep,
    start_sweep,
    wait_for,
)
from tests.process_tree import descendants, is_running, kill_tree, soon
from tests.study_files import ROOT, link_data

needs_ray = pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="needs the package ray (pip install 'ray>=2.52')"
)
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of the tests alone"}
FILES = ["adapter.safetensors", "predictions.parquet", "record.json"]


@pytest.fixture
def unbroken(tiny_data):
    return grid_faults.unbroken(tiny_data)


@pytest.fixture
def workspace(tiny_root):
    return make_workspace(tiny_root, executor="ray")


@pytest.fixture
def inputs(workspace, monkeypatch):
    """Of ``workspace``, in whose process they are there already, as after a first pack."""
    inputs = on_ray.send(workspace, lambda _contents: None)
    there = make_workspace(Path("nowhere"))
    there.data, there.encoder = workspace.data, workspace.encoder
    monkeypatch.setattr(on_ray, "_workspaces", {digest(inputs.digests): there})
    return inputs


def test_runs_come_back_whole_and_the_first_record_stays(workspace, inputs, tmp_path, capsys):
    runs = grid_runs(workspace)[:2]
    started, answer = on_ray.run_pack(inputs, Task(runs, 3))
    assert started is None
    assert [sorted(files) for files in answer] == [FILES, FILES]
    mirror = Faults(tmp_path)
    pairs = list(zip(runs, answer, strict=True))
    records = [on_ray.keep(workspace, run, files, mirror) for run, files in pairs]
    assert [workspace.done(run) for run in runs] == records
    assert [record.happened.attempt for record in records] == [3, 3]
    assert mirror.started == [run.label for run in runs]
    second = {"record.json": b"?", "predictions.parquet": b"?", "adapter.safetensors": b"?"}
    assert on_ray.keep(workspace, runs[0], second, mirror) == records[0]
    assert "recorded already; the second is dropped" in capsys.readouterr().err
    files = [(workspace.folder(runs[0]) / name).read_bytes() for name in FILES]
    assert files == [answer[0][name] for name in FILES]
    assert len(mirror.started) == 2


@pytest.mark.fault(30)
def test_a_worker_of_other_results_is_refused_and_one_whose_gpu_is_lost_ends(
    workspace, inputs, monkeypatch
):
    def lost(*_):
        raise GpuLost("no answer")

    task = Task(grid_runs(workspace)[:1])
    with monkeypatch.context() as other:
        other.setattr("lora_replication.workspace.RESULTS", 0)
        (answer,) = on_ray.run_pack(inputs, task)
    assert isinstance(answer, EnvironmentProblem)
    assert "install the same commit on every machine" in str(answer)
    monkeypatch.setattr(on_ray, "attempt", lost)
    monkeypatch.setattr(on_ray.os, "_exit", sys.exit)
    pack = on_ray.run_pack(inputs, task)
    assert next(pack) is None
    with pytest.raises(SystemExit, match="1"):  # so that Ray starts another
        next(pack)


def test_a_run_takes_its_share_of_a_gpu(tiny_root):
    options = {"executor": "ray", "ray_gpu_share": 0.125, "ray_cpus": 2}
    executor = on_ray.RayExecutor(make_workspace(tiny_root, "cuda", **options), Faults(tiny_root))
    vars(executor).update(_ray=(ray := MagicMock()), _inputs=None)
    executor._send(Task([]))
    ray.remote.assert_called_once_with(num_cpus=2, num_gpus=0.125, max_retries=0)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_an_address_that_does_not_answer_and_a_missing_package_are_named(
    workspace, tmp_path, monkeypatch
):
    if importlib.util.find_spec("ray"):
        address = f"127.0.0.1:{free_port()}"
        execution = make_workspace(Path(), executor="ray", ray_address=address).study.execution
        with pytest.raises(EnvironmentProblem, match=f"ray_address is {address}: no Ray there"):
            on_ray.connect(execution)
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in TOKEN:
        monkeypatch.setenv(name, "")
    with open_executor(workspace, Faults(tmp_path)) as executor:
        assert list(executor([])) == []  # Ray starts when it is needed
        with pytest.raises(EnvironmentProblem, match=r"pip install 'ray>=2\.52'"):
            list(executor([grid_runs(workspace)]))


def start_node(cache: Path, *arguments: str) -> subprocess.Popen:
    """``ray start`` of a node with one CPU on loopback; ``cache`` is its user's cache folder."""
    node = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), "start", *arguments, "--block", "--num-cpus=1",
         "--num-gpus=0", "--node-ip-address=127.0.0.1", "--disable-usage-stats",
         "--object-store-memory=100000000"],
        env=os.environ | TOKEN | {"XDG_CACHE_HOME": str(cache)},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    wait_for(node, "Ray runtime started")
    return node


def kill_node(node: subprocess.Popen) -> None:
    """As a power cut would: everything of it at once."""
    kill_tree(node.pid)
    node.wait(10)


@needs_ray
@pytest.mark.slow
@pytest.mark.fault(28)
def test_two_nodes_one_killed_in_mid_sweep(tiny_root, unbroken, tmp_path):
    port = free_port()
    on_cluster = {"executor": "ray", "ray_address": f"127.0.0.1:{port}", "env": TOKEN}
    caches = [tmp_path / "cache a", tmp_path / "cache b"]
    nodes = [start_node(caches[0], "--head", f"--port={port}", "--include-dashboard=false")]
    nodes.append(start_node(caches[1], f"--address=127.0.0.1:{port}"))
    try:
        with start_sweep(tiny_root, pack=2, **on_cluster) as driver:
            wait_for(driver, "grid: 4 of 8")
            kill_node(nodes.pop())
            out, err = driver.communicate(timeout=200)
            assert driver.returncode == 0, err
        large = {"ray_cpus": 9, "ray_gpu_share": 0.5, "device": "cuda"}
        with start_sweep(tiny_root, **on_cluster, **large) as driver:
            err = driver.communicate(timeout=200)[1]
            assert "execution.ray_cpus = 9 CPUs and 0.5 GPUs (execution.ray_gpu_share)" in err
            assert driver.returncode == 4
    finally:
        for node in nodes:
            kill_node(node)
    assert "8 of 8 runs done, 0 diverged" in out
    assert_agree(left_behind(tiny_root / "runs/tiny"), unbroken)  # packs with runs alone
    cells = [run.label for run in grid_runs(make_workspace(tiny_root))]
    assert sorted(Faults(tiny_root).started) == sorted([*cells, "grid_winner seed 101"])
    assert [len(list(cache.rglob("model.safetensors"))) for cache in caches] == [1, 1]
    for folder in (tiny_root / "runs").rglob("seed-*"):
        assert sorted(file.name for file in folder.iterdir()) == FILES


@needs_ray
@pytest.mark.slow
def test_the_commands_of_the_documents_start_a_head_and_list_it(tmp_path):
    page = (ROOT / "docs" / "cluster.md").read_text("utf-8").replace("10.0.0.1", "127.0.0.1")
    page = page.replace("6379", str(free_port()))
    page = page.replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    variables, token, head = re.findall(r"^```\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[:3]
    (status,) = re.findall(r"`(\S+/ray status .*?)`", page)
    wait = f"for _ in $(seq 60); do {status} | grep -A1 ^Active && break; sleep 1; done"
    script = f"set -m\n{variables}{token}{head.strip()} >&2 &\n{wait}; kill -INT $!; wait"
    options = {"env": os.environ | {"HOME": str(tmp_path)}, "text": True}
    assert "\n 1 node_" in subprocess.check_output(["bash", "-c", script], **options)
    assert (tmp_path / ".ray" / "auth_token").stat().st_mode & 0o777 == 0o600


def changed(workspace, run, name, rank=None, **settings):
    """``run`` under another name, with other settings and a rank that is not checked."""
    lora = run.settings.lora.model_copy(update={"rank": rank} if rank else {})
    return workspace.run("cell", name, run.settings.model_copy(update={"lora": lora} | settings), 1)


def fail_on_ray(root: Path) -> None:
    """A driver: a run that no memory holds next to one that is well, one that takes too long, and
    a pack whose worker is killed; prints the outcome of each.
    """
    workspace = make_workspace(root, executor="ray", attempts=1, pack_timeout=15)
    first, other = grid_runs(workspace)[:2]
    large = changed(workspace, first, "large", rank=10**13)
    endless = changed(workspace, first, "endless", epochs=10_000)
    named = {"a": first, "b": other}
    robbed = [changed(workspace, run, name, epochs=40) for name, run in named.items()]
    found = {}
    with open_executor(workspace, Faults(root)) as executor:
        for packs in ([[first, large], [endless]], [robbed]):
            if packs[0] == robbed:
                # The worker before may be ending.
                assert soon(lambda: not ray_workers(os.getpid()), 30)
                print("ready", flush=True)
            for record in executor(packs):
                found[record.asked.name] = record.happened.model_dump(mode="json")
    print(json.dumps([found, os.environ["RAY_AUTH_MODE"]]))


def ray_workers(driver: int) -> list[int]:
    names = descendants(driver, "name")
    return [pid for pid, name in names.items() if name.startswith("ray::run_pack")]


@needs_ray
@pytest.mark.slow
@pytest.mark.fault(25, 27, 28)
def test_on_a_ray_of_its_own_packs_fail_hang_and_are_killed(tiny_root, tmp_path):
    text = f"import sys, pathlib; sys.path.insert(0, {str(ROOT)!r}); from tests import test_ray; "
    text += "test_ray.fail_on_ray(pathlib.Path(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", text, tiny_root], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=os.environ | {"XDG_CACHE_HOME": str(tmp_path)},
    ) as driver:  # fmt: skip
        wait_for(driver, "ready")
        assert soon(lambda: ray_workers(driver.pid), 60)
        children = descendants(driver.pid, "name")
        for worker in ray_workers(driver.pid):
            os.kill(worker, signal.SIGKILL)
        out, err = driver.communicate(timeout=200)
    assert driver.returncode == 0, err
    found, auth = json.loads(out.splitlines()[-1])
    ends = {name: (one["status"], one["attempt"]) for name, one in found.items()}
    assert ends.pop("large") == ("failed", 2)
    assert ends.pop("endless") == ("timeout", 1)
    assert set(ends.values()) == {("ok", 2)}
    assert len(ends) == 3
    assert "RuntimeError at batch_size 12, 1 in the pack, peak memory " in found["large"]["error"]
    assert "not done after execution.pack_timeout, 15 seconds" in found["endless"]["error"]
    assert "a seed 1 and 1 more killed: its Ray worker was lost" in err
    assert auth == "token"
    assert soon(lambda: not any(is_running(pid) for pid in children))


def train(root: Path, executor: str = "ray") -> None:
    """A driver: two seeds of a method, on Ray side by side."""
    workspace = make_workspace(root, executor=executor)
    runs = [method_run(workspace, "full", seed) for seed in (1, 2)]
    assert len(list(attempts.run_alone(workspace, Faults(root), runs))) == 2


@needs_ray
@pytest.mark.slow
def test_runs_of_a_method_on_ray_are_those_in_this_process(tiny_root, tiny_data, tmp_path):
    text = "import sys, pathlib; from tests.test_ray import train; train(pathlib.Path(sys.argv[1]))"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    words = [sys.executable, "-c", text, tiny_root]
    subprocess.run(words, cwd=ROOT, env=environment, check=True)
    train(root := link_data(tmp_path / "local", tiny_data), "local")
    assert left_behind(root / "runs/tiny") == left_behind(tiny_root / "runs/tiny")


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
@pytest.mark.fault(3, 5)
def test_a_stopped_sweep_leaves_no_ray_behind_and_goes_on_to_the_same_bits(
    tiny_root, unbroken, number, code
):
    with start_sweep(tiny_root, executor="ray") as driver:
        wait_for(driver, "grid: 2 of 8")
        children = descendants(driver.pid, "name")
        driver.send_signal(number)
        assert driver.wait(10) == code
    # After SIGKILL two idle agents of Ray's own wait for a minute whether it comes back.
    agents = {"ray::DashboardAgent", "ray::RuntimeEnvAgent"} if number == signal.SIGKILL else set()
    others = [pid for pid, name in children.items() if name not in agents]
    assert soon(lambda: not any(is_running(pid) for pid in others))
    kept = left_behind(tiny_root / "runs/tiny")
    assert len(kept) >= 2
    run_sweep(tiny_root, Faults(tiny_root))  # what is left, in this process
    after = left_behind(tiny_root / "runs/tiny")
    assert {place: after[place] for place in kept} == kept
    assert after == unbroken
