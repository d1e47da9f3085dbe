"""Figures of methods beside each other: what is drawn where."""

import pytest
from report_records import PARAMS, make_answers, make_records, make_study

from lora_replication.reading import load_study
from lora_replication.report.answers import Answers
from lora_replication.report.comparisons import Views, view
from lora_replication.report.method_figures import (
    accuracy_by_parameters,
    differences_caption,
    draw_method_figures,
    paired_differences,
    published_against_reproduced,
)
from lora_replication.report.summary import summarise
from lora_replication.statistics import prediction_interval

RECORDS = make_records(make_study())
SUMMARY = summarise(make_study(), RECORDS)
VIEWS = view(SUMMARY, make_answers(RECORDS))


def test_accuracy_stands_over_its_parameters_on_a_log_axis() -> None:
    plot = accuracy_by_parameters(SUMMARY).axes[0]
    assert plot.get_xscale() == "log"
    points = [
        (line.get_xdata()[0], line.get_ydata()[0])
        for line in plot.lines
        if len(line.get_xdata()) == 1
    ]
    assert points == [
        (row.trainable_parameters, 100 * row.parts["test"].estimate) for row in SUMMARY.rows
    ]
    bars = [list(line.get_ydata()) for line in plot.lines if len(line.get_xdata()) == 2]
    assert bars == [
        [100 * row.parts["test"].low, 100 * row.parts["test"].high] for row in SUMMARY.rows
    ]


def test_differences_with_both_intervals() -> None:
    plot = paired_differences(VIEWS).axes[0]
    pair = VIEWS.comparisons[0]
    lines = [list(line.get_xdata()) for line in plot.lines]
    assert lines[0] == [100 * pair.paired.difference.low, 100 * pair.paired.difference.high]
    assert lines[1] == [100 * pair.both.low, 100 * pair.both.high]
    assert lines[2] == pytest.approx([7.2, 8.2, 5.9])
    assert len(lines) == 6 * 4 + 1
    assert "two-level bootstrap" in differences_caption(SUMMARY, VIEWS)
    assert "two-level bootstrap" not in differences_caption(SUMMARY, view(SUMMARY, Answers()))
    assert "n = 3, 3, 3, 3, 3, 3 from top" in differences_caption(SUMMARY, VIEWS)


def test_the_articles_numbers_are_drawn_for_the_articles_study_alone() -> None:
    assert [drawing.name for drawing in draw_method_figures(SUMMARY, VIEWS)] == [
        "accuracy_by_parameters",
        "paired_differences",
    ]
    study = load_study(PARAMS)
    own = summarise(
        study, [record for record in make_records(study) if record.asked.role == "method"]
    )
    plot = published_against_reproduced(own).axes[0]
    assert [line.get_xdata()[0] for line in plot.lines if line.get_marker() == "D"] == [
        86.22,
        89.44,
        92.39,
        92.31,
    ]
    expected = prediction_interval(
        [run.happened.test.fraction for run in own.methods[0].runs], 0.95
    )
    assert list(plot.lines[0].get_xdata()) == [100 * expected.low, 100 * expected.high]


def test_without_runs_nothing_is_drawn() -> None:
    assert draw_method_figures(summarise(make_study(), []), Views((), ())) == []
