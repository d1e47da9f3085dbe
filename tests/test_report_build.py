"""The whole report, from a workspace to files."""

import csv
import json
from pathlib import Path

import pytest

from lora_replication.errors import DataError, IncompleteError
from lora_replication.reading import read_study
from lora_replication.report.build import build_report, read_results, report_files
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Results
from lora_replication.workspace import Workspace
from tests import report_records as made

ROOT = Path(__file__).resolve().parents[1]
TEXTS = {
    "report.html", "report.md", "card.md", "results.json", "verdicts.json", "table.csv", "runs.csv",
    "runs.parquet", "learning_curves.csv", "table.tex", "table_wide.tex", "citation.bib",
}  # fmt: skip
METRICS = [f"metrics/{name}.json" for name in ("last_layers", "lora_default", "lora_tuned", "full")]
DRAWN = ("accuracy_by_method", "learning_curves", "paired_differences", "grid_heatmaps",
         "grid_collapse", "chosen_again")  # fmt: skip


def drawn(figures: tuple[str, ...]) -> set[str]:
    return {f"figures/{name}.{kind}" for name in figures for kind in ("png", "svg")}


def files(folder: Path) -> dict[str, bytes]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in found}


def written(root: Path, study=None, drop: tuple[int, ...] = ()) -> Workspace:
    """A workspace with all records of ``study`` but those to ``drop``; the fourth one failed."""
    workspace = made.make_workspace(study or made.make_study(), root)
    records = made.make_records(workspace)
    if drop:
        records[3] = made.altered(records[3], status="failed", error="out of memory")
    kept = [record for place, record in enumerate(records) if place not in drop]
    made.write_study(workspace, kept, made.make_predictions(kept))
    return Workspace(workspace.study, root)


def test_the_same_workspace_gives_the_same_files_and_old_figures_go(tmp_path: Path) -> None:
    workspace = written(tmp_path)
    stale = tmp_path / "two" / "metrics" / "gone.json"
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    build_report(workspace, tmp_path / "one")
    results = build_report(workspace, tmp_path / "two")
    names = TEXTS | drawn(DRAWN) | {*METRICS, "metrics/grid_winner.json"}
    assert set(files(tmp_path / "one")) == names
    assert files(tmp_path / "one") == files(tmp_path / "two")
    assert read_results(tmp_path / "one") == results
    seen: list[str] = []
    json.loads(files(tmp_path / "one")["results.json"], parse_float=seen.append)
    assert [number for number in seen if float(f"{float(number):.12g}") != float(number)] == []
    assert "verdicts" in Results.model_json_schema()["properties"]


def test_results_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"results\.json: can't be read \(No such file"):
        read_results(tmp_path)
    (tmp_path / "results.json").write_text('{"schema_version": 1}')
    with pytest.raises(DataError, match="it is of another version"):
        read_results(tmp_path)


@pytest.mark.fault(29)
def test_an_incomplete_study_is_refused_and_what_was_there_stays(tmp_path: Path) -> None:
    workspace = written(tmp_path, drop=(0,))
    (tmp_path / "report.md").write_text("old")
    message = (
        r"no report is written, because 2 of 23 runs are missing: last_layers seed 1 \(not run\), "
        r"lora_default seed 1 \(failed: out of memory\); .*report minilm-small --allow-partial"
    )
    with pytest.raises(IncompleteError, match=message) as raised:
        build_report(workspace, tmp_path)
    assert raised.value.exit_code == 5
    assert (tmp_path / "report.md").read_text() == "old"
    assert not (tmp_path / "report.html").exists()


def test_a_partial_report_says_how_many_of_how_many_everywhere(tmp_path: Path) -> None:
    # Without a method's run and a cell; the winner is not known before its grid is whole.
    workspace = written(tmp_path, drop=(0, 14, 20, 21, 22))
    results = build_report(workspace, tmp_path / "report", allow_partial=True)
    found = files(tmp_path / "report")
    for name in ("report.md", "report.html"):
        text = found[name].decode().replace("\u00a0", " ")
        for part in (
            "Incomplete: 17 of 20 runs have a result.",
            "lora_default seed 1 (failed: out of memory)",
            "7 of 8 configurations done",
            "No winner is named while 1 configuration is missing.",
            "last layers n = 2 of 3",
            "LoRA tuned n = 3,",
            "n = 7 of 8 configurations",
            "n = 2 of 3, 2 of 3, 2 of 3, 2 of 3, 2 of 3, 3 from top to bottom",
        ):
            assert part in text, (name, part)
    assert "3 of 20 runs are missing" in found["table.tex"].decode()
    table = list(csv.DictReader(found["table.csv"].decode().splitlines()))
    shares = [f"{row['runs_done']} of {row['runs_asked']}" for row in table[:3]]
    assert shares == ["2 of 3", "2 of 3", "3 of 3"]
    assert len(json.loads(found["verdicts.json"])["missing"]) == len(results.missing) == 3


def test_a_study_without_any_run_gets_a_report_where_asked_for(tmp_path: Path) -> None:
    workspace = made.make_workspace(made.make_study(), tmp_path)
    made.write_study(workspace, [], Predictions())
    build_report(workspace, tmp_path / "report", allow_partial=True)
    found = files(tmp_path / "report")
    assert set(found) == TEXTS | {*METRICS}
    for text in (b"No table of runs: it would be empty.", b"No curves are drawn: no run has a"):
        assert text in found["report.md"]
        assert text in found["report.html"]


def test_metrics_and_curves_for_dvc(tmp_path: Path) -> None:
    study = made.make_study()
    records = made.make_records(made.make_workspace(study))
    results = made.results_of(study, records, tmp_path, made.make_predictions(records))
    found, interval = report_files(results), results.methods[0].interval
    metrics = json.loads(found["metrics/last_layers.json"])
    ends = {"low": round(100 * interval.low, 2), "high": round(100 * interval.high, 2)}
    assert metrics == {"train": 82.33, "val": 78.33, "test": 78.33, **ends, "runs": 3}
    curves = list(csv.DictReader(found["learning_curves.csv"].decode().splitlines()))
    assert len(curves) == (12 + 3) * 3
    assert [row["epoch"] for row in curves[:3]] == ["1", "2", "3"]
    long = list(csv.DictReader(found["runs.csv"].decode().splitlines()))
    assert len(long) == 12 + 8 + 3
    assert (long[3]["name"], long[3]["rank"], long[3]["alpha"]) == ("lora_default", "8", "16.0")
    assert float(long[3]["test_accuracy"]) == 0.853


def test_generated_reviews_are_named_in_every_file(tmp_path: Path) -> None:
    data = {"source": "generated", "path": None, "generated_seed": 1}
    study = made.make_study(study="demo", title="Demo", data=data)
    build_report(written(tmp_path, study), tmp_path / "report")
    for name, content in files(tmp_path / "report").items():
        if not name.endswith((".png", ".bib", "runs.csv")) and "metrics" not in name:
            assert b"enerated reviews, not IMDb" in content, name


@pytest.mark.parametrize("name", sorted(f.parent.name for f in ROOT.glob("reports/*/records")))
def test_a_committed_report_is_what_its_records_give(tmp_path: Path, name: str) -> None:
    workspace = Workspace.published(read_study(name, ROOT), ROOT)
    build_report(workspace, tmp_path)
    old, new = files(workspace.report), files(tmp_path)
    beside = {name for name in old if name.startswith(("records/", "data/"))}
    assert set(new) == set(old) - beside
    # Figures, and the page with them, follow matplotlib's version too.
    plain = {name for name in new if not name.startswith("figures/") and name != "report.html"}
    assert [name for name in sorted(plain) if new[name] != old[name]] == []
