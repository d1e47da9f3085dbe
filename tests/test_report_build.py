"""The whole report, from records on disk to files."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from report_records import PARAMS, altered, make_manifest, make_records, make_study, through_disk

from lora_replication.errors import IncompleteError
from lora_replication.reading import load_study
from lora_replication.report.build import build_report

DRAWN = ("accuracy_by_method", "learning_curves")
DRAWN_WITH_RUNS = (
    "accuracy_by_parameters",
    "paired_differences",
    "grid_heatmaps",
    "grid_validation_against_test",
    "grid_collapse",
)
TEXTS = {
    "learning_curves.csv",
    "metrics.json",
    "report.html",
    "report.md",
    "results.json",
    "table.csv",
    "table.tex",
    "citation.bib",
    "verdicts.json",
}
FILES_WITHOUT_RUNS = TEXTS | {f"figures/{name}.{kind}" for name in DRAWN for kind in ("png", "svg")}
FILES = FILES_WITHOUT_RUNS | {
    f"figures/{name}.{kind}" for name in DRAWN_WITH_RUNS for kind in ("png", "svg")
}


def files(folder: Path) -> dict[str, bytes]:
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    study = make_study()
    records = through_disk(study, make_records(study), tmp_path / "runs")
    build_report(study, records, make_manifest(), tmp_path / "one")
    build_report(study, records[::-1], make_manifest(), tmp_path / "two")
    assert set(files(tmp_path / "one")) == FILES
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.fault(29)
def test_an_incomplete_study_is_refused_and_what_was_written_before_stays(tmp_path: Path) -> None:
    study = make_study()
    records = make_records(study)
    build_report(study, records, make_manifest(), tmp_path)
    before = files(tmp_path)
    records[3] = altered(records[3], status="failed", error="out of memory")
    with pytest.raises(
        IncompleteError,
        match=r"no report is written, because 2 of 23 runs are missing: last_layers seed 1 .not run., lora_default seed 1 .failed: out of "
        r"memory.; .*lora-replication report minilm-small --allow-partial",
    ) as told:
        build_report(study, records[1:], make_manifest(), tmp_path)
    assert told.value.exit_code == 5
    assert files(tmp_path) == before


def test_a_partial_report_says_how_many_of_how_many_everywhere(tmp_path: Path) -> None:
    study = make_study()
    records = make_records(study)
    records[3] = altered(records[3], status="failed", error="out of memory")
    left = [
        record for place, record in enumerate(records) if place not in (0, 14, 22)
    ]  # without a method's run, a cell, a winner's run
    build_report(study, left, make_manifest(), tmp_path, allow_partial=True)
    written = files(tmp_path)
    assert set(written) == FILES
    for name in ("report.md", "report.html"):
        text = written[name].decode().replace("\u00a0", " ")
        assert "Incomplete: 19 of 23 runs have a result." in text
        assert "lora_default seed 1 (failed: out of memory)" in text
        assert "7 of 8 configurations done" in text
        assert "No winner is named while 1 configuration is missing." in text
        for told in (
            "last_layers n = 2 of 3",
            "lora_tuned n = 3,",
            "n = 7 of 8 configurations",
            "right, 7 of 8 configurations",
        ):
            assert told in text, told
        assert "n = 2 of 3, 2 of 3, 2 of 3, 2 of 3, 2 of 3, 3 from top to bottom" in text
    assert "4 of 23 runs are missing" in written["table.tex"].decode()
    table = list(csv.DictReader(written["table.csv"].decode().splitlines()))
    assert [(row["runs_done"], row["runs_asked"]) for row in table] == [
        ("2", "3"),
        ("2", "3"),
        ("3", "3"),
        ("3", "3"),
        ("2", "3"),
    ]
    results, verdicts, metrics = (
        json.loads(written[f"{name}.json"]) for name in ("results", "verdicts", "metrics")
    )
    assert (results["complete"], len(results["missing"]), results["runs_asked"]) == (False, 4, 23)
    assert (verdicts["runs_missing"], verdicts["runs_asked"], metrics["missing_runs"]) == (4, 23, 4)


def test_a_study_without_any_run_gets_a_report_where_asked_for(tmp_path: Path) -> None:
    with pytest.raises(IncompleteError, match="23 of 23 runs are missing"):
        build_report(make_study(), [], make_manifest(), tmp_path)
    assert files(tmp_path) == {}
    build_report(make_study(), [], make_manifest(), tmp_path, allow_partial=True)
    assert set(files(tmp_path)) == FILES_WITHOUT_RUNS


def test_generated_reviews_are_named_in_every_file(tmp_path: Path) -> None:
    data = {
        "source": "generated",
        "path": None,
        "reviews": {"train": 300, "val": 100, "test": 1000},
        "generated_seed": 1,
    }
    study = make_study(study="demo", title="Demo", data=data)
    build_report(study, make_records(study), make_manifest("generated"), tmp_path)
    for name, content in files(tmp_path).items():
        if not name.endswith((".png", ".bib")):
            assert b"enerated reviews, not IMDb" in content, name
    assert b"<title>Demo (generated reviews, not IMDb)</title>" in files(tmp_path)["report.html"]


def test_the_articles_grid_is_reported_within_seconds(tmp_path: Path) -> None:
    study = load_study(PARAMS)
    records = make_records(study)
    start = time.process_time()
    build_report(study, records, make_manifest("hub"), tmp_path)
    assert (
        len(records) == 20 + 576 + 5 + 3 * 5
    )  # methods, grid, its winner and three configurations beside it
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
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_fifty_runs_with_ten_thousand_answers_each_and_the_whole_grid_within_half_a_minute_and_two_gibibytes(
    tmp_path: Path,
) -> None:
    """In a process of its own, from files: 4 methods, the winner and three beside it with 10 seeds
    each, 576 configurations.
    """
    program = f"""
import sys, time
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from report_records import PARAMS, altered, count, make_manifest, make_records
from lora_replication.data.manifest import reviews_file
from lora_replication.machine import peak_memory_bytes
from lora_replication.reading import check_study, merge_files
from lora_replication.files import file_digest
from lora_replication.record import read_records, run_folder, write_record
from lora_replication.report.answers import read_answers
from lora_replication.report.build import build_report
root = Path({str(tmp_path)!r})
content = merge_files(PARAMS)
content["run"]["seeds"] = list(range(1, 11))
content["grid"]["winner_seeds"] = list(range(101, 111))
study = check_study(content)
generator = np.random.default_rng(1)
labels = generator.integers(2, size=10_000).astype(np.int8)
for record in make_records(study):
    folder = run_folder("article", record.asked.role, record.asked.name, record.asked.seed, root)
    if record.asked.role != "cell":
        ones = generator.normal(2 * labels - 1.0, 0.8).astype(np.float32)
        table = dict(split=["test"] * 10_000, row=np.arange(10_000, dtype=np.int32), label=labels, logit_0=-ones, logit_1=ones)
        folder.mkdir(parents=True)
        pq.write_table(pa.table(table), folder / "predictions.parquet")
        record = altered(record, test=count(int(((ones > 0) == (labels == 1)).sum()), 10_000))
    write_record(record, folder)
parts = {{}}
manifest = make_manifest("archive")
for part, size in (("train", 35_000), ("val", 5_000), ("test", 10_000)):
    texts = [f"{{part}} {{number}} " + "word " * 200 for number in range(size)]
    (root / "data").mkdir(exist_ok=True)
    movies = [f"tt{{number}}" for number in generator.integers(12_000, size=size)]
    pq.write_table(pa.table(dict(text=texts, label=[0] * size, review=texts, movie=movies)), reviews_file(root / "data", part))
    parts[part] = manifest.parts[part].model_copy(update=dict(reviews_sha256=file_digest(reviews_file(root / "data", part)), reviews=size))
manifest = manifest.model_copy(update=dict(parts=parts))
started = time.perf_counter()
records = [record for _, record in read_records("article", root)]
answers = read_answers(study, records, manifest, root / "data", root)
build_report(study, records, manifest, root / "report", answers=answers)
peak = peak_memory_bytes("cpu") / 2**30
print(len(records), len(answers.right), time.perf_counter() - started, peak, "torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(
                [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
            ),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    records, answered, seconds, gibibytes, torch = done.stdout.split()
    assert (int(records), int(answered), torch) == (576 + 80, 80, "False")
    assert float(seconds) < 30, seconds
    assert float(gibibytes) < 2, gibibytes
