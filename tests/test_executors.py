import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import pytest
import torch
from grid_faults import Faults, left_behind, soon
from process_tree import descendants, is_running

from lora_replication import machine
from lora_replication.errors import GpuLost, IncompleteError
from lora_replication.grid.executors import open_executor
from lora_replication.grid.executors.workers import gpu_variable
from lora_replication.grid.packs import pack_size, packs_of
from lora_replication.grid.space import cell_jobs
from lora_replication.grid.sweep import sweep
from lora_replication.ledger import current_records
from lora_replication.reading import check_study, merge_files
from lora_replication.record import read_record
from lora_replication.study import Study
from lora_replication.training.run import Bench, perform

ROOT = Path(__file__).resolve().parents[1]


def study_with(device="cpu", **grid) -> Study:
    """Eight configurations and one winner on a tiny encoder, each alone."""
    content = merge_files(ROOT / "params.yaml", ROOT / "studies" / "tiny.yaml")
    content["train"] |= {"epochs": 1, "device": device}
    content["grid"] |= {"pack": 1, "attempts": 2, "evaluate_train": False} | grid
    return check_study(content)


pytestmark = pytest.mark.slow
STUDY = study_with()
NAMES = [job.name for job in cell_jobs(STUDY)]
PACKS = [[job.name for job in pack] for pack in packs_of(cell_jobs(STUDY), 3)]


def run_sweep(root: Path, faults: Faults, say=lambda text: None, **grid):
    """A sweep under ``root``; gives the winner's record."""
    bench = Bench(study_with(**grid), root)
    with open_executor(bench, faults) as executor:
        return sweep(bench.study, bench.recorded, partial(pack_size, bench), executor, say)


def happened(root: Path, name: str):
    return read_record(root / "runs/tiny/grid" / name / "seed-1").happened


@pytest.fixture(scope="session")
def unbroken(tiny_data, tmp_path_factory):
    """What a sweep in one process without faults leaves behind."""
    root = tmp_path_factory.mktemp("unbroken")
    (root / "data").symlink_to(tiny_data / "data")
    faults = Faults(root)
    run_sweep(root, faults)
    assert len(faults.started) == 9
    return left_behind(root / "runs", "tiny")


@pytest.fixture
def faults(tmp_path):
    return Faults(tmp_path)


def test_several_processes_leave_what_one_leaves(tiny_root, unbroken, faults):
    said = []
    run_sweep(tiny_root, faults, said.append, executor="processes", workers=2)
    assert left_behind(tiny_root / "runs", "tiny") == unbroken
    assert sorted(faults.started) == sorted(
        {f"{name} seed 1" for name in NAMES} | {"grid_winner seed 101"}
    )
    assert "8 of 8 configurations done" in said[8]


@pytest.mark.fault(28)
def test_killed_workers_packs_run_again_and_no_other_pack_does(tiny_root, tiny_data, tmp_path):
    faults = Faults(tiny_root, {PACKS[0][1]: ("kill", 1), PACKS[2][0]: ("kill", 1)})
    run_sweep(tiny_root, faults, executor="processes", workers=2, pack=3)
    assert [{happened(tiny_root, name).attempt for name in pack} for pack in PACKS] == [
        {2},
        {1},
        {2},
    ]
    assert all(faults.started.count(f"{name} seed 1") == 1 for name in PACKS[1])
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "data").symlink_to(tiny_data / "data")
    run_sweep(tmp_path / "here", Faults(tmp_path / "here"), pack=3)
    assert left_behind(tiny_root / "runs", "tiny") == left_behind(
        tmp_path / "here" / "runs", "tiny"
    )


@pytest.mark.parametrize(
    ("executor", "fault"),
    [("here", "memory"), ("here", "bug"), ("processes", "memory"), ("processes", "kill")],
)
@pytest.mark.fault(25, 26)
def test_a_configuration_that_always_fails_is_recorded_alone_and_the_rest_goes_on(
    tiny_root, executor, fault
):
    guilty, neighbour = PACKS[0][1:]
    faults = Faults(tiny_root, {guilty: (fault, 9)})
    with pytest.raises(
        IncompleteError, match=f"7 of 8 configurations done.* 1 failed; missing: {guilty} seed 1;"
    ) as problem:
        run_sweep(tiny_root, faults, executor=executor, workers=1, pack=3)
    assert problem.value.exit_code == 5
    assert faults.started.count(f"{guilty} seed 1") == 3  # twice with its pack, once alone
    assert [happened(tiny_root, neighbour).attempt, happened(tiny_root, PACKS[1][0]).attempt] == [
        3,
        1,
    ]
    failed = happened(tiny_root, guilty)
    assert (failed.status, failed.attempt) == ("killed" if fault == "kill" else "failed", 3)
    if fault == "memory":
        assert failed.error.startswith(
            "OutOfMemoryError at batch_size 12, 1 in the pack, peak memory "
        )
        assert failed.peak_memory_bytes > 0
    if fault == "kill":
        assert "was ended by SIGKILL" in failed.error
    before = len(faults.started)
    run_sweep(tiny_root, Faults(tiny_root), pack=3)
    assert faults.started[before:] == [f"{guilty} seed 1", "grid_winner seed 101"]


def test_a_process_whose_gpu_is_lost_tries_no_other_pack(tiny_root, monkeypatch):
    guilty = packs_of(cell_jobs(STUDY), 1)[len(NAMES) // 2][0].name
    faults = Faults(tiny_root, {guilty: ("gpu", 1)})
    monkeypatch.setattr(machine, "gpu_is_lost", machine.gpu_is_lost)  # put back at the end
    with pytest.raises(GpuLost, match=r"illegal memory access.* run again to continue") as problem:
        run_sweep(tiny_root, faults)
    assert problem.value.exit_code == 4
    *before, last = faults.started
    assert last == f"{guilty} seed 1"
    assert [happened(tiny_root, run.partition(" ")[0]).status for run in before] == ["ok"] * (
        len(NAMES) // 2
    )


def test_a_worker_whose_gpu_is_lost_is_replaced(tiny_root):
    faults = Faults(tiny_root, {NAMES[1]: ("gpu", 1)})
    run_sweep(tiny_root, faults, executor="processes", workers=1)
    assert [happened(tiny_root, name).attempt for name in NAMES] == [1, 2, *[1] * 6]


def test_one_attempt_is_one_attempt(tiny_root):
    faults = Faults(tiny_root, {NAMES[1]: ("memory", 9)})
    with pytest.raises(IncompleteError):
        run_sweep(tiny_root, faults, attempts=1)
    assert faults.started.count(f"{NAMES[1]} seed 1") == 1


def test_configurations_beside_the_winner_run_on_its_fresh_seeds(tiny_root):
    run_sweep(tiny_root, Faults(tiny_root), runners_up=2, pack=4)
    study = study_with(runners_up=2)
    current = current_records(study, Bench(study, tiny_root).manifest, tiny_root / "runs")
    beside = [record.asked for record in current.records if record.asked.role == "runner_up"]
    assert len(beside) == 2
    assert {asked.seed for asked in beside} == {101}
    assert all(
        (tiny_root / "runs/tiny/grid_runners_up" / asked.name / "seed-101/record.json").is_file()
        for asked in beside
    )
    assert not current.stale


def test_a_second_start_runs_whole_packs_as_the_first_would_have(tiny_root, tiny_data, tmp_path):
    faults = Faults(tiny_root, {PACKS[1][0]: ("kill", 1)})
    assert ended(forked(lambda: run_sweep(tiny_root, faults, pack=3))) == -signal.SIGKILL
    run_sweep(tiny_root, faults, pack=3)
    assert {happened(tiny_root, name).pack for name in PACKS[1]} == {3}


@pytest.mark.fault(27)
def test_a_hanging_pack_is_killed_with_its_children_and_recorded(tiny_root, unbroken):
    faults = Faults(tiny_root, {NAMES[4]: ("hang", 9)})
    with pytest.raises(IncompleteError, match=f"missing: {NAMES[4]} seed 1;"):
        run_sweep(
            tiny_root, faults, executor="processes", workers=2, pack=1, attempts=1, pack_timeout=8
        )
    hung = happened(tiny_root, NAMES[4])
    assert hung.status == "timeout"
    assert "grid.pack_timeout, 8 seconds" in hung.error
    assert not any(is_running(int(pid)) for pid in (tiny_root / "pids").read_text().split())
    run_sweep(tiny_root, Faults(tiny_root))
    assert left_behind(tiny_root / "runs", "tiny") == unbroken


SWEEP = """
import sys
from pathlib import Path
from functools import partial
sys.path.insert(0, {tests!r})
from grid_faults import Faults
from test_executors import run_sweep
from lora_replication.process import run_command
if __name__ == "__main__":
    root = Path({root!r})
    faults = Faults(root, {what!r})
    sys.exit(run_command(lambda: run_sweep(root, faults, partial(print, flush=True), **{grid!r}), "gridsearch"))
"""


def start_sweep(root: Path, what=None, env=None, **grid) -> subprocess.Popen:
    """A sweep in a process of its own, as the stage runs it; ``env`` is added to the
    environment.
    """
    script = root / "sweep.py"
    script.write_text(
        SWEEP.format(tests=str(ROOT / "tests"), root=str(root), what=what or {}, grid=grid)
    )
    return subprocess.Popen(
        [sys.executable, script],
        env=os.environ | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
@pytest.mark.fault(3, 4, 5)
def test_a_stopped_sweep_leaves_no_process_and_keeps_what_is_done(
    tiny_root, unbroken, number, code
):
    with start_sweep(
        tiny_root, {NAMES[7]: ("hang", 1)}, executor="processes", workers=2, pack=1
    ) as process:
        wait_for(process, "grid: 5 of 8")
        assert soon((tiny_root / "pids").exists)
        children = descendants(process.pid, "name")
        assert len(children) >= 3  # two workers and what hangs in one of them
        process.send_signal(number)
        assert process.wait(10) == code
        workers = [
            pid for pid in children if pid != int((tiny_root / "pids").read_text().split()[1])
        ]
        assert soon(lambda: not any(is_running(pid) for pid in workers), 2)
    done = [
        name
        for name in NAMES
        if (tiny_root / "runs/tiny/grid" / name / "seed-1/record.json").is_file()
    ]
    assert len(done) >= 5
    faults = Faults(tiny_root)
    before = len(faults.started)
    run_sweep(tiny_root, faults)
    assert left_behind(tiny_root / "runs", "tiny") == unbroken
    assert not set(faults.started[before:]) & {f"{name} seed 1" for name in done}


def forked(work) -> int:
    """Run ``work`` in a copy of this process, so that nothing has to be imported again; gives its
    number. It exits with 0, or 1.
    """
    if pid := os.fork():
        return pid
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def ended(pid: int) -> int:
    """Its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.fault(3)
def test_a_sweep_killed_at_each_step_goes_on_where_it_was(tiny_root, unbroken):
    faults = Faults(tiny_root, dict.fromkeys([*NAMES, "grid_winner"], ("kill", 1)))
    ends = [ended(forked(lambda: run_sweep(tiny_root, faults))) for _ in range(10)]
    assert ends == [-signal.SIGKILL] * 9 + [0]
    assert left_behind(tiny_root / "runs", "tiny") == unbroken
    assert len(faults.started) == 18  # each once when killed, once to its end


@pytest.mark.fault(3)
def test_twenty_kills_at_random_moments_change_nothing(tiny_root, unbroken):
    chance, kills = random.Random(1), 0  # noqa: S311  # nothing secret
    while kills < 20:
        pid = forked(lambda: run_sweep(tiny_root, Faults(tiny_root)))
        time.sleep(chance.uniform(0.02, 0.4))
        os.kill(pid, signal.SIGKILL)
        if ended(pid) == 0:
            assert left_behind(tiny_root / "runs", "tiny") == unbroken
            shutil.rmtree(tiny_root / "runs")
        else:
            kills += 1
    run_sweep(tiny_root, Faults(tiny_root))
    assert left_behind(tiny_root / "runs", "tiny") == unbroken


@pytest.mark.fault(12)
def test_two_processes_at_one_configuration_leave_one_whole_record(tiny_root, unbroken):
    job = cell_jobs(STUDY)[0]
    both = [
        forked(lambda: perform(Bench(STUDY, tiny_root), job, Faults(tiny_root))) for _ in range(2)
    ]
    assert 0 in [ended(pid) for pid in both]  # the other one finds the record, or the lock
    name = f"tiny/grid/{job.name}/seed-1"
    assert left_behind(tiny_root / "runs", "tiny") == {name: unbroken[name]}
    assert Faults(tiny_root).started == [f"{job.name} seed 1"]


def test_workers_divide_the_threads_of_the_sweep(tiny_root):
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        run_sweep(
            tiny_root,
            Faults(tiny_root),
            executor="processes",
            workers=2,
            alpha=[1],
            rank=[1],
            mlp=[False],
        )
    finally:
        torch.set_num_threads(before)
    (cell,) = (tiny_root / "runs/tiny/grid").rglob("seed-1")
    assert read_record(cell).where.threads == 2


def test_each_worker_sees_one_gpu_in_turn(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    assert [gpu_variable(place)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == [
        "3",
        "GPU-5",
        "3",
    ]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [gpu_variable(place)["CUDA_VISIBLE_DEVICES"] for place in range(3)] == ["0", "1", "0"]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert gpu_variable(0) == {}
