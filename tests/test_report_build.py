"""The whole report, from records on disk to files."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report_records import PARAMS, altered, make_manifest, make_records, make_study, through_disk

from lora_replication.errors import IncompleteError
from lora_replication.params import load_study
from lora_replication.report.build import build_report

FILES = {
    "figures/accuracy_by_method.png", "figures/accuracy_by_method.svg", "figures/learning_curves.png", "figures/learning_curves.svg",
    "learning_curves.csv", "metrics.json", "report.html", "report.md", "results.json", "table.csv",
}  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    study = make_study()
    records = through_disk(study, make_records(study), tmp_path / "runs")
    build_report(study, records, make_manifest(), tmp_path / "one")
    build_report(study, records[::-1], make_manifest(), tmp_path / "two")
    assert set(files(tmp_path / "one")) == FILES
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_an_incomplete_study_gets_its_report_and_an_error(tmp_path: Path) -> None:
    study = make_study()
    records = make_records(study)
    records[3] = altered(records[3], status="failed", error="out of memory")
    with pytest.raises(
        IncompleteError, match=r"incomplete: 2 of 23 runs missing: last_layers seed 1 .not run., lora_default seed 1 .failed: out"
    ) as told:
        build_report(study, records[1:], make_manifest(), tmp_path)
    assert told.value.exit_code == 5
    assert set(files(tmp_path)) == FILES
    for name in ("report.md", "report.html"):
        assert b"lora_default seed 1 (failed: out of memory)" in files(tmp_path)[name]


def test_a_study_without_any_run_gets_a_report(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="23 of 23 runs missing"):
        build_report(make_study(), [], make_manifest(), tmp_path)
    assert set(files(tmp_path)) == FILES


def test_generated_reviews_are_named_in_every_file(tmp_path: Path) -> None:
    data = {"source": "generated", "path": None, "reviews": {"train": 300, "val": 100, "test": 1000}, "generated_seed": 1}
    study = make_study(study="demo", title="Demo", data=data)
    build_report(study, make_records(study), make_manifest("generated"), tmp_path)
    for name, content in files(tmp_path).items():
        if not name.endswith(".png"):
            assert b"enerated reviews, not IMDb" in content, name
    assert b"<title>Demo (generated reviews, not IMDb)</title>" in files(tmp_path)["report.html"]


def test_the_articles_grid_is_reported_within_seconds(tmp_path: Path) -> None:
    study = load_study(PARAMS)
    records = make_records(study)
    start = time.process_time()
    build_report(study, records, make_manifest("hub"), tmp_path)
    assert len(records) == 20 + 576 + 5
    assert time.process_time() - start < 15
    assert files(tmp_path)["report.html"].count(b"<tr>") > 576


def test_neither_torch_nor_transformers_is_imported(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from report_records import make_manifest, make_records, make_study
from lora_replication.report.build import build_report
build_report(make_study(), make_records(make_study()), make_manifest(), Path({str(tmp_path)!r}))
print(sorted({{"torch", "transformers", "mlflow", "datasets"}} & set(sys.modules)))
"""
    done = subprocess.run(  # this Python, a program from above
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"
