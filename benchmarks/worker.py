"""Each contender in a process of its own, which lives through its turns, so that turns can
alternate while memory stays apart.
"""

import importlib
import multiprocessing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol, get_args

from benchmarks.gate import Case, Gate, PhaseOver, TimedGate
from benchmarks.results import Phase
from benchmarks.workload import Workload
from lora_replication.errors import IncompleteError

CONTENDERS = {
    "article": ("benchmarks.article", "Article"),
    "peft": ("benchmarks.peft_trainer", "HFTrainer"),
    "ours": ("benchmarks.ours", "Ours"),
}
"""Module and class of each contender, in the order of turns."""

PHASES: tuple[Phase, ...] = get_args(Phase)


class Contender(Protocol):
    """What is measured. Both loops call the gate once before and after every batch, and run until
    it raises ``PhaseOver``.
    """

    def train(self, gate: Gate) -> None:
        """Train on the workload."""

    def evaluate(self, gate: Gate) -> None:
        """Evaluate the workload with dropout off."""


@dataclass(frozen=True)
class Turn:
    """What one turn took: ``seconds``, and ``peak_memory_bytes`` of the process up to its end."""

    seconds: float
    peak_memory_bytes: int


class TakesTurns(Protocol):
    """What ``alternate`` asks for turns."""

    def warm_up(self) -> None:
        """Run a single batch."""

    def turn(self) -> Turn:
        """Run one turn."""


def make_contender(case: Case, workload: Workload) -> Contender:
    """The contender of ``case``; only its own libraries are imported."""
    module, name = CONTENDERS[case.contender]
    contender: Contender = getattr(importlib.import_module(module), name)(case, workload)
    return contender


class Worker:
    """A contender in a process of its own, which sets itself up before its first batch."""

    def __init__(self, case: Case, workload: Workload) -> None:
        self.case = case
        here, there = multiprocessing.Pipe()
        self._connection = here
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(case, workload, there), daemon=True
        )
        self._process.start()
        there.close()

    def warm_up(self) -> None:
        """Run a single batch, in which libraries are loaded and memory is taken. Raises as ``turn``
        does.
        """
        self._run(1)

    def turn(self) -> Turn:
        """Run one turn. Raises ``IncompleteError`` where the process died; its own words stand
        above.
        """
        return self._run(self.case.batches)

    def _run(self, batches: int) -> Turn:
        try:
            self._connection.send(batches)
            return Turn(*self._connection.recv())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            raise IncompleteError(
                f"benchmark of {self.case.contender}: its process ended with exit code {self._process.exitcode}, see above"
            ) from None

    def next_phase(self) -> None:
        """Leave training for evaluation, or evaluation for good."""
        self._connection.send(0)

    def join(self) -> None:
        """Wait for the process to end."""
        self._process.join()


def alternate(
    workers: Sequence[TakesTurns], rounds: int, after_round: Callable[[], float]
) -> list[tuple[list[Turn], float]]:
    """``rounds`` times one turn of each worker, A B C A B C, once all have warmed up.

    Returns:
        For each round the turns in the order of ``workers``, and what ``after_round`` gave.
    """
    for worker in workers:
        worker.warm_up()
    return [([worker.turn() for worker in workers], after_round()) for _ in range(rounds)]


def _serve(case: Case, workload: Workload, connection: Connection) -> None:
    contender = make_contender(case, workload)
    gate = TimedGate(connection, case.settings.device)
    for loop in (contender.train, contender.evaluate):
        try:
            loop(gate)
        except PhaseOver:
            continue
