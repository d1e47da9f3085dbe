"""Figures of the grid: what is drawn where."""

import math

from report_records import altered, count, diverged, make_records, make_study

from lora_replication.report.grid_figures import (
    collapse_by_alpha,
    draw_grid_figures,
    grid_heatmaps,
    validation_against_test,
)
from lora_replication.report.summary import Summary, summarise
from lora_replication.statistics import exact_interval

RECORDS = make_records(make_study())


def with_accidents() -> Summary:
    records = list(RECORDS)
    records[16] = diverged(records[16])
    records[17] = altered(records[17], test=count(512, 1000), one_class=True)
    return summarise(make_study(), records)


def test_a_panel_for_each_choice_of_targets() -> None:
    cells = summarise(make_study(), RECORDS).grid.cells
    panels = [panel for panel in grid_heatmaps(cells).axes if panel.get_title(loc="left")]
    assert [panel.get_title(loc="left") for panel in panels] == ["q v", "q v mlp"]
    by_name = {cell.asked.name: 100 * cell.happened.val.fraction for cell in cells}
    drawn = panels[1].collections[0].get_array().tolist()
    assert drawn == [
        [by_name[f"r{rank}-a{alpha}-query-value-mlp"] for rank in (2, 8)] for alpha in (1, 16)
    ]


def test_a_diverged_configuration_leaves_a_hole() -> None:
    cells = [cell for cell in with_accidents().grid.cells if cell.happened.val]
    values = [
        v
        for panel in grid_heatmaps(cells).axes[:2]
        for row in panel.collections[0].get_array().filled(math.nan)
        for v in row
    ]
    assert sum(math.isnan(value) for value in values) == 1


def test_every_configuration_is_a_point() -> None:
    cells = summarise(make_study(), RECORDS).grid.cells
    line, points = validation_against_test(cells).axes[0].lines
    assert list(points.get_xdata()) == [100 * cell.happened.val.fraction for cell in cells]
    assert list(points.get_ydata()) == [100 * cell.happened.test.fraction for cell in cells]
    assert list(line.get_xdata()) == list(line.get_ydata())


def test_collapse_counts_diverged_runs() -> None:
    lines = [list(line.get_ydata()) for line in collapse_by_alpha(with_accidents()).axes[0].lines]
    assert [line[0] for line in lines[1::3]] == [0, 50]
    assert [line[0] for line in lines[2::3]] == [0, 25]
    share = exact_interval(2, 4, 0.95)
    assert lines[3] == [100 * share.low, 100 * share.high]


def test_captions_say_k_of_n() -> None:
    drawings = draw_grid_figures(summarise(make_study(), RECORDS[:18]))
    assert [drawing.name for drawing in drawings] == [
        "grid_heatmaps",
        "grid_validation_against_test",
        "grid_collapse",
    ]
    assert "n = 6 of 8 configurations" in drawings[0].caption
    assert draw_grid_figures(summarise(make_study(), [])) == []
