"""The report's section on the grid: every configuration, the winner by validation, the winner on
fresh seeds.
"""

from lora_replication.record import Record
from lora_replication.report.summary import MethodSummary, Summary
from lora_replication.report.tables import Cell, Table, accuracy_cells, status_cell
from lora_replication.report.wording import (
    count,
    ends,
    level,
    percent,
    remark,
    signed,
    signed_ends,
    what_trains,
)


def grid_table(summary: Summary) -> Table:
    """Every configuration of the grid that has a record, best validation accuracy first."""
    grid = summary.grid
    return Table(
        name="cells",
        caption=(
            f"All {len(grid.cells) + len(grid.unfinished):,} configurations with a record, one run each, sorted by validation accuracy (of "
            "equal ones, the one with fewer parameters first). Accuracy in percent. The choice looks at validation alone. "
            f"{remark(summary.study)}"
        ).strip(),
        columns=(
            "Place",
            "Configuration",
            "Rank",
            "Alpha",
            "Trainable parameters",
            "Train",
            "Validation",
            "Test",
            "Status",
            "Key",
        ),
        rows=tuple(
            _cell_row(place, record)
            for place, record in enumerate([*grid.cells, *grid.unfinished], start=1)
        ),
        left=frozenset({1, 8, 9}),
    )


def _cell_row(place: int, record: Record) -> tuple[Cell, ...]:
    lora = record.asked.settings["lora"]
    return (
        Cell(str(place)),
        Cell(record.asked.name, "; ".join(record.happened.notes)),
        Cell(str(lora["rank"])),
        Cell(f"{lora['alpha']:g}"),
        Cell(count(record.happened.trainable_parameters)),
        *accuracy_cells(record),
        status_cell(record),
        Cell(record.asked.key[:10]),
    )


def choice_table(summary: Summary) -> Table:
    """The winner and the configurations trained again beside it, on the same fresh seeds."""
    grid, confidence = summary.grid, summary.study.report.confidence
    return Table(
        name="choice",
        caption=(
            "The grid's winner, the best configurations that validation cannot tell from it, and the article's choice, on fresh seeds. "
            f"Accuracy in percent; {level(confidence)} t intervals over seeds; the difference is the test accuracy less the winner's, "
            f"paired over seeds. {remark(summary.study)}"
        ).strip(),
        columns=(
            "Configuration",
            "Trainable parameters",
            "Runs",
            "Validation in the grid",
            "Test",
            "Over seeds",
            "Difference",
            "Over seeds",
        ),
        rows=tuple(
            _choice_row(summary, row)
            for row in (*([grid.winner] if grid.winner else []), *grid.runners_up)
        ),
        left=frozenset({0}),
    )


def _choice_row(summary: Summary, row: MethodSummary) -> tuple[Cell, ...]:
    grid, test = summary.grid, row.parts["test"]
    cell = next(
        (
            c
            for c in grid.cells
            if row.runs and c.asked.settings["lora"] == row.runs[0].asked.settings["lora"]
        ),
        None,
    )
    difference = (
        None
        if row is grid.winner
        else grid.difference_from_winner(row, summary.study.report.confidence)
    )
    return (
        Cell(
            (cell.asked.name if cell else row.name) + (" (winner)" if row is grid.winner else ""),
            row.trains,
        ),
        Cell(count(row.trainable_parameters)),
        Cell(f"{len(row.runs)} of {len(row.seeds)}"),
        Cell(percent(cell.happened.val.fraction if cell and cell.happened.val else None)),
        Cell(percent(test.estimate if test else None)),
        Cell(ends(test)),
        Cell(signed(difference.estimate if difference else None)),
        Cell(signed_ends(difference)),
    )


def grid_statement(summary: Summary) -> list[str]:
    """What the sweep came to, in sentences: how much of it is done, its winner by validation, the
    winner on fresh seeds.
    """
    grid = summary.grid
    done = (
        f"{len(grid.cells):,} of {grid.asked:,} configurations done; {grid.diverged:,} diverged, {grid.one_class:,} answer one class for "
        f"every test review, {len(grid.unfinished):,} ended without a result."
    )
    return [done, *_given_up(summary), *_best_statement(summary), *_winner_statement(summary)]


def _given_up(summary: Summary) -> list[str]:
    """What ``grid.stop_one_class`` saved, where it did; what it may have changed is said with
    it.
    """
    stopped = [
        cell.happened.stopped_after for cell in summary.grid.cells if cell.happened.stopped_after
    ]
    if not stopped:
        return []
    epochs = summary.study.train.epochs
    saved = sum(epochs - after for after in stopped)
    return [
        f"{len(stopped):,} were given up after an epoch that answered every validation review alike, which saved {saved:,} of "
        f"{len(summary.grid.cells) * epochs:,} epochs; whether they would have recovered is not known."
    ]


def _best_statement(summary: Summary) -> list[str]:
    grid = summary.grid
    if grid.best is None or grid.best.happened.val is None:
        return []
    if not grid.complete:
        missing = grid.asked - len(grid.cells)
        are = "configuration is" if missing == 1 else "configurations are"
        return [f"No winner is named while {missing:,} {are} missing."]
    settings = grid.best.asked.settings
    return [
        f"Winner by validation: {grid.best.asked.name} ({what_trains('lora', settings['lora'])}), "
        f"{percent(grid.best.happened.val.fraction)} % on validation. As the best of many it is flattered by the choice, so it is quoted "
        "only after training on fresh seeds."
    ]


def _winner_statement(summary: Summary) -> list[str]:
    grid, confidence = summary.grid, level(summary.study.report.confidence)
    if grid.winner is None:
        return ["The winner has not been trained on fresh seeds yet."] if grid.complete else []
    test, sampling = grid.winner.parts["test"], grid.winner.test_sampling
    if test is None or sampling is None:
        return ["None of the winner's runs on fresh seeds has an accuracy."]
    seeds = (
        f"{confidence} t interval {ends(test)} ({test.source})"
        if test.low is not None
        else f"no t interval ({test.source})"
    )
    lines = [
        f"On fresh seeds, {grid.winner.trains} ({len(grid.winner.runs)} of {len(grid.winner.seeds)} runs done): "
        f"mean test accuracy {percent(test.estimate)} %; {seeds}; {confidence} Wilson interval {ends(sampling)} ({sampling.source})."
    ]
    if grid.best and grid.best.asked.settings["lora"] != grid.winner.runs[0].asked.settings["lora"]:
        lines.append(
            "Mind: this is not the configuration that is best by validation in the table below."
        )
    return lines
