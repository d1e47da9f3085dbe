"""A study as files, each number of which a test computes again; and what the files say."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lora_replication.report.build import build_report
from lora_replication.workspace import Workspace
from tests import report_records as made


def write_recorded_study(root: Path) -> None:
    """The article's study with a smaller grid and test set, and its report in ``report``: one run
    of a method and a configuration have diverged, and a run has collapsed.
    """
    workspace = made.make_workspace(
        made.article_study(grid=made.SMALL_GRID | {"runners_up": 2}), root
    )
    records = [r for r in made.make_records(workspace) if r.asked.role in ("method", "cell")]
    records[6] = made.diverged(records[6])
    records[12] = made.altered(records[12], one_class=True)
    records[22] = made.diverged(records[22])
    records += made.make_fresh(workspace, records)
    made.write_study(workspace, records, made.make_predictions(records))
    (root / "params.json").write_text(workspace.study.model_dump_json())
    build_report(Workspace(workspace.study, root), root / "report")


class Facts:
    """What the files say, as plain values and arrays."""

    def __init__(self, root: Path) -> None:
        runs = root / "runs" / "article"
        self.records = [json.loads(file.read_text()) for file in sorted(runs.rglob("record.json"))]
        self.results = json.loads((root / "report/results.json").read_text())
        self.table = list(csv.DictReader((root / "report/table.csv").read_text().splitlines()))
        self.manifest = json.loads((root / "data/article/manifest.json").read_text())
        self.params = json.loads((root / "params.json").read_text())
        self.reviews = pq.read_table(root / "data/article/test_reviews.parquet").to_pandas()
        self.margins: dict[tuple[str, int], np.ndarray] = {}
        self.right: dict[tuple[str, int], np.ndarray] = {}
        for file in runs.rglob("predictions.parquet"):
            rows = pq.read_table(file).to_pandas()
            name = (file.parent.parent.name, int(file.parent.name[5:]))
            self.labels = rows["label"].to_numpy()
            self.margins[name] = (rows["logit_1"] - rows["logit_0"]).to_numpy()
            self.right[name] = 1.0 * ((self.margins[name] > 0) == (self.labels == 1))
        cells = [record for record in self.records if record["asked"]["role"] == "cell"]
        self.ranked_cells = sorted(cells, key=_rank)

    def accuracies(self, name: str, part: str = "test") -> dict[int, float]:
        """By seed, of the runs that have one."""
        counts = {r["asked"]["seed"]: r["happened"][part] for r in self.of(name)}
        return {s: count["correct"] / count["reviews"] for s, count in counts.items() if count}

    def of(self, name: str) -> list[dict[str, Any]]:
        """The records of a method, of the winner or of a runner-up, by seed."""
        asked = [(r["asked"]["seed"], r) for r in self.records if r["asked"]["name"] == name]
        found = [pair for pair in asked if pair[1]["asked"]["role"] != "cell"]
        return [record for _, record in sorted(found, key=lambda pair: pair[0])]

    def differences(self, first: str, second: str) -> np.ndarray:
        """(seeds, reviews) the second's right answers minus the first's, of shared seeds."""
        shared = [seed for seed in self.accuracies(first) if seed in self.accuracies(second)]
        return np.array([self.right[second, s] - self.right[first, s] for s in shared])


def _rank(cell: dict[str, Any]) -> tuple[int, int]:
    happened = cell["happened"]
    val = happened["val"]
    return -val["correct"] if val else 1, happened["trainable_parameters"]


def is_tuned(cell: dict[str, Any]) -> bool:
    """Whether it is the article's choice."""
    lora = cell["asked"]["settings"]["lora"]
    found = (lora["rank"], lora["alpha"], sorted(lora["targets"]))
    return found == (8, 1, ["mlp", "query", "value"])
