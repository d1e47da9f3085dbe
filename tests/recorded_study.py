"""A study as files, each number of which a test recomputes; and what they say, as plain lists."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lora_replication.record import Count, Record
from lora_replication.report.build import build_report
from lora_replication.report.predictions import Predictions
from lora_replication.workspace import Workspace
from tests.report_records import (
    SMALL_GRID,
    altered,
    article_study,
    diverged,
    make_fresh,
    make_records,
    make_workspace,
    write_study,
)

ACCURACY = {
    "last_layers": 0.80,
    "lora_default": 0.87,
    "lora_tuned": 0.90,
    "full": 0.905,
    "grid_winner": 0.9,
}
TESTS = 240


def write_recorded_study(root: Path) -> None:
    """The article's study with a smaller grid and test set, and its report in ``report``."""
    grid = SMALL_GRID | {"runners_up": 2}
    workspace = make_workspace(article_study(grid=grid), root)
    chance = np.random.default_rng(4)
    hard = chance.random(TESTS)
    right = {}
    records = []
    for record in _records(workspace):
        asked = record.asked
        if asked.role != "cell" and record.happened.test:
            limit = ACCURACY.get(asked.name, 0.88) - 0.1
            known = 0.7 * hard + 0.3 * chance.random(TESTS) < limit
            right[asked.role, asked.name, asked.seed] = known
            test = Count(correct=int(known.sum()), reviews=TESTS, ones=TESTS // 2)
            records.append(altered(record, test=test))
        else:
            records.append(record)
    movies = np.array([f"tt{movie}" for movie in chance.integers(150, size=TESTS)])
    unseen, repeated = chance.random(TESTS) < 0.3, chance.random(TESTS) < 0.1
    write_study(workspace, records, Predictions(right, {}, movies, unseen, repeated))
    (root / "params.json").write_text(workspace.study.model_dump_json())
    build_report(Workspace(workspace.study, root), root / "report")


def _records(workspace: Workspace) -> list[Record]:
    """One run of a method and a configuration have diverged, and a run has collapsed."""
    records = [r for r in make_records(workspace) if r.asked.role in ("method", "cell")]
    records[6] = diverged(records[6])
    records[12] = altered(records[12], one_class=True)
    records[22] = diverged(records[22])
    return records + make_fresh(workspace, records)


class Facts:
    """What the files say, as plain lists and dicts."""

    def __init__(self, root: Path) -> None:
        runs = root / "runs" / "article"
        self.records = [json.loads(file.read_text()) for file in sorted(runs.rglob("record.json"))]
        self.results = json.loads((root / "report/results.json").read_text())
        self.table = list(csv.DictReader((root / "report/table.csv").read_text().splitlines()))
        self.manifest = json.loads((root / "data/article/manifest.json").read_text())
        self.params = json.loads((root / "params.json").read_text())
        self.right: dict[tuple[str, int], list[float]] = {}
        self.logits: dict[tuple[str, int], list[tuple[float, int]]] = {}
        for file in runs.rglob("predictions.parquet"):
            rows = pq.read_table(file).to_pylist()
            name = (file.parent.parent.name, int(file.parent.name[5:]))
            margins = [(row["logit_1"] - row["logit_0"], row["label"]) for row in rows]
            self.right[name] = [float((m > 0) == (label == 1)) for m, label in margins]
            self.logits[name] = margins
        reviews = pq.read_table(root / "data/article/test_reviews.parquet").to_pylist()
        self.movies = [row["movie"] for row in reviews]
        self.unseen = [row["unseen_movie"] for row in reviews]
        self.unique = [not row["repeated"] for row in reviews]

    def accuracies(self, name: str, part: str) -> dict[int, float]:
        """By seed, of the runs that have one."""
        counts = {r["asked"]["seed"]: r["happened"][part] for r in self.of(name)}
        return {s: count["correct"] / count["reviews"] for s, count in counts.items() if count}

    def of(self, name: str) -> list[dict[str, Any]]:
        """The records of a method, of the winner or of a runner-up, by seed."""
        mine = (r["asked"] for r in self.records)
        found = [
            record
            for record, asked in zip(self.records, mine, strict=True)
            if asked["name"] == name and asked["role"] != "cell"
        ]
        return sorted(found, key=lambda record: record["asked"]["seed"])
