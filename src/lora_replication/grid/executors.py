"""Where the jobs of a sweep run: in this process, one after another."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from lora_replication.jobs import Job
from lora_replication.records import Asked, Record
from lora_replication.runs import Bench, Mirror, perform, record_failure


def in_this_process(
    bench: Bench, mirror: Callable[[Asked], AbstractContextManager[Mirror]], jobs: list[Job]
) -> Iterator[tuple[Job, Record]]:
    """Run ``jobs`` in order; one that fails is recorded as failed and the rest goes on."""
    for job in jobs:
        try:
            yield job, perform(bench, job, mirror)
        except (RuntimeError, MemoryError) as problem:  # torch reports most of what goes wrong, memory included, as RuntimeError
            yield job, record_failure(bench, job, f"{type(problem).__name__} at batch_size {job.settings.batch_size}: {problem}")
