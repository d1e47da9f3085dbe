"""The sweep: every configuration of the space once, then the winner by validation again on fresh seeds.

The ledger is the folder of records: what is there with the right key is not run again, so a second start continues.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lora_replication.errors import IncompleteError
from lora_replication.grid.choice import chosen_names, runners_up, winner_by_validation
from lora_replication.grid.packs import packs_of
from lora_replication.grid.space import cell_jobs, runner_up_jobs, winner_jobs
from lora_replication.jobs import Job
from lora_replication.params import Study
from lora_replication.records import Record

Ledger = Callable[[Job], Record | None]
"""Gives the record of exactly this job, or null."""

Executor = Callable[[Sequence[Sequence[Job]]], Iterable[tuple[Job, Record]]]
"""Runs packs in whatever order and place, and gives each record as it is written."""


@dataclass
class Tally:
    """How far a sweep is.

    Attributes:
        asked: configurations; ``records``: of those done or failed, by name of the configuration.
        ran: how many of the records were made since ``started`` (of the monotonic clock, seconds).
    """

    asked: list[Job]
    records: dict[str, Record]
    started: float
    ran: int = 0

    def add(self, job: Job, record: Record) -> None:
        """Count a record that was made just now."""
        self.records[job.name] = record
        self.ran += 1

    def time_left(self) -> str:
        """``, about 1 h 20 min left``, as the rest goes on like what was run so far; empty where nothing was, or nothing is left."""
        left = len(self.asked) - len(self.records)
        if not (self.ran and left):
            return ""
        seconds = (time.monotonic() - self.started) / self.ran * left
        minutes = round(seconds / 60)
        if minutes < 1:
            return f", about {seconds:.0f} s left"
        return f", about {minutes // 60} h {minutes % 60} min left" if minutes >= 60 else f", about {minutes} min left"

    def __str__(self) -> str:
        """``k of n done, n diverged, n one-class, n failed``."""
        happened = [record.happened for record in self.records.values()]
        done = sum(record.is_done for record in self.records.values())
        return (
            f"{done} of {len(self.asked)} configurations done, {sum(h.status == 'diverged' for h in happened)} diverged, "
            f"{sum(h.one_class for h in happened)} one-class, {len(happened) - done} failed"
        )


def sweep(
    study: Study, ledger: Ledger, pack_size: Callable[[Sequence[Job]], int], executor: Executor, say: Callable[[str], None]
) -> Record:
    """Complete the grid of ``study`` and train its winner on fresh seeds.

    Args:
        ledger: finds what is done already.
        pack_size: how many of the configurations train together; asked where some are left.
        executor: runs the rest.
        say: is told how far it is, after each configuration.

    Returns:
        The winning configuration's record in the grid.

    Raises:
        IncompleteError: some configuration or winner has no result; those that have one are kept.
    """
    cells = cell_jobs(study)
    tally = Tally(cells, {job.name: record for job in cells if (record := ledger(job))}, time.monotonic())
    say(f"grid: {tally}")
    packs = packs_of(cells, pack_size(cells)) if len(tally.records) < len(cells) else []
    for job, record in executor(_unfinished(packs, tally.records)):
        tally.add(job, record)
        say(f"grid: {tally}{tally.time_left()}")
    missing = [job.label for job in tally.asked if job.name not in tally.records or not tally.records[job.name].is_done]
    if missing:
        raise IncompleteError(f"grid: {tally}; missing: {_some(missing)}; run again to continue")
    winner = winner_by_validation(tally.asked, tally.records)
    beside = runners_up(study, tally.asked, tally.records)
    say(f"grid: the winner by validation is {chosen_names(winner, beside)}; trained again on seeds {study.grid.winner_seeds}")
    again = winner_jobs(study, winner) + runner_up_jobs(study, beside)
    trained = {(job.name, job.seed): record for job in again if (record := ledger(job))}
    rest = [[job] for job in again if (job.name, job.seed) not in trained]
    trained |= {(job.name, job.seed): record for job, record in executor(rest)}
    missing = [job.label for job in again if (job.name, job.seed) not in trained or not trained[job.name, job.seed].is_done]
    if missing:
        raise IncompleteError(f"grid: on fresh seeds {_some(missing)} are missing; run again to continue")
    return tally.records[winner.name]


def _unfinished(packs: Iterable[Sequence[Job]], done: Mapping[str, Record]) -> list[list[Job]]:
    """What is left of ``packs``; one of which nothing is done stays as it is, so that it gives the bits of an unbroken sweep."""
    left = [[job for job in pack if job.name not in done] for pack in packs]
    return [pack for pack in left if pack]


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
