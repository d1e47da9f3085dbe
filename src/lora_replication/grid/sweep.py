"""The sweep: every configuration of the space once, then what it chooses on fresh seeds.

Recorded runs are skipped, so a second start continues.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import timedelta

from lora_replication.errors import IncompleteError
from lora_replication.grid.choice import winner_by_validation
from lora_replication.grid.packing import packs_of
from lora_replication.plan import progress
from lora_replication.record import Record, Run
from lora_replication.workspace import Workspace

FRESH = ("winner", "runner_up")
"""Roles of what the finished grid chooses, on fresh seeds."""

Executor = Callable[[Sequence[Sequence[Run]]], Iterable[Record]]
"""Runs packs in whatever order and place, and yields each record once it is written."""


def sweep(
    workspace: Workspace,
    pack_size: Callable[[Sequence[Run]], int],
    executor: Executor,
    say: Callable[[str], None],
) -> Record:
    """Complete the grid and train its winner and runners-up on fresh seeds.

    Args:
        pack_size: how many of the configurations train together; asked where some are left.
        executor: runs the rest.
        say: takes a line on how far it is, after each run.

    Returns:
        The winning configuration's record in the grid.

    Raises:
        IncompleteError: some run has no result, those that have one are kept; or all diverged.
    """
    before = progress(workspace)
    if before.stale:
        say(f"grid: skipping {before.stale} records of other parameters, data, weights or results")
    cells = [run for run in before.asked if run.role == "cell"]
    records = {r.asked.name: r for r in before.done if r.asked.role == "cell"}
    say(f"grid: {tally(len(cells), records.values())}")
    packs = packs_of(cells, pack_size(cells)) if len(records) < len(cells) else []
    started = time.monotonic()
    for ran, record in enumerate(executor(_unfinished(packs, set(records))), 1):
        records[record.asked.name] = record
        left = time_left(time.monotonic() - started, ran, len(cells) - len(records))
        say(f"grid: {tally(len(cells), records.values())}{left}")
    between = progress(workspace)
    if missing := [run for run in between.missing if run.role == "cell"]:
        known = tally(len(cells), records.values())
        raise IncompleteError(f"grid: {known}; missing: {_some(missing)}; run again to continue")
    winner = winner_by_validation(r for r in between.done if r.asked.role == "cell")
    others = list(dict.fromkeys(run.name for run in between.asked if run.role == "runner_up"))
    also = f", and {len(others)} next to it: {', '.join(others)}" if others else ""
    seeds = ", ".join(map(str, workspace.study.grid.winner_seeds))
    say(f"grid: the winner by validation is {winner.asked.name}{also}; fresh seeds {seeds}")
    for record in executor([[run] for run in between.missing if run.role in FRESH]):
        say(f"grid: {record.asked.label}: {record.happened.status}")
    if missing := [run for run in progress(workspace).missing if run.role in FRESH]:
        raise IncompleteError(f"grid: missing: {_some(missing)}; run again to continue")
    return winner


def tally(asked: int, records: Collection[Record]) -> str:
    """``k of n configurations done, n diverged, n predict a single class, n failed``."""
    done = sum(record.is_done for record in records)
    diverged = sum(record.happened.status == "diverged" for record in records)
    collapsed = sum(record.happened.one_class for record in records)
    return (
        f"{done} of {asked} configurations done, {diverged} diverged, "
        f"{collapsed} predict a single class, {len(records) - done} failed"
    )


def time_left(seconds: float, ran: int, left: int) -> str:
    """``, about 1:20:00 left`` where ``ran`` configurations took so many seconds; '' at the end."""
    return f", about {timedelta(seconds=round(seconds * left / ran))} left" if left else ""


def _unfinished(packs: Sequence[Sequence[Run]], done: set[str]) -> list[list[Run]]:
    """What is left of ``packs``; one of which nothing is done gives the bits of a whole sweep."""
    left = [[run for run in pack if run.name not in done] for pack in packs]
    return [pack for pack in left if pack]


def _some(runs: list[Run]) -> str:
    more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    return ", ".join(run.label for run in runs[:5]) + more
