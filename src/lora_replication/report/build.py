"""The report of a study, from its workspace to files."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pydantic import ValidationError

from lora_replication import URL
from lora_replication.data.manifest import MANIFEST
from lora_replication.errors import DataError, IncompleteError
from lora_replication.files import write_whole
from lora_replication.plan import progress
from lora_replication.reading import read_study
from lora_replication.report.columns import CURVES, LONG, main_columns, tables
from lora_replication.report.comparisons import compare
from lora_replication.report.drawing import Drawing
from lora_replication.report.figures import draw_figures
from lora_replication.report.predictions import read_predictions
from lora_replication.report.rendering import latex, markdown, page
from lora_replication.report.results import PARTS, MethodRow, Results
from lora_replication.report.summary import summarise
from lora_replication.report.tables import csv_bytes, short_table
from lora_replication.report.verdicts import judge
from lora_replication.report.words import say
from lora_replication.workspace import Workspace

FILES = ("results.json", "verdicts.json", "table.csv", "runs.csv", "learning_curves.csv",
         "table.tex", "table_wide.tex", "citation.bib")  # fmt: skip
"""Next to the page, for programs."""

FOLDERS = ("figures", "metrics")


def build_report(workspace: Workspace, folder: Path, allow_partial: bool = False) -> Results:
    """Write the report of a workspace's study into ``folder``; the same input gives the same bytes.

    The files are ``report.html``, ``report.md``, those of ``FILES``, each figure as SVG and PNG in
    ``figures/`` and ``metrics/<method>.json``.

    Args:
        allow_partial: also of an incomplete study; it says throughout how many of how many runs.

    Raises:
        IncompleteError: a run has no result, and ``allow_partial`` is off; nothing is written.
        DataError: records, predictions or the test reviews are not what they claim to be.
        EnvironmentProblem: a file could not be written.
    """
    study, done = workspace.study, progress(workspace)
    results = summarise(study, workspace.manifest, done)
    if results.missing and not allow_partial:
        raise IncompleteError(
            f"{folder}: no report is written, because "
            f"{say('missing_runs', results.missing, results.runs_asked)}; run them "
            f"(lora-replication run {study.study}), or report what there is "
            f"(lora-replication report {study.study} --allow-partial)"
        )
    tested = read_predictions(workspace, done.done)
    results = judge(compare(results, tested), tested, study)
    write_report(folder, report_files(results))
    return results


def report_study(name: str, root: Path, *, allow_partial: bool = False) -> Results:
    """Rebuild the report of the study ``name``.

    It is made from its workspace, or, where nothing was prepared here, from what is committed next
    to the report.
    """
    study = read_study(name, root)
    workspace = Workspace(study, root)
    source = (
        workspace if (workspace.data / MANIFEST).is_file() else Workspace.published(study, root)
    )
    return build_report(source, workspace.report, allow_partial)


def read_results(folder: Path) -> Results:
    """What the report in ``folder`` says. Raises ``DataError``."""
    file = folder / "results.json"
    try:
        return Results.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is of another version"
        raise DataError(f"{file}: can't be read ({reason}); rebuild the report") from None


def report_files(results: Results) -> dict[str, bytes]:
    """Every file of the report by its path in the report's folder."""
    drawings = draw_figures(results)
    main, rows = main_columns(results), results.rows
    facts: dict[str, Any] = {"r": results, "files": FILES, "tables": tables(results)}
    facts |= {"title": results.title, "description": results.subject}
    citation = latex("citation.bib.j2", **_citation(results))
    facts["citation"] = citation.decode().strip()
    curves = [
        SimpleNamespace(run=run, epoch=epoch, remark=results.remark)
        for run in results.runs
        for epoch in run.epochs
        if run.role != "cell"
    ]
    verdicts = {"title", "reservation", "runs_asked", "missing", "verdict_words", "verdicts"}
    reviews = max((row.test_sampling.n for row in rows if row.test_sampling), default=0)
    wide = {"r": results, "wide": True, "float": "table*", "test_reviews": f"{reviews:,}"}
    narrow = wide | {"wide": False, "float": "table"}
    return {
        "report.html": page("study.j2", drawings, **facts),
        "report.md": markdown("study.j2", drawings, **facts),
        "results.json": results.to_json(),
        "verdicts.json": results.model_dump_json(include=verdicts, indent=1).encode() + b"\n",
        "table.csv": csv_bytes(main, rows),
        "runs.csv": csv_bytes(LONG, results.runs),
        "learning_curves.csv": csv_bytes(CURVES, curves),
        "table.tex": latex("table.tex.j2", rows=_paper_table(results, narrow=True), **narrow),
        "table_wide.tex": latex("table.tex.j2", rows=_paper_table(results, narrow=False), **wide),
        "citation.bib": citation,
        **{f"metrics/{row.name}.json": _metrics(row) for row in rows},
        **drawing_files(drawings),
    }


def drawing_files(drawings: dict[str, Drawing]) -> dict[str, bytes]:
    """Each figure as SVG and PNG."""
    return {
        f"figures/{name}.{kind}": getattr(drawing, kind)
        for name, drawing in drawings.items()
        for kind in ("svg", "png")
    }


def write_report(folder: Path, files: dict[str, bytes]) -> None:
    """Write ``files``, each whole or not at all, and remove figures and metrics of before."""
    for name, content in files.items():
        write_whole(folder / name, content)
    kept = {folder / name for name in files}
    for old in (file for name in FOLDERS for file in (folder / name).glob("*")):
        if old not in kept:
            old.unlink()


def _paper_table(results: Results, *, narrow: bool) -> list[list[str]]:
    rows = short_table(main_columns(results), results.rows, narrow)
    return [[cell.replace(" to ", "\N{EN DASH}") for cell in row] for row in rows]


def _citation(results: Results) -> dict[str, Any]:
    """Of the commit that made most of the runs, in the year of their end."""
    machine = results.machines[0] if results.machines else {}
    return {"r": results, "url": URL, "year": results.year, "commit": machine.get("git_commit")}


def _metrics(row: MethodRow) -> bytes:
    """A method's few numbers for ``dvc metrics``, flat: accuracies in percent, runs."""
    parts = {part: getattr(row, part) for part in PARTS}
    metrics = {part: round(100 * one.estimate, 2) for part, one in parts.items() if one}
    if row.interval and row.interval.low is not None and row.interval.high is not None:
        ends = {"low": row.interval.low, "high": row.interval.high}
        metrics |= {name: round(100 * end, 2) for name, end in ends.items()}
    return json.dumps(metrics | {"runs": row.runs_done}).encode() + b"\n"
