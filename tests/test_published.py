"""The published grid's report: against plain loops, and what is known of the author's file."""

import csv
import json
import math
import os
from pathlib import Path
from statistics import fmean, stdev, variance

import pandas as pd
import pytest
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest

from lora_replication.article.published_file import PublishedCell, read_published_grid
from lora_replication.record import Record
from lora_replication.report.published import PublishedResults, compare_grids, summarise_published
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
    for row in results.by_alpha_and_rank:
        mine = (cell for cell in cells if (cell.alpha, cell.rank) == (row["alpha"], row["rank"]))
        values = [cell.test_percent / 100 for cell in mine]
        assert row["test_accuracy"] == pytest.approx(fmean(values))
        ends = row["lowest"], row["highest"], row["configurations"]
        assert ends == (min(values), max(values), 16)


@pytest.mark.fault(24)
def test_collapse(results: PublishedResults, cells: list[PublishedCell]) -> None:
    assert (results.live, results.collapsed, results.one_class) == (160, 32, 32)
    assert (results.asked, results.found) == (576, 192)
    for row in results.by_alpha_and_targets:
        both = {"nothing else": [], "both": ["projection", "mlp"]}
        extra = both.get(row["also on"], [row["also on"]])
        mine = [
            cell.one_class
            for cell in cells
            if cell.alpha == row["alpha"]
            and [name for name in ("projection", "mlp") if name in cell.targets] == extra
        ]
        assert (row["collapsed"], row["configurations"]) == (sum(mine), len(mine)) != (0, 0)
    assert len(results.by_alpha_and_targets) == 8


def test_configurations_indistinguishable_by_reviews(
    results: PublishedResults, cells: list[PublishedCell]
) -> None:
    best, *others = sorted((cell.val_correct for cell in cells), reverse=True)
    p_values = [proportions_ztest([one, best], [5_000] * 2)[1] for one in others]
    p_values = [1 if math.isnan(p) else p for p in p_values]
    rejected = multipletests(p_values, 0.05, "holm")[0]
    row = results.best_sets[0]
    assert (row["corrected"], row["single"]) == (192 - sum(rejected), 160)


def test_a_selection_on_test_is_called_one(results: PublishedResults) -> None:
    on_test = results.choices[1]
    assert on_test["rule"] == "best on test (optimistic: selected on this very number)"
    found = on_test["place_by_test"], on_test["configuration"]
    assert found == (1, "r1-a1-query-value-projection")
    assert results.choices[2]["configuration"] == "r8-a1-query-value-mlp"


def test_the_report_is_whole_and_the_same_each_time(file: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        build_published_report(file, tmp_path / folder, 0.95)
    first = tmp_path / "one"
    found = {path.relative_to(first): path.read_bytes() for path in first.rglob("*.*")}
    assert len(found) == 5 + 5 * 2
    assert all((tmp_path / "two" / name).read_bytes() == text for name, text in found.items())
    text = found[Path("report.md")].decode()
    assert "384 of 576 configurations are missing from the file" in text
    assert "32 of 192 runs collapsed" in found[Path("card.md")].decode()
    assert "32 of 192 runs collapsed: they end below 60 % test accuracy, and 32 of them" in text
    rows = list(csv.DictReader(found[Path("alpha_by_rank.csv")].decode().splitlines()))
    content = json.loads(found[Path("results.json")])
    means = [row["test_accuracy"] for row in content["by_alpha_and_rank"]]
    assert [float(row["test_accuracy"]) for row in rows] == means


@pytest.mark.parametrize("change", [lambda cell: cell, collapsed])
def test_one_row_is_enough_and_one_that_collapsed_too(change: object, tmp_path: Path) -> None:
    (tmp_path / "results.txt").write_bytes(text_of([change(made_up(1)[0])]))
    built = build_published_report(tmp_path / "results.txt", tmp_path / "report", 0.95)
    assert built.best_sets[0]["corrected"] == 1
    assert built.random_search == [
        {"trials": 1} | dict.fromkeys(("test", "low", "high"), built.choices[0]["test"].estimate)
    ]


def test_runs_of_one_configuration_give_a_standard_deviation(tmp_path: Path) -> None:
    first, tuned = made_up(2)
    again = PublishedCell(first.rank, first.alpha, first.targets, 90, 89.7, 88.5)
    (tmp_path / "results.txt").write_bytes(text_of([first, tuned, again, first]))
    built = build_published_report(tmp_path / "results.txt", tmp_path / "report", 0.95)
    # Test accuracy: the two runs here, and of each method the article's and a further one.
    pairs = [(88, 88.5), (86.22, 86.59), (89.44, 88.28), (92.39, 92.28)]
    expected = math.sqrt(fmean(variance(pair) for pair in pairs)) / 100
    (scatter,) = built.scatter
    assert (scatter["freedom"], scatter["test"]) == (4, pytest.approx(expected))
    assert (built.found, built.replicates, built.repeated) == (2, [first.name], [first.name])
    text = (tmp_path / "report/report.md").read_text()
    assert f"of which one is kept: {first.name}" in text
    assert f"all count as repeated runs: {first.name}" in text


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


def test_our_grid_with_the_published(ours: Workspace, file: Path, tmp_path: Path) -> None:
    results = build_published_report(file, tmp_path, 0.95, ours)
    tests = {cell.asked.name: cell.happened.test for cell in our_cells(ours)}
    published = {cell.name: cell.test_percent for cell in read_published_grid(file).cells}
    pairs = [
        (tests[name].correct / 10_000, percent / 100)
        for name, percent in published.items()
        if tests[name] and tests[name].correct >= 6_000 and percent >= 60
    ]
    found, gains = results.with_study, [mine - theirs for mine, theirs in pairs]
    assert found["live"] == len(pairs) == 158
    assert found["difference"] == pytest.approx(fmean(gains))
    assert found["difference_sd"] == pytest.approx(stdev(gains))
    assert found["ranks"] == pytest.approx(pd.DataFrame(pairs).corr("spearman")[0][1])
    collapses = [found[f"{whose}_collapsed"] for whose in ("ours", "published", "both")]
    assert (found["configurations"], *collapses) == (192, 2, 32, 0)
    text = (tmp_path / "report.md").read_text()
    assert "192 configurations of the study article have a published run" in text


def test_another_study_is_marked(file: Path, tmp_path: Path) -> None:
    workspace = make_workspace(make_study())
    through_disk(workspace, make_records(workspace), tmp_path / "runs")
    results = build_published_report(file, tmp_path / "report", 0.95, workspace)
    assert results.with_study["configurations"] == 4
    text = (tmp_path / "report/report.md").read_text()
    assert "The study minilm-small is not DistilBERT on the whole of IMDb: only the order" in text


def test_other_scalings_share_no_configuration(file: Path, tmp_path: Path) -> None:
    study = make_study(grid=make_study().grid.model_dump(mode="json") | {"scaling": "paper"})
    workspace = make_workspace(study)
    through_disk(workspace, make_records(workspace), tmp_path)
    assert compare_grids(summarise_published(file, 0.95)[1], workspace) is None


@pytest.fixture(scope="module")
def own() -> tuple[PublishedResults, pd.DataFrame]:
    return summarise_published(Path(os.environ["STUDIO_RESULTS"]), 0.95)


@OWN_FILE
def test_what_is_known_of_the_authors_file(own: tuple[PublishedResults, pd.DataFrame]) -> None:
    results = own[0]
    means = {(row["alpha"], row["rank"]): row["test_accuracy"] for row in results.by_alpha_and_rank}
    for line in MEANS.split("\n")[1:-1]:
        alpha, shown = line.split(": ")
        found = [means[int(alpha), rank] * 100 for rank in (1, 2, 4, 8, 16, 32)]
        assert [f"{mean:.2f}" for mean in found] == shown.split()
    counts = {alpha: [] for alpha in (16, 32, 64)}
    for row in results.by_alpha_and_targets:
        counts.get(row["alpha"], []).append(row["collapsed"])
        assert row["alpha"] in counts or row["collapsed"] == 0
    assert {alpha: sum(found) for alpha, found in counts.items()} == {16: 55, 32: 86, 64: 90}
    assert sorted(counts[16]) == [0, 12, 19, 24]
    best, _, tuned, default = results.choices
    assert best["configuration"] == "r32-a1-query-value-mlp"
    found = [best["train"], best["val"].estimate, best["test"].estimate]
    assert found == pytest.approx([0.9793, 0.9336, 0.9272])
    assert (tuned["place_by_val"], tuned["ranks"]) == (15, (1, 173))
    found = [default["train"], default["val"].estimate, default["test"].estimate]
    assert found == pytest.approx([0.9237, 0.9062, 0.8961])
    sets = [(row["corrected"], row["single"]) for row in results.best_sets]
    assert sets == [(179, 81), (134, 46), (328, 190)]
    found = {row["trials"]: f"{100 * row['test']:.1f}" for row in results.random_search}
    assert [found[n] for n in (4, 8, 16, 64, 256)] == ["90.2", "91.9", "92.2", "92.4", "92.6"]
    assert [(row["freedom"], round(100 * row["test"], 2)) for row in results.scatter] == [
        (86, 0.29),
        (4, 0.53),
    ]


@OWN_FILE
def test_the_committed_report_is_of_the_authors_file_and_does_not_repeat_it(tmp_path: Path) -> None:
    own = Path(os.environ["STUDIO_RESULTS"])
    build_published_report(own, tmp_path, 0.95)
    for name in ("results.json", "alpha_by_rank.csv", "report.md"):
        assert (REPORT / name).read_bytes() == (tmp_path / name).read_bytes(), name
    text = (REPORT / "results.json").read_text()
    named = [cell.name for cell in read_published_grid(own).cells if f'"{cell.name}"' in text]
    assert len(named) <= 4 + 6
