"""Figures: what is drawn where, and the same bytes each time."""

import csv
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_replication.report import figures
from lora_replication.report.build import report_files
from lora_replication.report.figures import collapse_by_alpha, draw_figures, grid_heatmaps
from lora_replication.report.plots import heatmaps
from lora_replication.report.rendering import Drawing
from lora_replication.report.results import Results
from tests import report_records as made

RECORDS = made.make_records(made.make_workspace(made.make_study()))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("study")
    return made.results_of(made.make_study(), RECORDS, folder, made.make_predictions(RECORDS))


@pytest.fixture(scope="module")
def drawings(results: Results) -> dict[str, Drawing]:
    return draw_figures(results)


def bars(plot: Any) -> list[list[float]]:
    return [list(bar.get_segments()[0][:, 0]) for bar in plot.collections]


def percents(interval: Any) -> list[float]:
    return [100 * interval.low, 100 * interval.high]


def test_intervals_runs_and_means_are_where_they_belong(results: Results) -> None:
    plot = figures.accuracy_by_method(results).axes[0]
    row = results.methods[0]
    assert bars(plot)[0] == percents(row.interval)
    runs, mean, *others = [list(line.get_xdata()) for line in plot.lines]
    assert runs == pytest.approx([78.1, 77.9, 79.0])
    assert mean == [pytest.approx(100 * 2350 / 3000)] * 2
    assert (len(bars(plot)), len(others)) == (5, 8)
    labels = [label.get_text() for label in plot.get_yticklabels()]
    assert labels == ["last layers", "LoRA default", "LoRA tuned", "full", "grid winner"]


def test_the_articles_numbers_are_drawn_where_they_are_comparable(results, tmp_path):
    def diamonds(shown: Results) -> list[float]:
        lines = figures.accuracy_by_method(shown).axes[0].lines
        return [line.get_xdata()[0] for line in lines if line.get_marker() == "D"]

    study = made.article_study()
    articles = made.results_of(study, made.make_records(made.make_workspace(study))[:20], tmp_path)
    assert (diamonds(results), diamonds(articles)) == ([], [86.22, 89.44, 92.39, 92.31])


def test_curves_of_all_seeds_and_their_mean_end_before_the_epoch_in_which_a_run_diverged(tmp_path):
    epochs = RECORDS[0].happened.epochs
    gone = dict.fromkeys(("train_accuracy", "val_accuracy", "val_loss"))
    last = epochs[-1].model_copy(update=gone)
    first = made.diverged(made.altered(RECORDS[0], epochs=[*epochs[:-1], last]))
    results = made.results_of(made.make_study(), [first, *RECORDS[1:]], tmp_path)
    plots = figures.learning_curves(results).axes
    titles = [plot.get_title(loc="left") for plot in plots]
    assert titles == ["last layers", "LoRA default", "LoRA tuned", "full"]
    assert [len(line.get_xdata()) for line in plots[0].lines] == 2 * [2, 3, 3, 2]
    runs = results.runs_of(results.methods[1])
    validation = [[100 * epoch.val_accuracy for epoch in run.epochs] for run in runs]
    lines = [list(line.get_ydata()) for line in plots[1].lines]
    assert lines[4:7] == validation
    assert lines[7] == pytest.approx([sum(values) / 3 for values in zip(*validation, strict=True)])


def test_differences_with_their_interval(results: Results) -> None:
    plot = figures.paired_differences(results.comparisons).axes[0]
    pair = results.comparisons[0]
    assert bars(plot)[0] == percents(pair.interval)
    assert list(plot.lines[0].get_xdata()) == pytest.approx([7.2, 8.2, 5.9])
    assert (len(bars(plot)), len(plot.lines)) == (6, 6 * 2 + 1)


def at_own_rates(results: Results) -> Results:
    """As if a sweep had found all these rates."""
    rows = [row.model_copy(update={"role": "tuned"}) for row in results.methods]
    again = [run.model_copy(update={"role": "tuned"}) for run in results.runs]
    own = {"tuned": rows, "tuned_comparisons": results.comparisons}
    return results.model_copy(update=own | {"runs": [*results.runs, *again]})


def test_methods_at_both_rates_are_in_every_table_and_figure_that_travels_alone(results):
    both = at_own_rates(results)
    plot = figures.accuracy_by_method(both).axes[0]
    names = [label.get_text() for label in plot.get_yticklabels()]
    assert names[3:7] == ["full", "grid winner", "last layers, own rate", "LoRA default, own rate"]
    files = report_files(both)
    shown = {"table.tex": 1, "table_wide.tex": 1, "card.md": 1, "report.html": 2}
    for name, times in shown.items():
        assert files[name].decode().count("LoRA default, own rate") == times, name
    rows = list(csv.DictReader(files["table.csv"].decode().splitlines()))
    assert [row["role"] for row in rows] == ["method"] * 4 + ["winner"] + ["tuned"] * 4
    assert "Each at its own learning rate: full 87.4 %" in files["report.md"].decode()
    assert "figures/own_rate_differences.svg" in files


def test_accuracy_by_parameters_and_time_of_each_method(results: Results) -> None:
    sizes, times = figures.accuracy_by_cost(results.methods).axes
    minutes = [row.seconds / 60 for row in results.methods]
    for plot, costs in ((sizes, [148_610, 73_728, 258_048, 22_713_986]), (times, minutes)):
        assert [line.get_xdata()[0] for line in plot.lines] == costs
        means = [100 * row.test.estimate for row in results.methods]
        assert [line.get_ydata()[0] for line in plot.lines] == pytest.approx(means)
        assert len({(line.get_color(), line.get_marker()) for line in plot.lines}) == 4
        ends = [list(bar.get_segments()[0][:, 1]) for bar in plot.collections]
        assert ends == [percents(row.interval) for row in results.methods]
    interval = replace(results.methods[0].interval, low=0.0, high=None)
    row = results.methods[0].model_copy(update={"interval": interval})
    bar = figures.accuracy_by_cost([row]).axes[0].collections[0]
    assert list(bar.get_segments()[0][:, 1]) == [0, 100 * interval.estimate]
    first = results.runs_of(results.methods[0])
    assert results.methods[0].seconds == min(run.seconds for run in first)


def test_a_panel_for_each_choice_of_targets_with_a_hole_where_one_diverged(tmp_path):
    records = [*RECORDS[:16], made.diverged(RECORDS[16]), *RECORDS[17:]]
    cells = [
        run
        for run in made.results_of(made.make_study(), records, tmp_path).cells
        if run.val_accuracy
    ]
    panels = grid_heatmaps(cells).axes[:2]
    assert [panel.get_title(loc="left") for panel in panels] == ["q v", "q v mlp"]
    by_name = {run.name: 100 * run.val_accuracy for run in cells}
    for panel, targets in zip(panels, ("query-value", "query-value-mlp"), strict=True):
        drawn = panel.collections[0].get_array().filled(math.nan).tolist()
        names = [[f"r{rank}-a{alpha}-{targets}" for rank in (2, 8)] for alpha in (1, 16)]
        expected = [[by_name.get(name, math.nan) for name in row] for row in names]
        assert drawn == [pytest.approx(row, nan_ok=True) for row in expected]
        shown = [f"{value:.1f}".replace("nan", "") for row in expected for value in row]
        assert [text.get_text() for text in panel.texts] == shown
    assert len(by_name) == 7
    some = {"a": {(1.0, 0.1): 50.0, (2.0, 0.1): 60.0}, "b": {(2.0, 0.1): 70.0}}
    (circles,) = heatmaps(some, "rate", mark_best=True).axes[1].lines
    assert circles.get_ydata() == [1.5]  # it has no alpha 1


def test_a_chosen_setting_is_drawn_as_it_was_chosen_and_on_fresh_seeds(results: Results) -> None:
    lines = figures.chosen_again(results).axes[0].lines
    # 438 of 500 reviews in the grid; 434, 430 and 437 with the fresh seeds.
    before, after = 87.6, 1301 / 15
    drawn = [list(line.get_xdata()) for line in lines]
    assert drawn == [pytest.approx(xs) for xs in ([before, after], [before], [after])]


def test_a_study_without_room_or_need_for_a_figure_has_none_and_says_so(tmp_path: Path) -> None:
    names = [f"lora_variant_number_{place}" for place in range(20)]
    methods = dict.fromkeys(names, made.make_study().methods["lora_default"])
    study = made.make_study(methods=methods, run={"methods": names, "seeds": [1]}, grid=None)
    runs = made.method_runs(made.make_workspace(study))
    records = [made.make_record(run, 850, 73_728) for run in runs]
    records = [made.altered(one, epochs=one.happened.epochs[:1], best_epoch=1) for one in records]
    found = made.results_of(study, records, tmp_path, made.make_predictions(records))
    files = report_files(found)
    assert [name for name in files if name.endswith(".svg")] == ["figures/accuracy_by_method.svg"]
    for words in (b"No curves are drawn", b"The 190 differences are too many for a figure"):
        assert words in files["report.html"]


def test_collapse_has_an_exact_interval(tmp_path: Path) -> None:
    records = list(RECORDS)
    records[16] = made.diverged(records[16])
    records[17] = made.altered(records[17], test=made.count(512, 1000), one_class=True)
    rows = made.results_of(made.make_study(), records, tmp_path).grid.collapse
    lines = [list(line.get_ydata()) for line in collapse_by_alpha(rows).axes[0].lines]
    assert lines[1] == [100 * rows[1].share.low, 100 * rows[1].share.high]
    assert lines[2:] == [[0, 50], [0, 25]]


def test_the_same_results_give_the_same_bytes_and_say_what_they_are_not(results, drawings):
    assert draw_figures(results) == drawings
    assert len(drawings) == 6
    for drawing in drawings.values():
        assert drawing.png.startswith(b"\x89PNG")
        assert b"<dc:date>" not in drawing.svg
        assert b"Not DistilBERT on the whole of IMDb" in drawing.svg


def test_svg_takes_the_colour_of_the_text_and_has_ids_of_its_own(drawings):
    ids: list[str] = []
    for drawing in drawings.values():
        assert b"#222222" not in drawing.svg
        assert b"prefers-color-scheme:dark" in drawing.svg
        assert "prefers-color-scheme" not in drawing.inline()
        root = ET.fromstring(drawing.inline())  # noqa: S314  # made by this project a moment ago
        found = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.inline())) <= set(found)
        assert not re.search(r'(?:href|src)="(?!#)', drawing.inline())
        assert root.attrib["role"] == "img"
        assert not {"width", "height"} & set(root.attrib)
        ids += found
    assert len(ids) == len(set(ids))
