"""What becomes of a pack that fails: it is tried again, then its configurations are tried one by one, then they are recorded as failed.

Nothing here knows where packs run.
"""

import sys
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Literal

from lora_replication import machine
from lora_replication.errors import GpuLost, ReplicationError
from lora_replication.jobs import Job
from lora_replication.records import Asked, Record
from lora_replication.runs import Bench, Mirror, perform_pack, record_failure


@dataclass(frozen=True)
class Task:
    """A pack to be run; ``attempt`` says how often its configurations have been tried then, from 1."""

    jobs: Sequence[Job]
    attempt: int = 1

    def __str__(self) -> str:
        """For people."""
        others = len(self.jobs) - 1
        return self.jobs[0].label + (f" and {others} more" if others else "")


@dataclass(frozen=True)
class Broken:
    """A pack that came to nothing, or not to all of it: how (see ``records.Happened``), why, and its peak memory where that is known."""

    status: Literal["failed", "killed", "timeout"]
    error: str
    peak_memory_bytes: int | None = None


Outcome = Sequence[Record] | Broken | ReplicationError


def warm_up(bench: Bench) -> None:
    """Read data and encoder and import what the first run would wait for, so that the time of a pack is its own.

    What is wrong is left to that run to tell.
    """
    import transformers

    with suppress(ReplicationError):
        getattr(transformers, bench.encoder.layout.classifier)
        len(bench.tokens)


def attempt(bench: Bench, task: Task, mirror: Callable[[Asked], AbstractContextManager[Mirror]]) -> Outcome:
    """Run ``task`` here. Errors are given, not raised, so that they can travel between processes.

    Raises:
        GpuLost: this process can run nothing more.
    """
    bench.attempt = task.attempt
    try:
        return perform_pack(bench, task.jobs, mirror)
    except ReplicationError as problem:
        return problem
    except Exception as problem:  # a sweep of days must not end for one configuration, whatever is wrong with it
        traceback.print_exc()
        if machine.gpu_is_lost(task.jobs[0].settings.device):
            raise GpuLost(f"the GPU answers this process no more ({problem}); what is finished is kept, run again to continue") from None
        peak = machine.peak_memory_bytes(task.jobs[0].settings.device)
        size = f"batch_size {task.jobs[0].settings.batch_size}, {len(task.jobs)} in the pack, peak memory {peak / 2**30:.2f} GiB"
        return Broken("failed", f"{type(problem).__name__} at {size}: {problem}", peak)


class Attempts:
    """The packs of a sweep that wait for a try.

    Attributes:
        waiting: in the order in which they are to be taken; those that failed come last.
    """

    def __init__(self, bench: Bench, packs: Sequence[Sequence[Job]]) -> None:
        self._bench = bench
        self.waiting = deque(Task(pack) for pack in packs)

    def settle(self, task: Task, outcome: Outcome) -> list[tuple[Job, Record]]:
        """What ``outcome`` of ``task`` leaves in the ledger: its records, and failures once all attempts are spent.

        Raises:
            ReplicationError: where that is the outcome: data, parameters or the machine are wrong, for every pack.
        """
        if isinstance(outcome, ReplicationError):
            raise outcome
        if not isinstance(outcome, Broken):
            return list(zip(task.jobs, outcome, strict=True))
        print(f"grid: attempt {task.attempt} of {task} {outcome.status}: {outcome.error}", file=sys.stderr)
        settled, rest = [], []
        for job in task.jobs:
            record = self._bench.recorded(job)
            if record:
                settled.append((job, record))
            else:
                rest.append(job)
        if rest and task.attempt < self._bench.study.grid.attempts:
            self.waiting.append(Task(rest, task.attempt + 1))
        elif len(task.jobs) > 1:
            self.waiting.extend(Task([job], task.attempt + 1) for job in rest)
        else:
            self._bench.attempt = task.attempt
            settled += [(job, record_failure(self._bench, job, outcome.status, outcome.error, outcome.peak_memory_bytes)) for job in rest]
        return settled
