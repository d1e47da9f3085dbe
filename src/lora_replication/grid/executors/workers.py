"""The packs in several processes on this machine, which share its threads and take its GPUs in turn.

The results of a thread count are its own: sums are added in another order with another one. Workers have the threads of this process
divided by their number, so to get the bits of a sweep in one process, give that process as many (OMP_NUM_THREADS).
"""

import os
import signal
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

from lora_replication.errors import GpuLost, Stopped
from lora_replication.grid.executors.attempts import Attempts, Broken, Outcome, Task, attempt, warm_up
from lora_replication.grid.sweep import Executor
from lora_replication.jobs import Job
from lora_replication.processes import die_with_parent, keep_freed_memory, kill_tree, stop_on_signals
from lora_replication.records import Asked, Record
from lora_replication.runs import Bench, Mirror

STOP_SECONDS = 7.0
"""Workers that were told to stop have so long to close their MLflow runs."""


@contextmanager
def processes(bench: Bench, mirror: Callable[[Asked], AbstractContextManager[Mirror]]) -> Iterator[Executor]:
    """Runs packs in ``grid.workers`` processes, which start when first needed; one that dies or hangs is replaced."""
    workers: dict[int, Worker] = {}

    def run(packs: Sequence[Sequence[Job]]) -> Generator[tuple[Job, Record]]:
        attempts = Attempts(bench, packs)
        while attempts.waiting or any(worker.task for worker in workers.values()):
            for place in range(bench.study.grid.workers):
                worker = workers.get(place)
                if attempts.waiting and not (worker and worker.task):
                    if worker is None or not worker.process.is_alive():
                        worker = workers[place] = Worker(bench, mirror, place)
                    worker.give(attempts.waiting.popleft())
            for task, outcome in _outcomes([worker for worker in workers.values() if worker.task]):
                yield from attempts.settle(task, outcome)

    try:
        yield run
    finally:
        _stop(workers.values())


class Worker:
    """A process that runs one task after another.

    Args:
        place: its number, from 0; names its GPU.

    Attributes:
        task: what it is at, or null.
    """

    def __init__(self, bench: Bench, mirror: Callable[[Asked], AbstractContextManager[Mirror]], place: int) -> None:
        import torch

        threads = max(1, torch.get_num_threads() // bench.study.grid.workers)
        context = get_context("spawn")  # a forked process can't use CUDA, and inherits locks that nobody opens
        self._pipe, theirs = context.Pipe()
        environment = gpu_variable(place) if bench.study.train.device == "cuda" else {}
        self.process = context.Process(target=serve, args=(theirs, environment, threads), name=f"grid worker {place}", daemon=True)
        self.process.start()
        theirs.close()
        self._send((bench, mirror))
        self.task: Task | None = None
        self._is_ready = False
        self._timeout = bench.study.grid.pack_timeout
        self._deadline = float("inf")

    @property
    def waitables(self) -> list[Any]:
        """What becomes ready when it has finished its task or died."""
        return [self._pipe, self.process.sentinel]

    @property
    def seconds_left(self) -> float:
        """Before its task has taken too long; endless without a limit."""
        return max(0.0, self._deadline - time.monotonic())

    def give(self, task: Task) -> None:
        """Have it run ``task``, for at most ``grid.pack_timeout`` seconds from when it is ready for it."""
        self.task = task
        self._send(task)
        self._start_clock()

    def outcome(self) -> Outcome | None:
        """What came of its task, or null while it is at it. One that has taken too long is killed."""
        outcome: Outcome | None = None
        with suppress(EOFError, OSError):  # it died, perhaps in the middle of its answer
            if self._pipe.poll():
                outcome = self._pipe.recv()
                if not self._is_ready:  # its first word says that it has started
                    self._is_ready = True
                    self._start_clock()
        if outcome is None and not self.process.is_alive():
            outcome = Broken("killed", f"its process {_ended(self.process.exitcode or 0)}")
        if outcome is None and not self.seconds_left:
            self.kill()
            outcome = Broken("timeout", f"not done after grid.pack_timeout, {self._timeout:g} seconds; its process was killed")
        if outcome is not None:
            self.task = None
        return outcome

    def _start_clock(self) -> None:
        if self._timeout and self._is_ready:
            self._deadline = time.monotonic() + self._timeout

    def stop(self) -> None:
        """Tell it to stop, whatever it is at."""
        self.process.terminate()
        self._pipe.close()

    def kill(self) -> None:
        """Kill it with its children, and wait until the locks that it held are free."""
        if self.process.pid:
            kill_tree(self.process.pid)
        self.process.join()

    def _send(self, content: object) -> None:
        with suppress(OSError):  # it is dead, which ``outcome`` tells
            self._pipe.send(content)


def serve(pipe: Connection, environment: dict[str, str], threads: int) -> None:
    """What a worker does until it is stopped: a bench and a mirror come through ``pipe``, a null goes back, then tasks and outcomes."""
    os.environ.update(environment)  # before CUDA is first used
    die_with_parent(signal.SIGKILL)
    stop_on_signals()
    keep_freed_memory()
    import torch

    with suppress(EOFError, OSError, Stopped, GpuLost):  # with a GPU that is lost it ends, and a new one takes its place
        torch.set_num_threads(threads)
        bench, mirror = pipe.recv()
        warm_up(bench)
        pipe.send(None)
        while True:
            pipe.send(attempt(bench, pipe.recv(), mirror))


def _outcomes(busy: Sequence[Worker]) -> list[tuple[Task, Outcome]]:
    """Wait until some task has come to something, and give all that have."""
    seconds = min(worker.seconds_left for worker in busy)
    wait([one for worker in busy for one in worker.waitables], None if seconds == float("inf") else seconds)
    tasks = [(worker, worker.task) for worker in busy]
    return [(task, outcome) for worker, task in tasks if task and (outcome := worker.outcome()) is not None]


def _stop(workers: Iterable[Worker]) -> None:
    deadline = time.monotonic() + STOP_SECONDS
    for worker in workers:
        worker.stop()
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        worker.kill()


def gpu_variable(place: int) -> dict[str, str]:
    """The variable that shows the worker at ``place`` one GPU of those that this process sees."""
    import torch

    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = shown.split(",") if shown else [str(number) for number in range(torch.cuda.device_count())]
    return {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}


def _ended(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}; SIGKILL is often the system's, when memory runs out"
    return f"ended with exit code {code}"
