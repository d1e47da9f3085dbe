"""The search: every run of grid and sweeps once, then what they choose on fresh seeds.

Recorded runs are skipped, so a second start continues.
"""

import time
from collections.abc import Callable, Collection, Iterable, Sequence

from lora_replication.errors import IncompleteError
from lora_replication.grid.choice import winner_by_validation
from lora_replication.grid.packing import packs_of
from lora_replication.plan import Progress, progress, rough_duration, run_line
from lora_replication.record import Record, Run
from lora_replication.workspace import Workspace

SEARCHES = {"trial": "tuning", "cell": "grid"}
"""Roles of what is searched, with what it is called."""

FRESH = ("winner", "runner_up", "tuned")
"""Roles of what a finished search chooses, on fresh seeds."""

Executor = Callable[[Sequence[Sequence[Run]]], Iterable[Record]]
"""Runs packs in whatever order and place, and yields each record once it is written."""


def sweep(
    workspace: Workspace,
    pack_size: Callable[[Sequence[Run]], int],
    executor: Executor,
    say: Callable[[str], None],
) -> None:
    """Complete the grid and the sweeps of methods, and train what they choose on fresh seeds.

    Args:
        pack_size: how many configurations train together; asked where some are left.
        executor: runs the rest.
        say: takes a line on how far it is, after each run.

    Raises:
        IncompleteError: some run has no result, those that have one are kept; or all diverged.
    """
    before = progress(workspace)
    if before.stale:
        say(f"grid: skipping {before.stale} records of other parameters, data, weights or results")
    for role, title in SEARCHES.items():
        search([run for run in before.asked if run.role == role], before, title,
               pack_size, executor, say)  # fmt: skip
    between = progress(workspace)
    cells = [record for record in between.done if record.asked.role == "cell"]
    if cells:
        winner = winner_by_validation(cells)
        others = list(dict.fromkeys(r.name for r in between.asked if r.role == "runner_up"))
        also = f", and {len(others)} next to it: {', '.join(others)}" if others else ""
        say(f"grid: the winner by validation is {winner.asked.name}{also}")
    tuned = {run.name: run.settings.axes for run in between.asked if run.role == "tuned"}
    for name, axes in tuned.items():
        say(f"tuning: {name} is best at {axes}")
    # What is cited trains alone, so that its cost is its own.
    for record in executor([[run] for run in between.missing if run.role in FRESH]):
        say(run_line(workspace, record))
    if missing := [run for run in progress(workspace).missing if run.role in FRESH]:
        raise IncompleteError(f"fresh seeds: missing: {_some(missing)}; run again to continue")


def search(
    asked: Sequence[Run],
    before: Progress,
    title: str,
    pack_size: Callable[[Sequence[Run]], int],
    executor: Executor,
    say: Callable[[str], None],
) -> None:
    """Complete the runs ``asked``, in packs, and tell as the ``title``; see ``sweep``.

    Raises ``IncompleteError`` where some run has no result.
    """
    places = {run.place for run in asked}
    records = {r.asked.place: r for r in before.done if r.asked.place in places}
    if not asked:
        return
    say(f"{title}: {tally(len(asked), records.values())}")
    packs = packs_of(asked, pack_size(asked)) if len(records) < len(asked) else []
    # A pack of which nothing is done gives the bits of a whole sweep.
    unfinished = [[run for run in pack if run.place not in records] for pack in packs]
    started = time.monotonic()
    for ran, record in enumerate(executor([pack for pack in unfinished if pack]), 1):
        records[record.asked.place] = record
        left = (time.monotonic() - started) / ran * (len(asked) - len(records))
        rest = f", {rough_duration(left)} left" if left else ""
        say(f"{title}: {tally(len(asked), records.values())}{rest}")
    missing = [run for run in asked if run.place not in records or not records[run.place].is_done]
    if missing:
        known = tally(len(asked), records.values())
        raise IncompleteError(f"{title}: {known}; missing: {_some(missing)}; run again to continue")


def tally(asked: int, records: Collection[Record]) -> str:
    """``k of n runs done, n diverged, n predict a single class, n failed``."""
    done = sum(record.is_done for record in records)
    diverged = sum(record.happened.status == "diverged" for record in records)
    collapsed = sum(record.happened.one_class for record in records)
    return (
        f"{done} of {asked} runs done, {diverged} diverged, "
        f"{collapsed} predict a single class, {len(records) - done} failed"
    )


def _some(runs: list[Run]) -> str:
    more = f" and {len(runs) - 5} more" if len(runs) > 5 else ""
    return ", ".join(run.label for run in runs[:5]) + more
