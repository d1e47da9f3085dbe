"""Figures: what is drawn where, and the same bytes each time."""

import re
import xml.etree.ElementTree as ET

import pytest
from report_records import PARAMS, altered, diverged, make_answers, make_records, make_study

from lora_replication.reading import load_study
from lora_replication.report.comparisons import Views, view
from lora_replication.report.drawing import Drawing
from lora_replication.report.figures import (
    accuracy_by_method,
    accuracy_caption,
    draw_figures,
    learning_caption,
    learning_curves,
)
from lora_replication.report.summary import Summary, summarise

STUDY = make_study()
RECORDS = make_records(STUDY)
VIEWS = view(summarise(STUDY, RECORDS), make_answers(RECORDS))


@pytest.fixture(scope="module")
def summary() -> Summary:
    study = make_study()
    return summarise(study, make_records(study))


@pytest.fixture(scope="module")
def drawings(summary: Summary) -> list[Drawing]:
    return draw_figures(summary, VIEWS)


def test_intervals_runs_and_means_stand_where_they_belong(summary: Summary) -> None:
    lines = [line.get_xdata() for line in accuracy_by_method(summary).axes[0].lines]
    row = summary.methods[0]
    seeds, sampling = row.parts["test"], row.test_sampling
    assert seeds is not None
    assert sampling is not None
    assert list(lines[0]) == [100 * seeds.low, 100 * seeds.high]
    assert list(lines[1]) == [100 * sampling.low, 100 * sampling.high]
    assert list(lines[2]) == pytest.approx([78.1, 77.9, 79.0])
    assert list(lines[3]) == [pytest.approx(100 * 2350 / 3000)] * 2
    assert len(lines) == 5 * 4


def test_the_articles_number_is_drawn_only_where_it_is_comparable(summary: Summary) -> None:
    markers = [line.get_marker() for line in accuracy_by_method(summary).axes[0].lines]
    assert "D" not in markers
    article = load_study(PARAMS)
    own = summarise(article, make_records(article))
    diamonds = [line for line in accuracy_by_method(own).axes[0].lines if line.get_marker() == "D"]
    assert [line.get_xdata()[0] for line in diamonds] == [86.22, 89.44, 92.39, 92.31]
    assert "Diamonds" in accuracy_caption(own)
    assert "Diamonds" not in accuracy_caption(summary)


def test_curves_of_all_seeds_and_their_mean(summary: Summary) -> None:
    figure = learning_curves(summary)
    assert [plot.get_title(loc="left") for plot in figure.axes] == [
        "last_layers",
        "lora_default",
        "lora_tuned",
        "full",
    ]
    lines = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert len(lines) == 2 * (3 + 1)
    validation = [
        [100 * epoch.val_accuracy for epoch in run.happened.epochs]
        for run in summary.methods[0].runs
    ]
    assert lines[4:7] == validation
    assert lines[7] == pytest.approx([sum(values) / 3 for values in zip(*validation, strict=True)])


def test_the_mean_ends_where_the_shortest_run_ends(summary: Summary) -> None:
    study = summary.study
    records = make_records(study)
    records[0] = altered(records[0], epochs=records[0].happened.epochs[:1])
    lines = learning_curves(summarise(study, records)).axes[0].lines
    assert [len(line.get_ydata()) for line in lines[:4]] == [1, 3, 3, 1]


def test_captions_give_kind_of_interval_and_n(summary: Summary) -> None:
    caption = accuracy_caption(summary)
    assert (
        "95 % t interval over seeds, cut to 0 to 100 (last_layers n = 3, lora_default n = 3"
        in caption
    )
    assert "95 % Wilson score interval at the mean for test sampling (n = 1,000 reviews" in caption
    assert "last_layers n = 3" in learning_caption(summary)
    assert all("Not DistilBERT" in text for text in (caption, learning_caption(summary)))


def test_the_same_summary_gives_the_same_bytes(summary: Summary, drawings: list[Drawing]) -> None:
    assert draw_figures(summary, VIEWS) == drawings
    assert all(drawing.png.startswith(b"\x89PNG") for drawing in drawings)
    assert b"<dc:date>" not in b"".join(drawing.svg for drawing in drawings)


def test_every_figure_says_what_it_is_not(drawings: list[Drawing]) -> None:
    assert all(b"Not DistilBERT on the whole of IMDb" in drawing.svg for drawing in drawings)


def test_inlined_svg_is_well_formed_has_its_own_ids_and_fetches_nothing(
    drawings: list[Drawing],
) -> None:
    ids: list[str] = []
    for drawing in drawings:
        root = ET.fromstring(drawing.inline())  # noqa: S314  # made by this project a moment ago
        found = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
        links = re.findall(r'(?:href="#|url\(#)([^")]+)', drawing.inline())
        assert set(links) <= set(found)
        assert not re.search(r'(?:href|src)="(?!#)', drawing.inline())
        assert root.attrib["role"] == "img"
        assert "width" not in root.attrib
        ids += found
    assert len(ids) == len(set(ids))
    assert "currentColor" in drawings[0].inline()


def test_a_curve_ends_before_the_epoch_in_which_its_run_diverged() -> None:
    first = RECORDS[0].happened.epochs
    assert len(first) > 1
    last = first[-1].model_copy(
        update={"train_accuracy": None, "val_accuracy": None, "val_loss": None}
    )
    diverging = [diverged(altered(RECORDS[0], epochs=[*first[:-1], last])), *RECORDS[1:]]
    lines = learning_curves(summarise(STUDY, diverging)).axes[0].lines
    assert [len(line.get_xdata()) for line in lines] == 2 * [
        len(first) - 1,
        len(first),
        len(first),
        len(first) - 1,
    ]


def test_without_runs_the_figures_say_so() -> None:
    assert all(
        b"no runs yet" in drawing.svg
        for drawing in draw_figures(summarise(make_study(), []), Views((), ()))
    )
