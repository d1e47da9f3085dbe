"""The report's section on cost and machine."""

from collections import Counter
from collections.abc import Sequence

from lora_replication.record import Record
from lora_replication.report.summary import Summary
from lora_replication.report.tables import Cell, Table, run_seconds
from lora_replication.report.wording import duration, gibibytes


def machine_table(records: Sequence[Record]) -> Table:
    """Where the runs were made: one row per distinct machine and software."""
    places = Counter(_place(record) for record in records)
    return Table(
        name="machine",
        caption="Where the runs were made: one row for each combination of machine, software and state of the code.",
        columns=(
            "Runs",
            "Code",
            "Processor",
            "Graphics processor",
            "Threads of torch",
            "Memory",
            "System",
            "Versions",
        ),
        rows=tuple(
            (Cell(f"{number:,}"), *place)
            for place, number in sorted(places.items(), key=lambda item: (-item[1], str(item[0])))
        ),
        left=frozenset({1, 2, 3, 6, 7}),
    )


def _place(record: Record) -> tuple[Cell, ...]:
    where = record.where
    dirty = {True: "with local changes", False: "", None: ""}[where.git_dirty]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(where.versions.items()))
    return (
        Cell(
            where.git_commit[:12] if where.git_commit else "no git",
            dirty,
            alert=bool(where.git_dirty),
        ),
        Cell(where.cpu, f"{where.cores} cores"),
        Cell(where.gpu or "none"),
        Cell(str(where.threads)),
        Cell(gibibytes(where.memory_bytes)),
        Cell(where.platform),
        Cell(versions),
    )


def cost_statement(summary: Summary) -> str:
    """Time spent on the runs that the report shows."""
    shown = {
        "methods": [record for record in summary.runs if record.asked.role == "method"],
        "the grid": [*summary.grid.cells, *summary.grid.unfinished],
        "its winner on fresh seeds": [
            record for record in summary.runs if record.asked.role == "winner"
        ],
        "configurations beside it": [
            record for record in summary.runs if record.asked.role == "runner_up"
        ],
    }
    parts = [
        f"{_total(records)} for {what} ({len(records):,} run{'s' if len(records) > 1 else ''})"
        for what, records in shown.items()
        if records
    ]
    return (
        f"Training and evaluation took {_total(summary.records)} in all: {', '.join(parts)}."
        if parts
        else "No run has been made yet."
    )


def _total(records: Sequence[Record]) -> str:
    return duration(sum(run_seconds(record) or 0.0 for record in records))
