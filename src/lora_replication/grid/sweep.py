"""The sweep: every configuration of the space once, then what it chooses on fresh seeds.

What is recorded with the right key is not run again, so a second start continues.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from lora_replication.errors import IncompleteError
from lora_replication.grid.choice import winner_by_validation
from lora_replication.grid.packs import packs_of
from lora_replication.plan import Progress, progress
from lora_replication.record import Record, Run
from lora_replication.workspace import Workspace

Executor = Callable[[Sequence[Sequence[Run]]], Iterable[Record]]
"""Runs packs in whatever order and place, and yields each record as it is written."""


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
        say: takes a line on how far it is, after each configuration.

    Returns:
        The winning configuration's record in the grid.

    Raises:
        IncompleteError: some configuration or winner has no result; those that have one are kept.
    """
    before = progress(workspace)
    if before.stale:
        say(
            f"grid: {before.stale} records of other parameters, data, weights or results are not read"
        )
    cells = [run for run in before.asked if run.role == "cell"]
    records = {r.asked.name: r for r in before.done if r.asked.role == "cell"}
    say(f"grid: {tally(len(cells), records.values())}")
    packs = packs_of(cells, pack_size(cells)) if len(records) < len(cells) else []
    started, ran = time.monotonic(), 0
    for record in executor(_unfinished(packs, records.keys())):
        records[record.asked.name] = record
        ran += 1
        left = time_left(started, ran, len(cells) - len(records))
        say(f"grid: {tally(len(cells), records.values())}{left}")
    after = progress(workspace)
    missing = _of_grid(after, "cell")
    if missing:
        raise IncompleteError(
            f"grid: {tally(len(cells), records.values())}; missing: {_some(missing)}; "
            "run again to continue"
        )
    winner = winner_by_validation(records.values())
    chosen = sorted({run.name for run in after.asked if run.role == "runner_up"})
    others = f", and {len(chosen)} next to it: {', '.join(chosen)}" if chosen else ""
    seeds = workspace.study.grid.winner_seeds
    say(f"grid: the winner by validation is {winner.asked.name}{others}; fresh seeds {seeds}")
    for record in executor([[run] for run in _of_grid(after, "winner", "runner_up")]):
        say(f"grid: {record.asked.label}: {record.happened.status}")
    missing = _of_grid(progress(workspace), "winner", "runner_up")
    if missing:
        raise IncompleteError(
            f"grid: on fresh seeds {_some(missing)} are missing; run again to continue"
        )
    return winner


def tally(asked: int, records: Iterable[Record]) -> str:
    """``k of n configurations done, n diverged, n collapsed, n failed``."""
    known = list(records)
    done = sum(record.is_done for record in known)
    diverged = sum(record.happened.status == "diverged" for record in known)
    collapsed = sum(record.happened.one_class for record in known)
    return (
        f"{done} of {asked} configurations done, {diverged} diverged, "
        f"{collapsed} predict a single class, {len(known) - done} failed"
    )


def time_left(started: float, ran: int, left: int) -> str:
    """``, about 1 h 20 min left`` at the pace since ``started`` (monotonic seconds), or nothing."""
    if not (ran and left):
        return ""
    seconds = (time.monotonic() - started) / ran * left
    minutes = round(seconds / 60)
    if minutes < 1:
        return f", about {seconds:.0f} s left"
    if minutes < 60:
        return f", about {minutes} min left"
    return f", about {minutes // 60} h {minutes % 60} min left"


def _of_grid(state: Progress, *roles: str) -> list[Run]:
    return [run for run in state.missing if run.role in roles]


def _unfinished(packs: Iterable[Sequence[Run]], done: Iterable[str]) -> list[list[Run]]:
    """What is left of ``packs``; one of which nothing is done gives the bits of a whole sweep."""
    names = set(done)
    left = [[run for run in pack if run.name not in names] for pack in packs]
    return [pack for pack in left if pack]


def _some(runs: list[Run]) -> str:
    more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    return ", ".join(run.label for run in runs[:5]) + more
