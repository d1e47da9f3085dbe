"""Our grid beside the published one, recomputed by plain loops and statsmodels."""

import json
from pathlib import Path
from statistics import fmean

import pytest
from report_records import PARAMS, altered, count, diverged, make_records, make_study
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportions_ztest
from statsmodels.stats.weightstats import DescrStatsW
from test_published_grid import made_up

from lora_replication.article.published_file import PublishedGrid
from lora_replication.reading import load_study
from lora_replication.record import Record
from lora_replication.report.published.beside import (
    Beside,
    beside_statement,
    beside_table,
    set_beside,
)
from lora_replication.report.published.build import build_published_report

STUDY = load_study(PARAMS)
GRID = PublishedGrid(tuple(made_up(192)), (), "ab" * 32)


def our_cells() -> list[Record]:
    """The article's grid: half a point to two points above the published one; one configuration
    diverged, one collapsed.
    """
    cells = [record for record in make_records(STUDY) if record.asked.role == "cell"]
    cells = [
        altered(cell, test=count(8900 + 37 * (place % 9), 10_000))
        for place, cell in enumerate(cells)
    ]
    cells[3] = diverged(cells[3])
    cells[4] = altered(cells[4], test=count(5006, 10_000))
    return cells


@pytest.fixture(scope="module")
def beside() -> Beside:
    found = set_beside(GRID, STUDY, our_cells(), 0.95)
    assert found is not None
    return found


def test_cell_beside_cell(beside: Beside) -> None:
    ours = {cell.asked.name: cell for cell in our_cells()}
    assert len(beside.pairs) == 192
    for pair, cell in zip(beside.pairs, GRID.cells, strict=True):
        test = ours[cell.name].happened.test
        assert (pair.name, pair.published) == (cell.name, cell.test_percent / 100)
        assert pair.ours == (test.correct / 10_000 if test else None)
    assert (beside.ours_collapsed, beside.published_collapsed, beside.both_collapsed) == (2, 0, 0)


def test_differences_beyond_chance(beside: Beside) -> None:
    tested = [pair for pair in beside.pairs if pair.ours is not None]
    p_values = [
        proportions_ztest([pair.ours * 10_000, pair.published * 10_000], [10_000] * 2)[1]
        for pair in tested
    ]
    assert [pair.p_value for pair in tested] == pytest.approx(p_values)
    rejected, adjusted, *_ = multipletests(p_values, 0.05, "holm")
    assert [pair.p_holm for pair in tested] == pytest.approx(list(adjusted))
    assert beside.beyond_chance == sum(rejected) > 0
    table = beside_table(beside, 0.95)
    assert len(table.rows) == min(20, beside.beyond_chance)
    assert table.rows[0][0].text == beside.pairs[4].name


def test_means_over_what_is_live_in_both(beside: Beside) -> None:
    live = [
        pair.ours - pair.published
        for pair in beside.pairs
        if pair.ours is not None and pair.ours >= 0.6
    ]
    assert len(live) == 190
    assert beside.difference.estimate == pytest.approx(fmean(live))
    assert (beside.difference.low, beside.difference.high) == pytest.approx(
        DescrStatsW(live).tconfint_mean()
    )
    assert beside.ranks.n == 190


def test_another_study_is_marked_and_not_tested_on_other_reviews() -> None:
    study = make_study()
    found = set_beside(
        GRID, study, [record for record in make_records(study) if record.asked.role == "cell"], 0.95
    )
    assert len(found.pairs) == 4  # alpha 16 is not among the first 192
    assert beside_statement(found)[0].startswith(
        "The study minilm-small is not DistilBERT on the whole of IMDb"
    )
    assert found.beyond_chance == 0
    assert all(pair.p_value is None for pair in found.pairs)


def test_other_scalings_share_no_configuration() -> None:
    cells = our_cells()[:3]
    other = []
    for cell in cells:
        settings = {
            **cell.asked.settings,
            "lora": {**cell.asked.settings["lora"], "scaling": "paper"},
        }
        other.append(
            cell.model_copy(update={"asked": cell.asked.model_copy(update={"settings": settings})})
        )
    assert set_beside(GRID, STUDY, other, 0.95) is None


def test_the_report_has_it(tmp_path: Path) -> None:
    (tmp_path / "results.txt").write_text(
        "".join(f"{line}\n" for cell in GRID.cells for line in cell.lines())
    )
    build_published_report(
        tmp_path / "results.txt", tmp_path / "out", 0.95, study=STUDY, records=our_cells()
    )
    assert (
        "192 configurations of the study article stand beside the published ones"
        in (tmp_path / "out/report.md").read_text()
    )
    assert (
        json.loads((tmp_path / "out/results.json").read_text())["beside_a_study"]["configurations"]
        == 192
    )
    assert (tmp_path / "out/figures/published_beside_ours.svg").is_file()
