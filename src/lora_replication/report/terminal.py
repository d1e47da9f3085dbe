"""The report's main table for a terminal, from ``table.csv``."""

import csv
from pathlib import Path

HEADINGS = ("method", "trainable", "runs", "train", "val", "test", "test sampling", "seeds")


def terminal_table(table: Path) -> str:
    """Title, one line per method with accuracies in percent and the two intervals of the test
    accuracy, and what the study is not.

    Args:
        table: ``reports/<study>/table.csv``.
    """
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    body = [
        "  ".join(
            cell.ljust(w) if column == 0 else cell.rjust(w)
            for column, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    level = f"{float(rows[0]['confidence_level']):.0%}"
    note = f"Accuracy in percent; {level} intervals of the test accuracy: Wilson for the sample of test reviews, t for the seeds."
    return "\n".join([rows[0]["title"], *body, note])


def _cells(row: dict[str, str]) -> tuple[str, ...]:
    return (
        row["method"],
        f"{int(row['trainable_parameters']):,}" if row["trainable_parameters"] else "-",
        f"{row['runs_done']} of {row['runs_asked']}",
        *(_percent(row[f"{part}_accuracy"]) for part in ("train", "val", "test")),
        _range(row["wilson_low"], row["wilson_high"]),
        _range(row["t_low"], row["t_high"]),
    )


def _percent(fraction: str) -> str:
    return f"{100 * float(fraction):.2f}" if fraction else "-"


def _range(low: str, high: str) -> str:
    return f"{_percent(low)} to {_percent(high)}" if low and high else "-"
