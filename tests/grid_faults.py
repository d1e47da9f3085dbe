"""Sweeps of the tiny study whose runs fail as told, and what is compared of two of them."""

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lora_replication import machine
from lora_replication.files import file_digest
from lora_replication.grid.attempts import open_executor
from lora_replication.grid.packing import pack_size
from lora_replication.grid.ray import SILENT
from lora_replication.grid.sweep import sweep
from lora_replication.record import ADAPTER, PREDICTIONS, Happened, Run, read_record, read_records
from lora_replication.study import ExecutionParams, Study
from lora_replication.training.run import Mirror
from lora_replication.workspace import Workspace
from tests.study_files import ROOT, link_data, study_params
from tests.training_runs import without_times


@dataclass(frozen=True)
class Faults:
    """Opens a mirror, unless the run that is about to start is to fail: ``what`` says, by its name,
    how and how often.

    Attributes:
        folder: shared by all processes; ``started`` in it names each run that started, in order.
    """

    folder: Path
    what: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __call__(self, run: Run) -> AbstractContextManager[Mirror]:
        with (self.folder / "started").open("a") as file:
            file.write(f"{run.label}\n")
        fault, times = self.what.get(run.name, ("", 0))
        for number in range(times):
            with suppress(FileExistsError):  # it has failed so often
                (self.folder / f"{run.name}-{number}").touch(exist_ok=False)
                _fail(fault)
        return nullcontext(SILENT)

    @property
    def started(self) -> list[str]:
        """Every run that started, in order, those that failed included."""
        return (self.folder / "started").read_text().splitlines()


def _fail(fault: str) -> None:
    if fault == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "memory":
        raise torch.OutOfMemoryError("tried to allocate 20 GiB")
    if fault == "gpu":
        machine.gpu_is_lost = lambda _device: True  # in this process, for good
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if fault == "bug":
        raise ZeroDivisionError("division by zero")


def make_workspace(root: Path, device: str = "cpu", **changes: Any) -> Workspace:
    """Eight configurations and one winner on a tiny encoder, each alone; ``changes`` are of
    ``grid`` and ``execution``.
    """
    execution = {"pack": 1, "attempts": 2} | {
        name: changes.pop(name) for name in list(changes) if name in ExecutionParams.model_fields
    }
    grid = {"evaluate_train": False} | changes
    params = study_params(train={"epochs": 1, "device": device}, grid=grid, execution=execution)
    return Workspace(Study.model_validate(params), root)


def run_sweep(root: Path, faults: Faults, say: Any = lambda _text: None, **changes: Any) -> None:
    """A sweep under ``root``."""
    workspace = make_workspace(root, **changes)
    with open_executor(workspace, faults) as executor:
        sweep(workspace, partial(pack_size, workspace), executor, say)


def happened(root: Path, name: str) -> Happened:
    """The outcome of a configuration."""
    record = read_record(root / "runs/tiny/grid" / name / "seed-1")
    assert record
    return record.happened


def left_behind(runs: Path) -> dict[str, Any]:
    """All that a study's ``runs`` hold but times and counts of attempts: records, and sha256 of
    predictions and adapters, by folder.
    """
    found: dict[str, Any] = {}
    for folder, record in read_records(runs):
        content = without_times(record)
        del content["happened"]["attempt"]
        files = [folder / name for name in (PREDICTIONS, ADAPTER)]
        digests = [file_digest(file) for file in files if file.is_file()]
        found[str(folder.relative_to(runs))] = (content, digests)
    return found


def unbroken(data: Path) -> dict[str, Any]:
    """What a sweep in one process without faults leaves behind; ``data`` is prepared."""
    root = data.with_name("unbroken")
    if not root.exists():
        link_data(root, data)
        run_sweep(root, Faults(root))
        assert len(Faults(root).started) == 9
    return left_behind(root / "runs/tiny")


SWEEP = """
import sys
from pathlib import Path
from functools import partial
sys.path.insert(0, {project!r})
from lora_replication.process import run_command
from tests.grid_faults import Faults, run_sweep
root = Path({root!r})
say = partial(print, flush=True)
command = lambda: run_sweep(root, Faults(root, {what!r}), say, **{changes!r})
sys.exit(run_command(command, "gridsearch"))
"""


def start_sweep(
    root: Path, what: Any = None, env: dict[str, str] | None = None, **changes: Any
) -> subprocess.Popen[str]:
    """A sweep in a process of its own, as the stage runs it; ``env`` is added to the environment,
    in which the cache folder is ``root``'s.
    """
    text = SWEEP.format(project=str(ROOT), root=str(root), what=what or {}, changes=changes)
    return subprocess.Popen(
        [sys.executable, "-c", text],
        env=os.environ | {"XDG_CACHE_HOME": str(root / "cache")} | (env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    """Read what it prints up to a line with ``text``."""
    for line in process.stdout or ():
        if text in line:
            return
    raise AssertionError(process.stderr.read() if process.stderr else "")


def assert_agree(packed: dict[str, Any], alone: dict[str, Any]) -> None:
    """Runs of packs have the losses of those alone up to rounding, and the same counts."""
    assert packed.keys() == alone.keys()
    for place, (content, _) in packed.items():
        mine, other = content["happened"], alone[place][0]["happened"]
        assert content["asked"] == alone[place][0]["asked"]
        assert [mine[part] for part in ("val", "test")] == [other[part] for part in ("val", "test")]
        losses = [epoch["val_loss"] for epoch in mine["epochs"]]
        assert losses == pytest.approx([epoch["val_loss"] for epoch in other["epochs"]], abs=1e-5)
