"""The long table: one row a run, from its record."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from lora_replication.record import Count, Record
from lora_replication.report.results import PARTS, RunRow
from lora_replication.statistics import exact_interval, wilson_interval

SETTINGS = ("encoder", "max_tokens", "batch_size", "learning_rate", "precision", "trains", "lora")
HAPPENED = (
    "status", "error", "first_bad_step", "one_class", "best_epoch", "stopped_after",
    "trainable_parameters", "total_parameters", "pack", "training_seconds", "evaluation_seconds",
    "tokens_per_second", "peak_memory_bytes", "notes", "epochs",
)  # fmt: skip


def long_table(records: Iterable[Record], level: float) -> pd.DataFrame:
    """One row a record, the columns those of ``RunRow``; the grid's runs best by validation first.

    Values are plain objects, so a count stays whole and an absent value None.
    """
    rows = sorted((_row(record, level) for record in records), key=_order)
    for place, row in enumerate((row for row in rows if row["role"] == "cell"), start=1):
        row["place"] = place
    return pd.DataFrame(rows, columns=list(RunRow.model_fields), dtype=object)


def run_rows(table: pd.DataFrame) -> list[RunRow]:
    """The rows, typed."""
    return [RunRow(**row) for row in table.to_dict("records")]


def _row(record: Record, level: float) -> dict[str, Any]:
    asked, happened, where = record.asked, record.happened, record.where
    test = None if asked.role == "cell" else happened.test
    spent = (happened.training_seconds, happened.evaluation_seconds)
    return {
        "place": None,
        **{name: getattr(asked, name) for name in ("role", "name", "seed", "key")},
        **{name: getattr(asked.settings, name) for name in SETTINGS},
        **{name: getattr(happened, name) for name in HAPPENED},
        **{
            column: value
            for part in PARTS
            for column, value in _counted(part, getattr(happened, part)).items()
        },
        "test_wilson": wilson_interval(test.correct, test.reviews, level) if test else None,
        "test_exact": exact_interval(test.correct, test.reviews, level) if test else None,
        "seconds": None if spent == (None, None) else sum(part or 0.0 for part in spent),
        "commit": where.git_commit,
        "cpu": where.cpu,
        "gpu": where.gpu,
        "threads": where.threads,
    }


def _counted(part: str, count: Count | None) -> dict[str, float | None]:
    return {
        f"{part}_correct": count.correct if count else None,
        f"{part}_reviews": count.reviews if count else None,
        f"{part}_accuracy": count.fraction if count else None,
    }


def _order(row: dict[str, Any]) -> tuple[float, ...]:
    """Methods, winner and others as asked; then the grid: highest validation accuracy first, of
    equal ones the smallest, then those without a result.
    """
    if row["role"] != "cell":
        return (0,)
    done = row["status"] in ("ok", "diverged")
    accuracy = row["val_accuracy"]
    return (
        1 if done else 2,
        1.0 if accuracy is None else -accuracy,
        row["trainable_parameters"] or 0,
    )
