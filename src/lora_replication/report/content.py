"""What the report says and in which order; Markdown and the page only set it in type."""

from dataclasses import dataclass

from lora_replication.article import CITATION, SETTING
from lora_replication.data.manifest import Manifest
from lora_replication.report.comparison_section import (
    comparison_table,
    predictions_statement,
    slices_table,
)
from lora_replication.report.comparisons import Views
from lora_replication.report.data_card import data_tables
from lora_replication.report.deviations import deviations
from lora_replication.report.drawing import Drawing
from lora_replication.report.grid_section import choice_table, grid_statement, grid_table
from lora_replication.report.latex import bibtex
from lora_replication.report.machine_section import cost_statement, machine_table
from lora_replication.report.summary import Summary
from lora_replication.report.tables import Table, methods_table, runs_table
from lora_replication.report.verdict_section import verdict_statement, verdict_table
from lora_replication.report.verdicts import judge
from lora_replication.report.wording import level, reservation, subject, title
from lora_replication.study import Study

MISSING = "Missing runs"


@dataclass(frozen=True)
class Section:
    """A part of the report: paragraphs, then code, then figures, then tables."""

    name: str
    heading: str
    paragraphs: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    figures: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Content:
    """The whole report.

    Attributes:
        title: of the study.
        subtitle: what it is, in one sentence.
        warnings: what a reader must know before the first number.
        sections: in order.
        files: names of the files beside the page that hold the same results for programs.
    """

    title: str
    subtitle: str
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    files: tuple[str, ...]


def compose(
    summary: Summary,
    manifest: Manifest,
    drawings: dict[str, Drawing],
    views: Views,
    without_answers: int = 0,
) -> Content:
    """Put the report together.

    Args:
        summary: of the study's records.
        manifest: of its data.
        drawings: the figures by name.
        views: what the answers, review by review, add.
        without_answers: number of runs that have none.
    """
    study = summary.study
    epochs = f"{study.train.epochs} epoch{'s' if study.train.epochs > 1 else ''}"
    sections = [
        _verdicts(summary),
        _result(
            summary,
            _some(
                drawings,
                "accuracy_by_method",
                "published_against_reproduced",
                "accuracy_by_parameters",
            ),
        ),
        Section("learning", "Learning curves", figures=_some(drawings, "learning_curves")),
        Section("runs", "Every run", tables=(runs_table(summary),)),
        _comparisons(summary, views, drawings, without_answers),
        _grid(
            summary,
            _some(drawings, "grid_heatmaps", "grid_validation_against_test", "grid_collapse"),
        ),
        _data(summary, manifest, views),
        Section(
            "machine",
            "Cost and machine",
            (cost_statement(summary),),
            tables=(machine_table(summary.records),),
        ),
        Section("deviations", "Deviations from the article", deviations(study)),
        _missing(summary),
        _reproduce(study),
        _cite(study),
    ]
    return Content(
        title=title(study),
        subtitle=f"A replication of {CITATION}. Here: {subject(study)}; {epochs}, batches of {study.train.batch_size}.",
        warnings=tuple(filter(None, [reservation(study), _incomplete(summary)])),
        sections=tuple(section for section in sections if section),
        files=("results.json", "verdicts.json", "table.csv", "table.tex", "citation.bib"),
    )


def _some(drawings: dict[str, Drawing], *names: str) -> tuple[Drawing, ...]:
    """Those of the figures that were drawn."""
    return tuple(drawings[name] for name in names if name in drawings)


def _incomplete(summary: Summary) -> str:
    if not summary.missing:
        return ""
    done = summary.asked - len(summary.missing)
    return f"Incomplete: {done:,} of {summary.asked:,} runs have a result. The others are named under “{MISSING}”."


def _verdicts(summary: Summary) -> Section:
    verdicts = judge(summary)
    statement = verdict_statement(verdicts, summary.study)
    return Section(
        "verdicts",
        "Verdicts on the article's claims",
        statement,
        tables=(verdict_table(verdicts, summary.study),),
    )


def _result(summary: Summary, figures: tuple[Drawing, ...]) -> Section:
    confidence = level(summary.study.report.confidence)
    return Section(
        "result",
        "Result",
        (
            "Test accuracy is read once per run, at the epoch that validation chose. Two intervals stand beside each mean, for two "
            f"different questions. Test sampling ({confidence}, Wilson): how far could it be off because the test set is a sample of "
            f"reviews? Seeds ({confidence}, Student's t): how far could the mean be off because initialisation, order and dropout are "
            "random? Neither holds the other. Diverged runs have no accuracy and are in no mean; runs that answer one class are in it.",
        ),
        figures=figures,
        tables=(methods_table(summary),),
    )


def _comparisons(
    summary: Summary, views: Views, drawings: dict[str, Drawing], without_answers: int
) -> Section | None:
    if not views.comparisons:
        return None
    return Section(
        "comparisons",
        "Methods against each other",
        predictions_statement(without_answers),
        figures=_some(drawings, "paired_differences"),
        tables=(comparison_table(summary, views),),
    )


def _data(summary: Summary, manifest: Manifest, views: Views) -> Section:
    slices = (slices_table(summary, views),) if views.slices else ()
    return Section("data", "Data", tables=(*data_tables(manifest, summary.study), *slices))


def _grid(summary: Summary, figures: tuple[Drawing, ...]) -> Section:
    grid = summary.grid
    choice = (choice_table(summary),) if grid.runners_up else ()
    cells = (grid_table(summary),) if grid.cells or grid.unfinished else ()
    return Section(
        "grid",
        "Grid of LoRA configurations",
        tuple(grid_statement(summary)),
        figures=figures,
        tables=choice + cells,
    )


def _missing(summary: Summary) -> Section | None:
    lines = missing_statement(summary)
    return (
        Section("missing", MISSING if summary.missing else "Ignored records", lines)
        if lines
        else None
    )


def missing_statement(summary: Summary) -> tuple[str, ...]:
    """Every run without a result by name, per kind of run, and the number of records that were
    ignored; empty where all is well.
    """
    lines = []
    for role, what in (
        ("method", "runs of methods"),
        ("cell", "grid configurations"),
        ("winner", "runs of the grid's winner"),
        ("runner_up", "runs of configurations beside it"),
    ):
        missing = [run for run in summary.missing if run.role == role]
        if missing:
            lines.append(
                f"{len(missing):,} of {_asked(summary, role):,} {what} missing: {', '.join(map(str, missing))}."
            )
    if summary.ignored:
        lines.append(
            f"{summary.ignored:,} record{'s' if summary.ignored > 1 else ''} ignored: made with other parameters, data, weights or code "
            "than the study's now, or recorded twice."
        )
    if summary.copies:
        copies = "copies" if len(summary.copies) > 1 else "copy"
        lines.append(
            f"{len(summary.copies):,} {copies} ignored: their records name another folder than {', '.join(summary.copies)}."
        )
    return tuple(lines)


def _asked(summary: Summary, role: str) -> int:
    run = summary.study.run
    return {
        "method": len(run.methods) * len(run.seeds),
        "cell": summary.grid.asked,
        "winner": len(summary.study.grid.winner_seeds),
        "runner_up": summary.asked_beside,
    }[role]


def missing_runs(summary: Summary, most: int = 8) -> str:
    """The missing runs for a message: how many of how many, and the first few by name."""
    missing = summary.missing
    more = f" and {len(missing) - most:,} more" if len(missing) > most else ""
    return f"{len(missing):,} of {summary.asked:,} runs are missing: {', '.join(map(str, missing[:most]))}{more}"


def _reproduce(study: Study) -> Section:
    command = "dvc repro" if study.study == "article" else f"lora-replication run {study.study}"
    return Section(
        "reproduce",
        "How to reproduce it",
        (
            "In a checkout of the project at the commit named above, the command below runs what is missing and writes this report again. "
            "On the same machine, with the same versions and number of threads, every accuracy comes out the same; elsewhere rounding "
            "differs.",
        ),
        code=(f"make setup\n. .venv/bin/activate\n{command}",),
    )


def _cite(study: Study) -> Section:
    return Section(
        "cite",
        "How to cite",
        (
            "Cite the article for the method and its numbers, and this project, with version, study and commit, for the numbers measured "
            f"here. The article's numbers are single, unseeded runs of {SETTING}.",
            "LoRA: E. J. Hu et al., “LoRA: Low-Rank Adaptation of Large Language Models”, ICLR 2022. IMDb reviews: A. L. Maas et al., "
            "“Learning Word Vectors for Sentiment Analysis”, ACL 2011.",
        ),
        code=(bibtex(study),),
    )
