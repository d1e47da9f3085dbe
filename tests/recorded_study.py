"""A study as files, each number of which a test recomputes: records, predictions and reviews; and
what they say, as plain lists.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from report_records import PARAMS, altered, diverged, make_beside, make_manifest, make_records

from lora_replication.data.manifest import reviews_file
from lora_replication.reading import check_study, merge_files
from lora_replication.files import file_digest
from lora_replication.record import Count, Record, read_records, run_folder, write_record
from lora_replication.report.answers import read_answers
from lora_replication.report.build import build_report
from lora_replication.study import Study

ACCURACY = {
    "last_layers": 0.80,
    "lora_default": 0.87,
    "lora_tuned": 0.90,
    "full": 0.905,
    "grid_winner": 0.9,
}
TESTS, DRAWS = 240, 120


def write_study(root: Path) -> None:
    """The article's study with a smaller grid and test set: reviews, predictions and records as
    files, and its report in ``report``.
    """
    content: dict[str, Any] = merge_files(PARAMS)
    content["grid"] |= {
        "alpha": [1, 16],
        "rank": [2, 8],
        "key": [False],
        "projection": [False],
        "head": [False],
        "runners_up": 2,
    }
    content["report"] |= {"bootstrap_draws": DRAWS, "bootstrap_seed": 3}
    study = check_study(content)
    chance = np.random.default_rng(4)
    labels, hard = chance.integers(2, size=TESTS).tolist(), chance.random(TESTS).tolist()
    for record in _records(study):
        asked = record.asked
        folder = run_folder("article", asked.role, asked.name, asked.seed, root)
        if asked.role != "cell" and record.happened.test:
            right = [
                0.7 * hard[row] + 0.3 * chance.random() < ACCURACY.get(asked.name, 0.88) - 0.1
                for row in range(TESTS)
            ]
            ones = [
                chance.uniform(0.1, 3) * (1 if (label == 1) == ok else -1)
                for label, ok in zip(labels, right, strict=True)
            ]
            table = {
                "split": ["test"] * TESTS,
                "row": range(TESTS),
                "label": labels,
                "logit_0": [0.0] * TESTS,
                "logit_1": ones,
            }
            folder.mkdir(parents=True)
            pq.write_table(pa.table(table), folder / "predictions.parquet")
            counted = altered(
                record,
                test=Count(correct=sum(right), reviews=TESTS, ones=sum(one > 0 for one in ones)),
            )
            write_record(counted, folder)
        else:
            write_record(record, folder)
    manifest = make_manifest()
    parts = {}
    for part, size in (("train", 400), ("val", 50), ("test", TESTS)):
        texts = [
            f"{part} {row}" if chance.random() < 0.9 else f"again {chance.integers(30)}"
            for row in range(size)
        ]
        movies = [f"tt{chance.integers(90 if part == 'test' else 70)}" for _ in range(size)]
        (root / "data").mkdir(exist_ok=True)
        pq.write_table(
            pa.table({"text": texts, "movie": movies}), reviews_file(root / "data", part)
        )
        digest = file_digest(reviews_file(root / "data", part))
        parts[part] = manifest.parts[part].model_copy(
            update={"reviews": size, "reviews_sha256": digest}
        )
    manifest = manifest.model_copy(update={"parts": parts})
    (root / "manifest.json").write_text(manifest.model_dump_json())
    (root / "params.json").write_text(study.model_dump_json())
    records = [record for _, record in read_records("article", root)]
    answers = read_answers(study, records, manifest, root / "data", root)
    build_report(study, records, manifest, root / "report", answers=answers)


def _records(study: Study) -> list[Record]:
    """Records in which a run has diverged, one answers one class, and a configuration has
    diverged.
    """
    records = [record for record in make_records(study) if record.asked.role != "runner_up"]
    records[6] = diverged(records[6])
    records[12] = altered(records[12], one_class=True)
    records[22] = diverged(records[22])
    return records + make_beside(study, records)


class Facts:
    """What the files say, as plain lists and dicts."""

    def __init__(self, root: Path) -> None:
        self.records = [
            json.loads(file.read_text()) for file in sorted((root / "article").rglob("record.json"))
        ]
        self.results = json.loads((root / "report/results.json").read_text())
        self.table = list(csv.DictReader((root / "report/table.csv").read_text().splitlines()))
        self.manifest = json.loads((root / "manifest.json").read_text())
        self.params = json.loads((root / "params.json").read_text())
        self.right = {}
        for file in (root / "article").rglob("predictions.parquet"):
            rows = pq.read_table(file).to_pylist()
            self.right[file.parent.parent.name, int(file.parent.name[5:])] = [
                (row["logit_1"] > row["logit_0"]) == bool(row["label"]) for row in rows
            ]
        reviews = {
            part: pq.read_table(reviews_file(root / "data", part)).to_pylist()
            for part in ("train", "val", "test")
        }
        texts = [row["text"] for part in reviews.values() for row in part]
        self.movies = [row["movie"] for row in reviews["test"]]
        self.unseen = [
            movie not in {row["movie"] for row in reviews["train"]} for movie in self.movies
        ]
        self.unique = [texts.count(row["text"]) == 1 for row in reviews["test"]]

    def accuracies(self, name: str, part: str) -> dict[int, float]:
        """By seed, of the runs that have one."""
        counts = {r["asked"]["seed"]: r["happened"][part] for r in self.of(name)}
        return {
            seed: count["correct"] / count["reviews"] for seed, count in counts.items() if count
        }

    def of(self, name: str) -> list[dict[str, Any]]:
        """The records of a method, of the winner or of a configuration beside it, by seed."""
        mine = (
            r for r in self.records if r["asked"]["name"] == name and r["asked"]["role"] != "cell"
        )
        return sorted(mine, key=lambda r: r["asked"]["seed"])
