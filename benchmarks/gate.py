"""Where a contender waits for its turn, and what times it."""

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import torch

from lora_replication.record import Settings
from lora_replication.study import ModelParams


@dataclass(frozen=True)
class Case:
    """One contender on one task.

    Attributes:
        contender: article, peft or ours.
        model: the encoder.
        settings: the method, precision and device.
        batches: of a turn, training or evaluating.
    """

    contender: str
    model: ModelParams
    settings: Settings
    batches: int


class PhaseOver(Exception):
    """Enough turns: leave the loop that is running."""


class Gate(Protocol):
    """Called by a contender: once before its loop and after every batch."""

    def wait(self) -> None:
        """Return when the turn begins. Raises ``PhaseOver`` where there is none."""

    def batch_done(self, batches: int = 1) -> None:
        """Tell that ``batches`` are done; returns when the next may begin. Raises ``PhaseOver``."""


class TimedGate:
    """The other end of ``connection`` names the batches of a turn, 0 to end, and is told the turn's
    seconds and the peak memory so far.

    A turn begins with the number and ends when the device has finished its last batch; what a loop
    does between two batches is part of it.
    """

    def __init__(self, connection: Connection, device: str) -> None:
        self._connection, self._device = connection, device
        self._to_do = 0
        self._began = 0.0

    def wait(self) -> None:
        """Return when the turn begins. Raises ``PhaseOver`` where there is none."""
        self._to_do = self._connection.recv()
        if not self._to_do:
            raise PhaseOver
        self._began = time.perf_counter()

    def batch_done(self, batches: int = 1) -> None:
        """Count ``batches``; at the end of the turn report it and wait for the next."""
        self._to_do -= batches
        if self._to_do <= 0:
            finish(self._device)
            self._connection.send((time.perf_counter() - self._began, self._peak_memory_bytes()))
            self.wait()

    def _peak_memory_bytes(self) -> int:
        return (
            torch.cuda.max_memory_allocated() if self._device == "cuda" else resident_peak_bytes()
        )


def finish(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device == "cuda":
        torch.cuda.synchronize()


def resident_peak_bytes() -> int:
    """The most memory that this process held. Unlike ``getrusage``, it leaves out what the starting
    process held.
    """
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
