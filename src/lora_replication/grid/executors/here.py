"""The packs one after another in this process. It cannot kill itself, so a pack that hangs holds it up: see ``grid.pack_timeout``."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from lora_replication.grid.executors.attempts import Attempts, attempt
from lora_replication.grid.sweep import Executor
from lora_replication.jobs import Job
from lora_replication.records import Asked, Record
from lora_replication.runs import Bench, Mirror


@contextmanager
def here(bench: Bench, mirror: Callable[[Asked], AbstractContextManager[Mirror]]) -> Iterator[Executor]:
    """Runs packs in order, those that fail again at the end."""

    def run(packs: Sequence[Sequence[Job]]) -> Generator[tuple[Job, Record]]:
        attempts = Attempts(bench, packs)
        while attempts.waiting:
            task = attempts.waiting.popleft()
            yield from attempts.settle(task, attempt(bench, task, mirror))

    yield run
