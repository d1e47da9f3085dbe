"""Mirrors that make runs fail in their own process, and what is compared of two sweeps."""

import os
import signal
import subprocess
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conftest import SilentMirror

from lora_replication import machine
from lora_replication.files import file_digest
from lora_replication.record import ADAPTER, PREDICTIONS, Run, read_records

TIMES = {
    "training_seconds",
    "evaluation_seconds",
    "tokens_per_second",
    "peak_memory_bytes",
    "attempt",
}


@dataclass(frozen=True)
class Faults:
    """Opens a mirror, unless the run that is about to start is to fail: ``what`` gives, by its
    name, how and how often.

    Attributes:
        folder: shared by all processes; ``started`` in it names each run that started, in order.
    """

    folder: Path
    what: dict[str, tuple[str, int]] = field(default_factory=dict)

    def __call__(self, asked: Asked) -> AbstractContextManager[SilentMirror]:
        with (self.folder / "started").open("a") as file:
            file.write(f"{asked.name} seed {asked.seed}\n")
        fault, times = self.what.get(asked.name, ("", 0))
        for number in range(times):
            try:
                (self.folder / f"{asked.name}-{number}").touch(exist_ok=False)
            except FileExistsError:
                continue
            self._fail(fault)
        return nullcontext(SilentMirror())

    def _fail(self, fault: str) -> None:
        if fault == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "memory":
            raise torch.OutOfMemoryError("tried to allocate 20 GiB")
        if fault == "gpu":
            machine.gpu_is_lost = lambda _device: True  # in this process, for good
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if fault == "bug":
            raise ZeroDivisionError("division by zero")
        if fault == "hang":
            with subprocess.Popen(["sleep", "600"]) as child:
                (self.folder / "pids").write_text(f"{os.getpid()} {child.pid}")
                time.sleep(600)

    @property
    def started(self) -> list[str]:
        """Every run that started, in order, those that failed included."""
        return (self.folder / "started").read_text().splitlines()


def left_behind(runs: Path, study: str) -> dict[str, Any]:
    """All that a sweep leaves but times and counts of attempts: records, and sha256 of predictions
    and adapters, by folder.
    """
    found: dict[str, Any] = {}
    for folder, record in read_records(study, runs):
        content = record.model_dump(exclude={"where": {"started", "finished"}, "happened": TIMES})
        for epoch in content["happened"]["epochs"]:
            del epoch["seconds"]
        digests = [
            file_digest(folder / name)
            for name in (PREDICTIONS, ADAPTER)
            if (folder / name).is_file()
        ]
        found[str(folder.relative_to(runs))] = (content, digests)
    return found


def soon(condition: Any, seconds: float = 10.0) -> bool:
    """Whether ``condition()`` comes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
