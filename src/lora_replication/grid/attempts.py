"""Running packs, and what becomes of one that fails.

It is tried again, then its configurations are tried one by one, then they are recorded as failed.
``run_locally`` runs packs in this process; ``grid.ray`` on Ray, with the same rules.
"""

import sys
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

from lora_replication import machine
from lora_replication.errors import GpuLost, IncompleteError, ReplicationError
from lora_replication.files import only_writer
from lora_replication.grid.sweep import Executor
from lora_replication.record import Record, Run
from lora_replication.training.run import OpenMirror, perform, perform_one, record_failure
from lora_replication.workspace import Workspace


@dataclass(frozen=True)
class Task:
    """A pack to be run; ``attempt`` counts from 1."""

    runs: Sequence[Run]
    attempt: int = 1


@dataclass(frozen=True)
class Broken:
    """A pack that failed: how (see ``record.Happened``), why, and its peak memory where known."""

    status: Literal["failed", "killed", "timeout"]
    error: str
    peak_memory_bytes: int | None = None


Outcome = Sequence[Record] | Broken | ReplicationError


def open_executor(workspace: Workspace, mirror: OpenMirror) -> AbstractContextManager[Executor]:
    """What ``execution.executor`` names; leaving it ends all that it started, finished or not."""
    if workspace.study.execution.executor == "ray":
        from lora_replication.grid.ray import RayExecutor  # it imports this module

        return RayExecutor(workspace, mirror)
    return nullcontext(partial(run_locally, workspace, mirror))


def run_alone(workspace: Workspace, mirror: OpenMirror, runs: Sequence[Run]) -> Iterator[Record]:
    """Train each of ``runs`` alone: here one after another, on Ray as many at a time as there is
    room for. Raises ``IncompleteError``: some failed, which is recorded.
    """
    if workspace.study.execution.executor == "local":
        yield from (perform_one(workspace, run, mirror) for run in runs)
        return
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(only_writer(workspace.lock(run.place)))
        executor = stack.enter_context(open_executor(workspace, mirror))
        yield from executor([[run] for run in runs])
    if failed := [run.label for run in runs if workspace.done(run) is None]:
        raise IncompleteError(f"{', '.join(failed)}: failed, recorded; run again to try again")


def run_locally(
    workspace: Workspace, mirror: OpenMirror, packs: Sequence[Sequence[Run]]
) -> Generator[Record]:
    """Run packs one after another in this process, those that fail again at the end."""
    attempts = Attempts(workspace, packs)
    while attempts.waiting:
        task = attempts.waiting.popleft()
        yield from attempts.settle(task, attempt(workspace, task, mirror))


def attempt(workspace: Workspace, task: Task, mirror: OpenMirror) -> Outcome:
    """Run ``task`` here. Errors are returned, so that they can travel between processes.

    Raises ``GpuLost`` where this process can run nothing more.
    """
    settings = task.runs[0].settings
    try:
        return perform(workspace, task.runs, mirror, task.attempt)
    except ReplicationError as problem:
        return problem
    except Exception as problem:  # one configuration must not end a sweep of days
        traceback.print_exc()
        if machine.gpu_is_lost(settings.device):
            raise GpuLost(
                f"the GPU no longer answers this process ({problem}); "
                "finished runs are kept, run again to continue"
            ) from None
        peak = machine.peak_memory_bytes(settings.device)
        size = f"batch_size {settings.batch_size}, {len(task.runs)} in the pack"
        at = f"{type(problem).__name__} at {size}, peak memory {peak / 2**30:.2f} GiB"
        return Broken("failed", f"{at}: {problem}", peak)


class Attempts:
    """The packs that wait for a try: ``waiting``, in that order; those that failed come last."""

    def __init__(self, workspace: Workspace, packs: Sequence[Sequence[Run]]) -> None:
        self._workspace = workspace
        self.waiting = deque(Task(pack) for pack in packs)

    def settle(self, task: Task, outcome: Outcome) -> list[Record]:
        """The records that ``outcome`` of ``task`` leaves; failures once all attempts are spent.

        A ``ReplicationError`` is raised: data, parameters or the machine are wrong for every pack.
        """
        if isinstance(outcome, ReplicationError):
            raise outcome
        if not isinstance(outcome, Broken):
            return list(outcome)
        name = task.runs[0].label + (f" and {len(task.runs) - 1} more" if task.runs[1:] else "")
        problem = f"{outcome.status}: {outcome.error}"
        print(f"attempt {task.attempt} of {name} {problem}", file=sys.stderr)
        found = [(run, self._workspace.done(run)) for run in task.runs]
        settled = [record for _, record in found if record]
        rest = [run for run, record in found if record is None]
        if rest and task.attempt < self._workspace.study.execution.attempts:
            self.waiting.append(Task(rest, task.attempt + 1))
        elif len(task.runs) > 1:
            self.waiting.extend(Task([run], task.attempt + 1) for run in rest)
        else:
            how = (outcome.status, outcome.error, outcome.peak_memory_bytes, task.attempt)
            settled += [record_failure(self._workspace, run, *how) for run in rest]
        return settled
