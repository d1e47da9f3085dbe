"""The published grid's report: against plain loops, and what is known of the author's file."""

import csv
import json
import math
import os
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint, proportions_ztest
from statsmodels.stats.weightstats import DescrStatsW

from lora_replication.article.published_file import PublishedCell, read_published_grid
from lora_replication.record import Record
from lora_replication.report.published import (
    PublishedResults,
    WithStudy,
    compare_grids,
    summarise_published,
)
from lora_replication.report.published_report import build_published_report
from lora_replication.workspace import Workspace
from tests.published_files import collapsed, made_up, text_of
from tests.report_records import (
    altered,
    article_study,
    count,
    diverged,
    make_records,
    make_study,
    make_workspace,
    through_disk,
)

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


@pytest.fixture(scope="module")
def cells() -> list[PublishedCell]:
    """Two alphas; every third run of the second one predicts a single class."""
    return [
        collapsed(cell) if cell.alpha == 4 and place % 3 == 0 else cell
        for place, cell in enumerate(made_up(192))
    ]


@pytest.fixture(scope="module")
def file(cells: list[PublishedCell], tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("published") / "results.txt"
    made.write_bytes(text_of(cells))
    return made


@pytest.fixture(scope="module")
def results(file: Path) -> PublishedResults:
    return summarise_published(file, 0.95)[0]


def test_means_by_alpha_and_rank(results: PublishedResults, cells: list[PublishedCell]) -> None:
    assert len(results.by_alpha_and_rank) == 12
    for mean in results.by_alpha_and_rank:
        mine = (cell for cell in cells if (cell.alpha, cell.rank) == (mean.alpha, mean.rank))
        values = [cell.test_percent / 100 for cell in mine]
        assert mean.test.estimate == pytest.approx(fmean(values))
        assert (mean.test.low, mean.test.high) == pytest.approx(DescrStatsW(values).tconfint_mean())
        assert mean.test.source == "configurations, n = 16, one unseeded run each"


@pytest.mark.fault(24)
def test_collapse(results: PublishedResults) -> None:
    first, second = results.collapse
    assert (first.alpha, first.configurations, first.collapsed, first.one_class) == (1, 96, 0, 0)
    assert (second.alpha, second.collapsed, second.one_class) == (4, 32, 32)
    exact = proportion_confint(32, 96, 0.05, "beta")
    assert (second.share.low, second.share.high) == pytest.approx(exact)
    assert (results.live, results.collapsed, results.one_class) == (160, 32, 32)
    assert (results.asked, results.found) == (576, 192)


def test_configurations_indistinguishable_from_the_best(
    results: PublishedResults, cells: list[PublishedCell]
) -> None:
    best, *others = sorted((round(cell.test_percent * 100) for cell in cells), reverse=True)
    p_values = [proportions_ztest([one, best], [10_000] * 2)[1] for one in others]
    rejected = multipletests([1 if math.isnan(p) else p for p in p_values], 0.05, "holm")[0]
    assert results.tied_by_test == 192 - sum(rejected)
    assert 1 < results.tied_by_test < 192


def test_a_selection_on_test_is_called_one(results: PublishedResults) -> None:
    on_test = results.choices[1]
    assert on_test.rule == "best on test (optimistic: selected on this very number)"
    assert (on_test.place_by_test, on_test.configuration) == (1, "r1-a1-query-value-projection")
    assert results.choices[2].configuration == "r8-a1-query-value-mlp"


def test_the_report_is_whole_and_the_same_each_time(file: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        build_published_report(file, tmp_path / folder, 0.95)
    first = tmp_path / "one"
    found = {path.relative_to(first): path.read_bytes() for path in first.rglob("*.*")}
    assert len(found) == 4 + 3 * 2
    assert all((tmp_path / "two" / name).read_bytes() == text for name, text in found.items())
    text = found[Path("report.md")].decode()
    assert "384 of 576 configurations are missing from the file" in text
    assert "32 of 192 runs end below 60 % test accuracy, 32 of them predict the same class" in text
    rows = list(csv.DictReader(found[Path("alpha_by_rank.csv")].decode().splitlines()))
    content = json.loads(found[Path("results.json")])
    means = [row["test"]["estimate"] for row in content["by_alpha_and_rank"]]
    assert [float(row["test_accuracy"]) for row in rows] == means


@pytest.mark.parametrize("change", [lambda cell: cell, collapsed])
def test_one_row_is_enough_and_one_that_collapsed_too(change: object, tmp_path: Path) -> None:
    (tmp_path / "results.txt").write_bytes(text_of([change(made_up(1)[0])]))
    built = build_published_report(tmp_path / "results.txt", tmp_path / "report", 0.95)
    assert built.tied_by_val == 1


def our_cells(workspace: Workspace) -> list[Record]:
    """The article's grid; one configuration diverged, one collapsed."""
    cells = [record for record in make_records(workspace) if record.asked.role == "cell"]
    cells = [
        altered(cell, test=count(8900 + 37 * (place % 9), 10_000))
        for place, cell in enumerate(cells)
    ]
    cells[3] = diverged(cells[3])
    cells[4] = altered(cells[4], test=count(5006, 10_000))
    return cells


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = make_workspace(article_study())
    through_disk(workspace, our_cells(workspace), tmp_path_factory.mktemp("ours"))
    return workspace


@pytest.fixture(scope="module")
def both(
    ours: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> tuple[WithStudy, pd.DataFrame]:
    file = tmp_path_factory.mktemp("file") / "results.txt"
    file.write_bytes(text_of(made_up(192)))
    found = compare_grids(summarise_published(file, 0.95)[1], ours, 0.95)
    assert found is not None
    return found


def test_our_grid_cell_by_cell(ours: Workspace, both: tuple[WithStudy, pd.DataFrame]) -> None:
    tests = {cell.asked.name: cell.happened.test for cell in our_cells(ours)}
    found, pairs = both
    p_values = []
    for cell, pair in zip(made_up(192), pairs.to_dict("records"), strict=True):
        test = tests[cell.name]
        assert (pair["name"], pair["test"]) == (cell.name, cell.test_percent / 100)
        assert pair["ours"] == (test.correct / 10_000 if test else None)
        if test:
            counts = [test.correct, cell.test_correct]
            p_values.append(proportions_ztest(counts, [10_000] * 2)[1])
    rejected, adjusted, *_ = multipletests(p_values, 0.05, "holm")
    assert [p for p in pairs["p_holm"] if p is not None] == pytest.approx(list(adjusted))
    assert (found.tested, found.beyond_chance) == (191, sum(rejected))
    assert found.beyond_chance > 0
    collapses = (found.ours_collapsed, found.published_collapsed, found.both_collapsed)
    assert collapses == (2, 0, 0)


def test_means_over_what_collapsed_in_neither(both: tuple[WithStudy, pd.DataFrame]) -> None:
    found, pairs = both
    rows = pairs.to_dict("records")
    live = [p["ours"] - p["test"] for p in rows if p["ours"] is not None and p["ours"] >= 0.6]
    assert len(live) == found.ranks.n == 190
    assert found.difference.estimate == pytest.approx(fmean(live))
    ends = DescrStatsW(live).tconfint_mean()
    assert (found.difference.low, found.difference.high) == pytest.approx(ends)


def test_the_report_with_our_grid(ours: Workspace, file: Path, tmp_path: Path) -> None:
    build_published_report(file, tmp_path, 0.95, ours)
    text = (tmp_path / "report.md").read_text()
    assert "192 configurations of the study article have a published run" in text
    assert (tmp_path / "figures/published_and_ours.svg").is_file()
    assert json.loads((tmp_path / "results.json").read_text())["with_study"]["tested"] == 191


def test_another_study_is_marked_and_not_tested_on_other_reviews(
    file: Path, tmp_path: Path
) -> None:
    workspace = make_workspace(make_study())
    through_disk(workspace, make_records(workspace), tmp_path / "runs")
    results = build_published_report(file, tmp_path / "report", 0.95, workspace)
    found = results.with_study
    assert (found.configurations, found.tested, found.beyond_chance) == (4, 0, 0)
    text = (tmp_path / "report/report.md").read_text()
    assert "The study minilm-small is not DistilBERT on the whole of IMDb: only the order" in text


def test_other_scalings_share_no_configuration(file: Path, tmp_path: Path) -> None:
    study = make_study(grid=make_study().grid.model_dump(mode="json") | {"scaling": "paper"})
    workspace = make_workspace(study)
    through_disk(workspace, make_records(workspace), tmp_path)
    assert compare_grids(summarise_published(file, 0.95)[1], workspace, 0.95) is None


@OWN_FILE
def test_what_is_known_of_the_authors_file() -> None:
    results, _ = summarise_published(Path(os.environ["STUDIO_RESULTS"]), 0.95)
    means = {(mean.alpha, mean.rank): mean.test.estimate for mean in results.by_alpha_and_rank}
    for line in MEANS.split("\n")[1:-1]:
        alpha, shown = line.split(": ")
        found = [means[int(alpha), rank] * 100 for rank in (1, 2, 4, 8, 16, 32)]
        assert [f"{mean:.2f}" for mean in found] == shown.split()
    counts = [(row.collapsed, row.configurations) for row in results.collapse]
    assert counts == [(0, 96)] * 3 + [(55, 96), (86, 96), (90, 90)]
    best, _, tuned, default = results.choices
    assert best.configuration == "r32-a1-query-value-mlp"
    found = [best.train, best.val.estimate, best.test.estimate]
    assert found == pytest.approx([0.9793, 0.9336, 0.9272])
    assert tuned.place_by_val == 15
    found = [default.train, default.val.estimate, default.test.estimate]
    assert found == pytest.approx([0.9237, 0.9062, 0.8961])


@OWN_FILE
def test_the_committed_report_is_of_the_authors_file_and_does_not_repeat_it(
    tmp_path: Path,
) -> None:
    own = Path(os.environ["STUDIO_RESULTS"])
    build_published_report(own, tmp_path, 0.95)
    for name in ("results.json", "alpha_by_rank.csv", "report.md"):
        assert (REPORT / name).read_bytes() == (tmp_path / name).read_bytes(), name
    text = (REPORT / "results.json").read_text()
    named = [cell.name for cell in read_published_grid(own).cells if f'"{cell.name}"' in text]
    assert len(named) <= 4 + 6
