"""The report of a study, written whole: tables, metrics, figures, Markdown and the page."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from lora_replication.data.manifest import Manifest, read_manifest
from lora_replication.errors import IncompleteError
from lora_replication.files import write_whole
from lora_replication.ledger import current_records
from lora_replication.record import Record
from lora_replication.report.answers import Answers, read_answers
from lora_replication.report.comparisons import view, without_predictions
from lora_replication.report.content import compose, missing_runs
from lora_replication.report.export import (
    learning_curves_csv,
    metrics_json,
    results_json,
    table_csv,
    verdicts_json,
)
from lora_replication.report.figures import draw_figures
from lora_replication.report.latex import citation_bib, table_tex
from lora_replication.report.markdown import markdown
from lora_replication.report.page import page
from lora_replication.report.summary import Summary, summarise
from lora_replication.study import Study


def build_report(
    study: Study,
    records: Iterable[Record],
    manifest: Manifest,
    folder: Path,
    *,
    ignored: int = 0,
    copies: Sequence[str] = (),
    answers: Answers | None = None,
    allow_partial: bool = False,
) -> Summary:
    """Write the report of ``study`` into ``folder``; the same input gives the same bytes.

    The files are ``report.html``, ``report.md``, ``table.csv``, ``table.tex``, ``citation.bib``,
    ``learning_curves.csv``, ``metrics.json``, ``results.json``, ``verdicts.json``, and each figure
    as SVG and PNG in ``figures/``.

    Args:
        study: what was asked.
        records: those whose key is among the study's.
        manifest: of the study's data.
        folder: ``reports/<study>``; made where it is missing.
        ignored: number of records left out because their key is not among the study's.
        copies: folders of records that lie where they don't belong, left out too.
        answers: of the runs, review by review; without them the report has no tests on reviews.
        allow_partial: write the report of an incomplete study too; it says throughout how many of
            how many runs it is about.

    Returns:
        What the report tells.

    Raises:
        IncompleteError: some run that the study asks for has no result, and ``allow_partial`` is
            off. Nothing is written.
        DataError: the records contradict each other.
        EnvironmentProblem: a file could not be written.
    """
    summary = summarise(study, records, ignored, copies)
    if summary.missing and not allow_partial:
        raise IncompleteError(
            f"{folder}: no report is written, because {missing_runs(summary)}; run them (lora-replication run {study.study}), or report "
            f"what there is (lora-replication report {study.study} --allow-partial)"
        )
    answers = answers or Answers()
    views = view(summary, answers)
    drawings = draw_figures(summary, views)
    missing = without_predictions(summary.records, answers)
    content = compose(
        summary, manifest, {drawing.name: drawing for drawing in drawings}, views, missing
    )
    write_whole(folder / "table.csv", table_csv(summary))
    write_whole(folder / "table.tex", table_tex(summary))
    write_whole(folder / "citation.bib", citation_bib(study))
    write_whole(folder / "learning_curves.csv", learning_curves_csv(summary))
    write_whole(folder / "metrics.json", metrics_json(summary))
    write_whole(
        folder / "results.json", results_json(summary, manifest.model_dump(mode="json"), views)
    )
    write_whole(folder / "verdicts.json", verdicts_json(summary))
    write_whole(folder / "report.md", markdown(content))
    write_whole(folder / "report.html", page(content))
    for drawing in drawings:
        write_whole(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
        write_whole(folder / "figures" / f"{drawing.name}.png", drawing.png)
    return summary


def report_folder(study: Study, root: Path, *, allow_partial: bool = False) -> Summary:
    """Write ``reports/<study>`` of ``root`` from its ``data/<study>`` and ``runs/<study>``, and
    give what the report tells.

    Raises:
        DataError: nothing has been prepared yet, or the records or predictions are not what they
            claim to be.
        IncompleteError: some run has no result, and ``allow_partial`` is off; nothing is written.
    """
    data, runs, folder = root / "data" / study.study, root / "runs", root / "reports" / study.study
    manifest = read_manifest(data)
    current = current_records(study, manifest, runs)
    answers = read_answers(study, current.records, manifest, data, runs)
    return build_report(
        study,
        current.records,
        manifest,
        folder,
        ignored=current.stale,
        copies=current.copies,
        answers=answers,
        allow_partial=allow_partial,
    )
