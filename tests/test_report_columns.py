"""Tables: one list of columns, and what the page, CSV, LaTeX and the terminal make of it."""

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError

from lora_replication.report import tables as module
from lora_replication.report.build import report_files
from lora_replication.report.results import Results
from lora_replication.report.tables import Column, csv_bytes, short_table, tables, terminal_table
from lora_replication.report.words import ABSENT, ends
from tests import report_records as made


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """With a diverged, a collapsed, a failed and a missing run, and notes."""
    study = made.make_study()
    records = made.make_records(made.make_workspace(study))
    records[4] = made.diverged(records[4])
    records[7] = made.altered(
        records[7], one_class=True, test=made.count(493, 1000), notes=["rank above"]
    )
    records[11] = made.altered(records[11], status="failed", error="out of memory")
    tested = made.make_predictions(records)
    return made.results_of(study, records[1:], tmp_path_factory.mktemp("study"), tested)


@pytest.fixture(scope="module")
def articles(tmp_path_factory: pytest.TempPathFactory) -> Results:
    study = made.article_study()
    records = made.make_records(made.make_workspace(study))[:20]
    tested = made.make_predictions(records)
    return made.results_of(study, records, tmp_path_factory.mktemp("article"), tested)


def texts(results: Results, name: str) -> list[list[tuple[str, str, bool]]]:
    rows = tables(results)[name].rows
    return [[(cell.text, cell.note, cell.alert) for cell in row] for row in rows]


def test_the_main_table_by_hand(results: Results) -> None:
    rows = texts(results, "methods")
    assert [row[0][0] for row in rows] == [
        "last layers", "LoRA default", "LoRA tuned", "full", "grid winner",
    ]  # fmt: skip
    assert [row[5] for row in rows] == [
        ("2 of 3", "", True), ("3 of 3", "1 diverged", True), ("3 of 3", "1 single class", True),
        ("2 of 3", "", True), ("3 of 3", "", False),
    ]  # fmt: skip
    # Test: 779 and 790 of 1,000.
    assert rows[0][0] == ("last layers", "the two layers after the encoder", False)
    interval = results.methods[0].interval
    shown = f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"
    assert rows[0][1:5] == [
        ("78.45", "", False),
        (shown, "n = 2 runs on 1,000 reviews in 120 movies", False),
        ("5e-05", "", False),
        ("148,610", "", False),
    ]
    assert rows[0][8] == ("592,130", "", False)
    assert rows[0][9][0] == "86.68 / 87.26 / 86.22"
    assert rows[2][10] == (ABSENT, "not stated", False)
    assert [cell[0] for cell in rows[4][8:]] == [ABSENT] * 3


def test_every_run_with_its_status(results: Results) -> None:
    rows = texts(results, "runs")
    assert len(rows) == 11 + 3
    assert [cell[0] for cell in rows[0][:4]] == ["last layers", "2", "77.90", "78.00"]
    assert [cell[0] for cell in rows[0][8:12]] == ["34.8 s", "6.2 s", "31,234", "1.15 GiB"]
    assert rows[3][6] == ("diverged", "from step 17", True)
    assert [cell[0] for cell in rows[3][2:5]] == [ABSENT] * 3
    assert (rows[6][0][1], rows[6][6]) == ("rank above", ("ok, single class", "", True))
    assert rows[10][6] == ("failed", "out of memory", True)


def test_cells_are_ranked_and_fresh_seeds_compared(tmp_path: Path) -> None:
    study = made.make_study(
        grid={**made.make_study().grid.model_dump(mode="json"), "runners_up": 1}
    )
    records = made.make_records(made.make_workspace(study))
    results = made.results_of(study, records, tmp_path, made.make_predictions(records))
    cells, choice = texts(results, "cells"), texts(results, "choice")
    assert [row[1][0] for row in cells] == [str(place) for place in range(1, 9)]
    assert [cell[0] for cell in cells[0][:9]] == [
        "r8-a1-query-value", "1", "87.50", "87.60", "91.50", "8", "1", "5e-05", "110,592",
    ]  # fmt: skip
    assert [row[5][0] for row in choice] == ["winner", "runner-up", "runner-up"]
    # 862, 860 and 861 against 868, 861 and 874 of 1,000: -6, -1 and -13 reviews.
    assert choice[1][3][0] == "\N{MINUS SIGN}0.67"
    assert choice[0][3][0] == ABSENT


@pytest.mark.fault(40)
@pytest.mark.parametrize("text", ["=cmd()", "+1", "-1", "@sum", "\t=1", "\r=1", "  =c", "\n=c"])
def test_formulas_are_inert(text: str) -> None:
    written = csv_bytes([Column("", "name", name="name")], [{"name": text}]).decode()
    found = next(csv.DictReader(io.StringIO(written, newline="")))["name"]
    assert found == "'" + text.replace("\r", " ")


def test_a_column_of_the_main_table_is_stated_once(articles, monkeypatch):
    seeds = {"heading": "Seeds asked", "value": "row.seeds | length", "name": "asked"}
    stated = module._stated()
    more = [*stated["methods"]["columns"], seeds | {"short": "Asked", "narrow": True}]
    changed = stated | {"methods": stated["methods"] | {"columns": more}}
    monkeypatch.setattr(module, "_stated", lambda: changed)
    assert module.tables(articles)["methods"].columns[-1].heading == "Seeds asked"
    assert terminal_table(articles).splitlines()[1].endswith("Asked")
    monkeypatch.setattr("lora_replication.report.build.draw_figures", lambda results: {})
    files = report_files(articles)
    for name in ("report.html", "report.md", "table.tex", "table_wide.tex"):
        assert b"sked" in files[name], name
    assert files["table.csv"].splitlines()[0].endswith(b",asked")


def test_the_terminal_table_fits_60_columns(results: Results, articles: Results) -> None:
    for one in (results, articles):
        assert max(map(len, terminal_table(one).splitlines())) <= 60
    lines = terminal_table(results).splitlines()
    assert lines[0] == "MiniLM on a part of IMDb"
    assert lines[1].split() == ["Method", "Test", "Interval", "Parameters"]
    assert lines[2].split("  ")[0] == "last layers"
    assert re.search(r"  78\.45 +\d\d\.\d\d to \d\d\.\d\d +148,610$", lines[2])
    assert "cannot confirm or refute" in " ".join(lines)
    assert terminal_table(articles).splitlines()[1].split()[-1] == "Article"


def test_a_column_without_values_is_left_out_of_papers_and_an_interval_has_two_fields() -> None:
    columns = [Column("A", "a", short="A"), Column("B", "b", short="B", narrow=True)]
    rows: list[dict[str, Any]] = [{"a": None, "b": 1}]
    assert short_table(columns, rows, narrow=False) == [["B"], ["1"]]
    both = [Column("", "a", ends, name="t"), *(Column("", "b", name=name) for name in "bc")]
    assert csv_bytes(both, [{"a": None, "b": -0.5}]) == b"t_low,t_high,b,c\n,,-0.5,-0.5\n"


def test_a_misspelt_name_in_a_column_is_an_error_and_an_absent_part_is_none(
    results: Results,
) -> None:
    row = results.methods[0].model_copy(update={"published": None})
    assert module._column("published.minutes", results).of(row) is None
    with pytest.raises(UndefinedError, match="has no attribute 'seed'"):
        module._column({"heading": "Seeds", "value": "row.seed | length"}, results).of(row)
