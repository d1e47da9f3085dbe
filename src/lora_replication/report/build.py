"""The report of a study, from its workspace to files; and what it was made from, next to it."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lora_replication.data.manifest import MANIFEST, TEST_REVIEWS
from lora_replication.data.reviews import PARTS
from lora_replication.errors import DataError, EnvironmentProblem, IncompleteError
from lora_replication.files import write_whole
from lora_replication.plan import progress
from lora_replication.reading import read_study
from lora_replication.record import PREDICTIONS, RECORD
from lora_replication.report.figures import MOST_PAIRS, draw_figures
from lora_replication.report.plots import MOST_NUMBERS
from lora_replication.report.predictions import Predictions, read_predictions
from lora_replication.report.rendering import Drawing, latex, markdown, page
from lora_replication.report.results import MethodRow, Results
from lora_replication.report.runs_table import RUNS, runs_file
from lora_replication.report.summary import summarise
from lora_replication.report.tables import columns, csv_bytes, short_table, tables
from lora_replication.report.tuning import tuning
from lora_replication.report.verdicts import judge
from lora_replication.report.words import say
from lora_replication.workspace import Workspace

FILES = ("results.json", "verdicts.json", "table.csv", "runs.csv", RUNS,
         "learning_curves.csv", "table.tex", "table_wide.tex", "citation.bib")  # fmt: skip
"""Next to the page, for programs."""


def build_report(workspace: Workspace, folder: Path, allow_partial: bool = False) -> Results:
    """Write the report of a workspace's study into ``folder``; the same input gives the same bytes.

    The files are ``report.html``, ``report.md``, ``card.md``, those of ``FILES``, each figure as
    SVG and PNG in ``figures/`` and ``metrics/<method>.json``.

    Args:
        allow_partial: also of an incomplete study; it says throughout how many of how many runs.

    Raises:
        IncompleteError: a run has no result, and ``allow_partial`` is off; nothing is written.
        DataError: records, predictions or the test reviews are not what they claim to be.
        EnvironmentProblem: a file could not be written.
    """
    study, done = workspace.study, progress(workspace)
    tested = read_predictions(workspace, done.done)
    results = summarise(study, workspace.manifest, done, tested)
    if results.missing and not allow_partial:
        raise IncompleteError(
            f"{folder}: no report is written, because "
            f"{say('missing_runs', results.missing, results.runs_asked)}; run them "
            f"(lora-replication run {study.study}), or report what there is "
            f"(lora-replication report {study.study} --allow-partial)"
        )
    tried = tuning(workspace, done, results, tested)
    results = judge(results.model_copy(update={"tuning": tried}), tested, study).rounded()
    write_report(folder, report_files(results, tested))
    return results


def report_study(
    name: str, root: Path, *, allow_partial: bool = False, publish: bool = False
) -> Results:
    """Rebuild the report of the study ``name``.

    It is made from its workspace, or, where nothing was prepared here, from what is committed next
    to the report.

    Args:
        publish: put what it is made from next to it, see ``publish_records``.
    """
    study = read_study(name, root)
    workspace = Workspace(study, root)
    prepared = (workspace.data / MANIFEST).is_file()
    source = workspace if prepared else Workspace.published(study, root)
    source.check_data()
    results = build_report(source, workspace.report, allow_partial)
    if publish and prepared:
        publish_records(workspace)
    return results


def read_results(folder: Path) -> Results:
    """What the report in ``folder`` says. Raises ``DataError``."""
    file = folder / "results.json"
    try:
        return Results.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is of another version"
        raise DataError(f"{file}: can't be read ({reason}); rebuild the report") from None


def report_files(results: Results, tested: Predictions | None = None) -> dict[str, bytes]:
    """Every file of the report by its path in the report's folder."""
    drawings = draw_figures(results)
    # The commit that made most of the runs, in the year of the last.
    commit = results.machines[0].get("git_commit") if results.machines else None
    citation = latex("citation.bib.j2", r=results, year=results.year, commit=commit)
    facts: dict[str, Any] = {"r": results, "files": FILES, "tables": tables(results)}
    facts |= {"title": results.title, "description": results.subject}
    facts |= {"most_numbers": MOST_NUMBERS, "most_pairs": MOST_PAIRS}
    facts["citation"] = citation.decode().strip()
    curves = ((run, epoch) for run in results.single_runs for epoch in run.epochs)
    epochs = [{"run": run, "epoch": epoch} for run, epoch in curves]
    verdicts = {"title", "reservation", "runs_asked", "missing", "verdict_words", "verdicts"}
    return {
        "report.html": page("study.j2", drawings, **facts),
        "report.md": markdown("study.j2", drawings, **facts),
        "card.md": markdown("card.j2", drawings, commit=commit, **facts),
        "results.json": results.to_json(),
        "verdicts.json": results.model_dump_json(include=verdicts, indent=1).encode() + b"\n",
        "table.csv": csv_bytes(columns(results, "methods"), results.cited),
        "runs.csv": csv_bytes(columns(results, "runs.csv"), results.runs),
        RUNS: runs_file(results, tested or Predictions()),
        "learning_curves.csv": csv_bytes(columns(results, "learning_curves.csv"), epochs),
        "table.tex": _latex_table(results, wide=False),
        "table_wide.tex": _latex_table(results, wide=True),
        "citation.bib": citation,
        **{f"metrics/{row.name}.json": _metrics(row) for row in results.rows},
        **{f"metrics/{row.name}_at_own_rate.json": _metrics(row) for row in results.tuned},
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
    for old in (*folder.glob("figures/*"), *folder.glob("metrics/*")):
        if old not in kept:
            old.unlink()


def _latex_table(results: Results, *, wide: bool) -> bytes:
    rows = short_table(columns(results, "methods"), results.cited, narrow=not wide)
    dashed = [[cell.replace(" to ", "\N{EN DASH}") for cell in row] for row in rows]
    return latex("table.tex.j2", r=results, rows=dashed, wide=wide)


def _metrics(row: MethodRow) -> bytes:
    """A method's few numbers for ``dvc metrics``, flat: accuracies in percent, runs."""
    found = {str(part): one.estimate for part in PARTS if (one := getattr(row, part))}
    if row.interval and row.interval.low is not None and row.interval.high is not None:
        found |= {"low": row.interval.low, "high": row.interval.high}
    percents = {name: round(100 * fraction, 2) for name, fraction in found.items()}
    return json.dumps(percents | {"runs": row.runs_done}).encode() + b"\n"


def publish_records(workspace: Workspace) -> None:
    """Replace ``reports/<study>/records`` and ``data`` by the study's current ones, so that anybody
    can rebuild its report.

    Adapters stay where they are: they are large and can be trained again. Of the data the manifest
    and the facts about the test reviews are copied, no text.

    Raises:
        DataError: the study's data or a record is not what it claims to be.
        EnvironmentProblem: a file can't be copied; what was published before is as it was.
    """
    files = [(workspace.data / name, Path("data", name)) for name in (MANIFEST, TEST_REVIEWS)]
    for place in progress(workspace).records:
        found = (workspace.runs / place / name for name in (RECORD, PREDICTIONS))
        files += [(file, Path("records", place, file.name)) for file in found if file.is_file()]
    try:
        workspace.report.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".publish.", dir=workspace.report, ignore_cleanup_errors=True
        ) as temporary:
            new = Path(temporary)
            (new / "records").mkdir()
            for file, target in files:
                (new / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, new / target)
            _replace(workspace.report, new)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{workspace.report}: could not be published ({problem}); "
            "fix that, then report again with --publish"
        ) from problem


def _replace(report: Path, new: Path) -> None:
    """Put the new folders in the place of the old ones, both or none."""
    (new / "old").mkdir()
    try:
        for name in ("data", "records"):
            if (report / name).exists():
                (report / name).rename(new / "old" / name)
            (new / name).rename(report / name)
    except OSError:
        for old in (new / "old").iterdir():
            shutil.rmtree(report / old.name, ignore_errors=True)
            old.rename(report / old.name)
        raise
