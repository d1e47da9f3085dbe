"""The report of the published grid, written whole."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lora_replication import __version__
from lora_replication.article import CITATION, SETTING
from lora_replication.article.published_file import PublishedGrid, read_published_grid
from lora_replication.files import write_whole
from lora_replication.record import Record
from lora_replication.report.export import csv_bytes
from lora_replication.report.markdown import markdown
from lora_replication.report.page import page
from lora_replication.report.published.beside import Beside, set_beside
from lora_replication.report.published.content import compose_published
from lora_replication.report.published.figures import draw_beside, draw_published
from lora_replication.report.published.summary import (
    COLLAPSE_PERCENT,
    Choice,
    PublishedSummary,
    summarise_published,
)
from lora_replication.statistics import RankCorrelation
from lora_replication.study import Study

SCHEMA = 1


def build_published_report(
    file: Path,
    folder: Path,
    level: float,
    *,
    study: Study | None = None,
    records: Sequence[Record] = (),
) -> PublishedSummary:
    """Write the report of the results ``file`` into ``folder``; the same file gives the same bytes.

    The files are ``report.html``, ``report.md``, ``results.json``, ``alpha_by_rank.csv`` and each
    figure as SVG and PNG.

    Args:
        level: of all intervals, above 0 and below 1.
        study, records: a study whose grid is set beside the published one, and the records of its
            configurations.

    Raises:
        DataError: the file is not as the author's script writes it; nothing is written then.
        EnvironmentProblem: a file could not be written.
    """
    summary = summarise_published(read_published_grid(file), level)
    drawings = draw_published(summary)
    beside = set_beside(summary.grid, study, records, level) if study else None
    drawings += [draw_beside(beside)] if beside else []
    content = compose_published(summary, {drawing.name: drawing for drawing in drawings}, beside)
    write_whole(folder / "results.json", published_json(summary, beside))
    write_whole(folder / "alpha_by_rank.csv", alpha_by_rank_csv(summary))
    write_whole(folder / "report.md", markdown(content))
    write_whole(folder / "report.html", page(content))
    for drawing in drawings:
        write_whole(folder / "figures" / f"{drawing.name}.svg", drawing.svg)
        write_whole(folder / "figures" / f"{drawing.name}.png", drawing.png)
    return summary


def alpha_by_rank_csv(summary: PublishedSummary) -> bytes:
    """One row per alpha and rank: mean test accuracy as a fraction, its t interval over
    configurations, n.
    """
    rows = [
        {
            "alpha": alpha,
            "rank": rank,
            "test_accuracy": cell.estimate,
            "t_low": cell.low,
            "t_high": cell.high,
            "configurations": cell.n,
        }
        for (alpha, rank), cell in summary.by_alpha_and_rank.items()
    ]
    return csv_bytes(list(rows[0]), rows)


def published_json(summary: PublishedSummary, beside: Beside | None = None) -> bytes:
    """Everything that the report tells, for programs."""
    content = {
        "schema_version": SCHEMA,
        "made_by": f"lora-replication {__version__}",
        "units": "accuracies, shares and interval ends are fractions from 0 to 1",
        "source": {"citation": CITATION, "setting": SETTING, "sha256": summary.grid.sha256},
        "configurations": _counts(summary.grid),
        "collapse_below": COLLAPSE_PERCENT / 100,
        "collapse": [asdict(row) for row in summary.collapse],
        "by_alpha_and_rank": [
            {"alpha": alpha, "rank": rank, "test": asdict(cell)}
            for (alpha, rank), cell in summary.by_alpha_and_rank.items()
        ],
        "validation_against_test": {
            "live": _ranks(summary.ranks_live),
            "all": _ranks(summary.ranks_all),
            "gap": asdict(summary.gap) if summary.gap else None,
        },
        "choices": [_choice(choice) for choice in summary.choices],
        "beside_a_study": _beside(beside) if beside else None,
        "not_told_from_the_best": {
            "on_validation": summary.tied_by_val,
            "on_test": summary.tied_by_test,
        },
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _beside(beside: Beside) -> dict[str, Any]:
    """Without the pairs: half of each is a row of the published file."""
    return {name: value for name, value in asdict(beside).items() if name != "pairs"} | {
        "configurations": len(beside.pairs)
    }


def _counts(grid: PublishedGrid) -> dict[str, Any]:
    return {
        "asked": len(grid.cells) + len(grid.missing),
        "found": len(grid.cells),
        "missing": list(grid.missing),
        "one_class": sum(cell.one_class for cell in grid.cells),
    }


def _ranks(ranks: RankCorrelation | None) -> dict[str, Any] | None:
    return asdict(ranks) if ranks else None


def _choice(choice: Choice) -> dict[str, Any]:
    return {
        "configuration": choice.cell.name,
        **{name: value for name, value in asdict(choice).items() if name != "cell"},
    }
