"""The published grid summed up: against plain loops, and against what is known of the author's
file.
"""

import csv
import io
import json
import math
import os
from pathlib import Path
from statistics import fmean

import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint, proportions_ztest
from statsmodels.stats.weightstats import DescrStatsW
from test_published_grid import made_up

from lora_replication.article.published_file import (
    PublishedCell,
    PublishedGrid,
    read_published_grid,
)
from lora_replication.report.published.build import (
    alpha_by_rank_csv,
    build_published_report,
    published_json,
)
from lora_replication.report.published.summary import PublishedSummary, summarise_published

REPORT = Path(__file__).parents[1] / "reports" / "published"
OWN_FILE = pytest.mark.skipif(
    "STUDIO_RESULTS" not in os.environ,
    reason="STUDIO_RESULTS does not name the results file published with the article",
)
MEANS = """
1: 91.04 91.47 91.65 91.98 91.96 92.32
4: 90.84 91.16 91.25 91.60 91.95 91.98
8: 89.95 89.97 90.09 89.77 88.93 87.12
16: 75.26 71.22 61.91 62.54 61.44 60.82
"""


def collapsed(cell: PublishedCell) -> PublishedCell:
    return PublishedCell(
        cell.rank, cell.alpha, cell.targets, cell.device, cell.verbose, 49.86, 50.84, 50.06
    )


@pytest.fixture(scope="module")
def cells() -> list[PublishedCell]:
    """Two alphas; every third run of the second one answers one class."""
    cells = made_up(192)
    return [
        collapsed(cell) if cell.alpha == 4 and place % 3 == 0 else cell
        for place, cell in enumerate(cells)
    ]


@pytest.fixture(scope="module")
def summary(cells: list[PublishedCell]) -> PublishedSummary:
    return summarise_published(PublishedGrid(tuple(cells), ("r1-a8-query-value",), "ab" * 32), 0.95)


def test_means_by_alpha_and_rank(summary: PublishedSummary, cells: list[PublishedCell]) -> None:
    assert len(summary.by_alpha_and_rank) == 12
    for (alpha, rank), found in summary.by_alpha_and_rank.items():
        values = [
            cell.test_percent / 100 for cell in cells if cell.alpha == alpha and cell.rank == rank
        ]
        assert found.estimate == pytest.approx(fmean(values))
        assert (found.low, found.high) == pytest.approx(DescrStatsW(values).tconfint_mean())
        assert found.source == "configurations, n = 16, one unseeded run each"


@pytest.mark.fault(24)
def test_collapse(summary: PublishedSummary) -> None:
    assert [
        (row.alpha, row.configurations, row.collapsed, row.one_class) for row in summary.collapse
    ] == [(1, 96, 0, 0), (4, 96, 32, 32)]
    assert (summary.collapse[1].share.low, summary.collapse[1].share.high) == pytest.approx(
        proportion_confint(32, 96, 0.05, "beta")
    )
    assert summary.live == 160


def test_configurations_that_cannot_be_told_from_the_best(
    summary: PublishedSummary, cells: list[PublishedCell]
) -> None:
    counts = [round(cell.test_percent * 100) for cell in cells]
    best = counts.index(max(counts))
    p_values = [
        proportions_ztest([count, counts[best]], [10_000] * 2)[1]
        for place, count in enumerate(counts)
        if place != best
    ]
    rejected = multipletests([1 if math.isnan(p) else p for p in p_values], 0.05, "holm")[0]
    assert summary.tied_by_test == 192 - sum(rejected)
    assert 1 < summary.tied_by_test < 192


def test_a_choice_on_test_is_called_one(summary: PublishedSummary) -> None:
    rules = [choice.rule for choice in summary.choices]
    assert rules[:2] == [
        "best on validation",
        "best on test (flattered: chosen by the number it is quoted with)",
    ]
    assert summary.choices[1].place_by_test == 1
    assert summary.choices[2].cell.name == "r8-a1-query-value-mlp"


def test_numbers_for_programs(summary: PublishedSummary) -> None:
    content = json.loads(published_json(summary))
    assert content["configurations"] == {
        "asked": 193,
        "found": 192,
        "missing": ["r1-a8-query-value"],
        "one_class": 32,
    }
    rows = list(csv.DictReader(io.StringIO(alpha_by_rank_csv(summary).decode())))
    assert [float(row["test_accuracy"]) for row in rows] == [
        cell.estimate for cell in summary.by_alpha_and_rank.values()
    ]


def test_the_report_is_whole_and_the_same_each_time(
    cells: list[PublishedCell], tmp_path: Path
) -> None:
    file = tmp_path / "results.txt"
    file.write_text("".join(f"{line}\n" for cell in cells for line in cell.lines()))
    for folder in ("one", "two"):
        build_published_report(file, tmp_path / folder, 0.95)
    written = {
        path.relative_to(tmp_path / "one"): path.read_bytes()
        for path in (tmp_path / "one").rglob("*.*")
    }
    assert len(written) == 4 + 3 * 2
    assert all(
        (tmp_path / "two" / name).read_bytes() == content for name, content in written.items()
    )
    text = written[Path("report.md")].decode()
    assert (
        "192 of 576 configurations are in the file. Missing, and nowhere said to be: r1-a8-query-value"
        in text
    )
    assert "32 of 192 runs end below 60 % test accuracy, 32 of them with one answer" in text


def test_one_row_is_enough_and_one_that_collapsed_too(tmp_path: Path) -> None:
    for cell in (made_up(1)[0], collapsed(made_up(1)[0])):
        (tmp_path / "results.txt").write_text("".join(f"{line}\n" for line in cell.lines()))
        assert (
            build_published_report(tmp_path / "results.txt", tmp_path / "report", 0.95).tied_by_val
            == 1
        )


@OWN_FILE
def test_what_is_known_of_the_authors_file() -> None:
    summary = summarise_published(read_published_grid(Path(os.environ["STUDIO_RESULTS"])), 0.95)
    for line in MEANS.split("\n")[1:-1]:
        alpha, means = line.split(": ")
        found = [
            summary.by_alpha_and_rank[int(alpha), rank].estimate * 100
            for rank in (1, 2, 4, 8, 16, 32)
        ]
        assert [f"{mean:.2f}" for mean in found] == means.split()
    assert [(row.collapsed, row.configurations) for row in summary.collapse] == [(0, 96)] * 3 + [
        (55, 96),
        (86, 96),
        (90, 90),
    ]
    best, _, tuned, default = summary.choices
    assert (best.cell.name, best.cell.train_percent, best.cell.val_percent, best.cell.test_percent) == (
        "r32-a1-query-value-mlp", 97.93, 93.36, 92.72,
    )  # fmt: skip
    assert tuned.place_by_val == 15
    assert (default.cell.train_percent, default.cell.val_percent, default.cell.test_percent) == (
        92.37,
        90.62,
        89.61,
    )


@OWN_FILE
def test_the_committed_numbers_are_those_of_the_authors_file(tmp_path: Path) -> None:
    build_published_report(Path(os.environ["STUDIO_RESULTS"]), tmp_path, 0.95)
    for name in ("results.json", "alpha_by_rank.csv", "report.md"):
        assert (REPORT / name).read_bytes() == (tmp_path / name).read_bytes(), name


@OWN_FILE
def test_the_committed_report_does_not_repeat_the_files_rows() -> None:
    cells = read_published_grid(Path(os.environ["STUDIO_RESULTS"])).cells
    named = [
        cell.name for cell in cells if f'"{cell.name}"' in (REPORT / "results.json").read_text()
    ]
    assert len(named) <= 4 + 6
