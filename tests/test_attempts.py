"""Sweeps in one process, whose runs fail and which are killed."""

import os
import signal
import traceback
from contextlib import nullcontext

import pytest

from lora_replication import machine
from lora_replication.errors import GpuLost, IncompleteError
from lora_replication.files import is_locked
from lora_replication.grid import attempts
from lora_replication.grid.packing import packs_of
from lora_replication.grid.space import grid_runs
from lora_replication.plan import method_run
from lora_replication.training.run import perform, record_failure
from tests import grid_faults
from tests.grid_faults import Faults, happened, left_behind, make_workspace, run_sweep

pytestmark = pytest.mark.slow


@pytest.fixture
def unbroken(tiny_data):
    return grid_faults.unbroken(tiny_data)


@pytest.fixture
def packs(tiny_data):
    """Names of the configurations, in packs of three."""
    packs = packs_of(grid_runs(make_workspace(tiny_data)), 3)
    return [[run.name for run in pack] for pack in packs]


ALWAYS = [("memory", "OutOfMemoryError", 2), ("bug", "ZeroDivisionError", 1)]


@pytest.mark.parametrize(("fault", "error", "attempts"), ALWAYS)
@pytest.mark.fault(25, 26)
def test_a_configuration_that_always_fails_is_recorded_alone_and_the_rest_goes_on(
    tiny_root, packs, fault, error, attempts
):
    neighbour, guilty = packs[1][:2]
    faults = Faults(tiny_root, {guilty: (fault, 9)})
    told = f"7 of 8 runs done.* 1 failed; missing: {guilty} seed 1;"
    with pytest.raises(IncompleteError, match=told):
        run_sweep(tiny_root, faults, pack=3, attempts=attempts)
    assert faults.started.count(f"{guilty} seed 1") == attempts + 1  # at last alone
    made = [happened(tiny_root, name).attempt for name in (guilty, neighbour, packs[0][0])]
    assert made == [attempts + 1, attempts + 1, 1]
    failed = happened(tiny_root, guilty)
    assert failed.status == "failed"
    assert failed.error.startswith(f"{error} at batch_size 12, 1 in the pack, peak memory ")
    assert failed.peak_memory_bytes > 0
    before = len(faults.started)
    run_sweep(tiny_root, Faults(tiny_root), pack=3)
    assert faults.started[before:] == [f"{guilty} seed 1", "grid_winner seed 101"]


def test_a_process_whose_gpu_is_lost_tries_no_other_pack(tiny_root, packs, monkeypatch):
    guilty = packs[1][0]
    faults = Faults(tiny_root, {guilty: ("gpu", 1)})
    monkeypatch.setattr(machine, "gpu_is_lost", machine.gpu_is_lost)  # put back at the end
    with pytest.raises(GpuLost, match=r"illegal memory access.* run again to continue") as problem:
        run_sweep(tiny_root, faults)
    assert problem.value.exit_code == 4
    assert faults.started == [f"{name} seed 1" for name in (*packs[0], guilty)]
    assert [happened(tiny_root, name).status for name in packs[0]] == ["ok"] * len(packs[0])


def forked(work) -> int:
    """Run ``work`` in a copy of this process, so that nothing has to be imported again. Returns its
    number; it exits with 0 or 1.
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
def test_a_sweep_killed_at_each_step_goes_on_where_it_was(tiny_root, unbroken, packs):
    names = [*(name for pack in packs for name in pack), "grid_winner"]
    faults = Faults(tiny_root, dict.fromkeys(names, ("kill", 1)))
    ends = [ended(forked(lambda: run_sweep(tiny_root, faults))) for _ in range(10)]
    assert ends == [-signal.SIGKILL] * 9 + [0]
    assert left_behind(tiny_root / "runs/tiny") == unbroken
    assert len(faults.started) == 18  # each once when killed, once to its end


def test_a_second_start_runs_whole_packs_as_the_first_would_have(tiny_root, packs):
    faults = Faults(tiny_root, {packs[1][0]: ("kill", 1)})
    assert ended(forked(lambda: run_sweep(tiny_root, faults, pack=3))) == -signal.SIGKILL
    run_sweep(tiny_root, faults, pack=3)
    assert {happened(tiny_root, name).pack for name in packs[1]} == {len(packs[1])}


@pytest.mark.fault(12)
def test_two_processes_at_one_configuration_leave_one_whole_record(tiny_root, unbroken):
    workspace = make_workspace(tiny_root)
    run = grid_runs(workspace)[0]
    both = [forked(lambda: perform(workspace, [run], Faults(tiny_root))) for _ in range(2)]
    assert 0 in [ended(pid) for pid in both]  # the other one finds the record, or the lock
    place = str(run.place)
    assert left_behind(tiny_root / "runs/tiny") == {place: unbroken[place]}
    assert Faults(tiny_root).started == [run.label]


def test_runs_alone_are_locked_side_by_side_and_a_failed_one_ends_the_stage(tiny_root, monkeypatch):
    workspace = make_workspace(tiny_root, executor="ray")
    runs = [method_run(workspace, "full", seed) for seed in (1, 2)]

    def fail(packs):
        assert packs == [[run] for run in runs]
        assert all(is_locked(workspace.lock(run.place)) for run in runs)
        yield record_failure(workspace, runs[0], "killed", "lost", None)

    monkeypatch.setattr(attempts, "open_executor", lambda *_: nullcontext(fail))
    with pytest.raises(IncompleteError, match="full seed 1, full seed 2: failed, recorded; run"):
        list(attempts.run_alone(workspace, Faults(tiny_root), runs))
    assert not is_locked(workspace.lock(runs[0].place))
