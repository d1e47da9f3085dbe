"""The report's tables as data; Markdown and the page draw the same ones. Numbers here are rounded
for reading.
"""

from dataclasses import dataclass, field

from lora_replication.article import SETTING, PublishedMethod
from lora_replication.record import Record
from lora_replication.report.summary import PARTS, MethodSummary, Summary
from lora_replication.report.wording import (
    ABSENT,
    count,
    duration,
    ends,
    gibibytes,
    level,
    percent,
    remark,
)
from lora_replication.statistics import Interval
from lora_replication.study import Study


@dataclass(frozen=True)
class Cell:
    """A cell: its text, a remark that stands with it, and whether it deserves attention."""

    text: str
    note: str = ""
    alert: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first cell of a row names the row.

    Attributes:
        name: for anchors.
        caption: what it shows and how to read it.
        columns: headings.
        rows: cells, as many as there are columns.
        left: positions of columns of words; the others hold numbers.
    """

    name: str
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: frozenset[int] = field(default=frozenset({0}))


def methods_table(summary: Summary) -> Table:
    """Per method: parameters, mean accuracies, both intervals, runs, and the article's numbers."""
    confidence = level(summary.study.report.confidence)
    return Table(
        name="methods",
        caption=(
            f"Accuracy in percent, mean over the runs with a result. Test sampling: {confidence} Wilson score interval at the mean test "
            "accuracy; n is the size of the test set, as all runs answer the same reviews. "
            f"Seeds: {confidence} t interval of the mean test accuracy over runs, cut to 0 to 100. {remark(summary.study)}"
        ).strip(),
        columns=(
            "Method",
            "Trainable parameters",
            "Runs",
            "Train",
            "Validation",
            "Test",
            f"Test sampling, {confidence}",
            f"Seeds, {confidence}",
            "Article: trainable parameters",
            "Article: train / validation / test",
            "Article: minutes on one A10G",
        ),
        rows=tuple(_method_row(summary.study, row) for row in summary.rows),
    )


def _method_row(study: Study, row: MethodSummary) -> tuple[Cell, ...]:
    means = [
        percent(interval.estimate if interval else None)
        for interval in (row.parts[part] for part in PARTS)
    ]
    return (
        Cell(row.name, row.trains),
        Cell(count(row.trainable_parameters)),
        _runs_cell(row),
        *(Cell(mean) for mean in means),
        Cell(
            ends(row.test_sampling),
            f"n = {row.test_sampling.n:,} reviews" if row.test_sampling else "",
        ),
        _seeds_cell(row.parts["test"]),
        *_article_cells(row.published, article_note(study, row)),
    )


def _runs_cell(row: MethodSummary) -> Cell:
    counts = {"diverged": row.diverged, "one class": row.one_class}
    notes = [f"{number} {what}" for what, number in counts.items() if number]
    return Cell(
        f"{len(row.runs)} of {len(row.seeds)}",
        ", ".join(notes),
        alert=bool(notes) or len(row.runs) < len(row.seeds),
    )


def _seeds_cell(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(ABSENT)
    if interval.low is None:
        return Cell(ABSENT, "one run: no interval")
    return Cell(ends(interval), f"n = {interval.n} runs")


def article_note(study: Study, row: MethodSummary) -> str:
    """Why the article's numbers are not about the same thing as this row's; empty where they
    are.
    """
    if row.published is None or row.comparable:
        return ""
    return (
        "the article's configuration differs"
        if study.is_the_articles
        else f"not comparable: {SETTING}"
    )


def _article_cells(article: PublishedMethod | None, note: str) -> tuple[Cell, ...]:
    if article is None:
        return (Cell(ABSENT), Cell(ABSENT), Cell(ABSENT))
    accuracies = (article.train_percent, article.val_percent, article.test_percent)
    return (
        Cell(count(article.trainable_parameters.value), note),
        Cell(" / ".join(f"{number.value:.2f}" for number in accuracies), note),
        Cell(f"{article.minutes.value:.2f}", note)
        if article.minutes
        else Cell(ABSENT, "not stated"),
    )


def runs_table(summary: Summary) -> Table:
    """Every run of the methods and of the grid's winner."""
    return Table(
        name="runs",
        caption=(
            "Every run. Accuracy in percent at the best epoch by validation; time is training plus evaluation; tokens per second of "
            "training, without padding; memory is the peak. Key: start of the sha256 that names the run's record. "
            f"{remark(summary.study)}"
        ).strip(),
        columns=(
            "Method",
            "Seed",
            "Status",
            "Best epoch",
            "Train",
            "Validation",
            "Test",
            "Time",
            "Tokens / s",
            "Memory",
            "Key",
        ),
        rows=tuple(_run_row(record) for record in summary.runs),
        left=frozenset({0, 2, 10}),
    )


def _run_row(record: Record) -> tuple[Cell, ...]:
    happened = record.happened
    return (
        Cell(record.asked.name, "; ".join(happened.notes)),
        Cell(str(record.asked.seed)),
        status_cell(record),
        Cell(count(happened.best_epoch)),
        *accuracy_cells(record),
        Cell(duration(run_seconds(record))),
        Cell(count(happened.tokens_per_second)),
        Cell(gibibytes(happened.peak_memory_bytes)),
        Cell(record.asked.key[:10]),
    )


def accuracy_cells(record: Record) -> tuple[Cell, ...]:
    """Train, validation and test accuracy in percent."""
    counts = [getattr(record.happened, part) for part in PARTS]
    return tuple(Cell(percent(part.fraction if part else None)) for part in counts)


def status_cell(record: Record) -> Cell:
    """The status, with what is odd about the run."""
    happened = record.happened
    if happened.status == "ok":
        return Cell("ok, one class", alert=True) if happened.one_class else Cell("ok")
    step = f"from step {happened.first_bad_step:,}" if happened.first_bad_step else ""
    return Cell(happened.status, happened.error or step, alert=True)


def run_seconds(record: Record) -> float | None:
    """Seconds of training and evaluation, or null where neither was measured."""
    parts = [record.happened.training_seconds, record.happened.evaluation_seconds]
    return sum(part or 0.0 for part in parts) if any(part is not None for part in parts) else None
