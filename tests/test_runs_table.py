"""``runs.parquet`` and ``load_runs``."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from lora_replication import load_runs
from lora_replication.errors import DataError
from lora_replication.record import PREDICTIONS, read_records
from lora_replication.report.runs_table import RUNS, fields
from tests.recorded_study import write_recorded_study

ROOT = Path(__file__).resolve().parents[1]
REPORT = ROOT / "reports" / "minilm-small"


def test_the_committed_table_has_every_run_and_every_answer_of_the_records() -> None:
    runs = load_runs("minilm-small").set_index("key")
    records = read_records(REPORT / "records")
    assert len(runs) == len(records) == 81
    for folder, record in records:
        row, asked, happened = runs.loc[record.asked.key], record.asked, record.happened
        assert (row["role"], row["name"], row["seed"]) == (asked.role, asked.name, asked.seed)
        assert json.loads(row["settings"]) == asked.settings.as_dict()
        losses = [epoch.val_loss for epoch in happened.epochs]
        assert row["epoch_val_loss"].tolist() == pytest.approx(losses, rel=1e-11)
        assert row["peak_memory_bytes"] == happened.peak_memory_bytes
        answers = pd.read_parquet(folder / PREDICTIONS).query("split == 'test'").sort_values("row")
        right = (answers["logit_1"] > answers["logit_0"]) == (answers["label"] == 1)
        assert np.array_equal(row["right"], right)
        assert row["right"].sum() == row["test_correct"] == happened.test.correct
    assert (REPORT / RUNS).stat().st_size < 2_000_000


def test_what_has_no_answer_is_null_and_a_path_is_read_too(tmp_path: Path) -> None:
    write_recorded_study(tmp_path)
    runs = load_runs(tmp_path / "report")
    gone = runs[runs["status"] == "diverged"]
    assert len(gone) == 2
    assert gone[["right", "test_correct", "best_epoch"]].isna().all(axis=None)
    assert load_runs(tmp_path / "report" / RUNS)["key"].tolist() == runs["key"].tolist()
    lora = runs[(runs["name"] == "lora_default") & (runs["seed"] == 1)].iloc[0]
    assert lora["lora_targets"].tolist() == ["query", "value"]
    assert (lora["lora_rank"], lora["lora_alpha"], lora["learning_rate"]) == (8, 16, 5e-5)


def test_every_column_says_in_the_file_and_in_docs_what_it_is() -> None:
    docs = (ROOT / "docs" / "usage.md").read_text("utf-8")
    schema = pq.read_schema(REPORT / RUNS)
    assert schema.names == fields()
    for field in schema:
        about = field.metadata[b"about"].decode()
        assert f"| `{field.name}` | {about} |" in docs
    assert b"not DistilBERT" in schema.metadata[b"title"]


@pytest.mark.parametrize("content", [None, b"", b"PAR1"])
def test_what_is_no_table_of_runs_is_refused(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / RUNS).write_bytes(content)
    with pytest.raises(DataError, match=r"runs\.parquet: can't be read .*; allowed: a study with"):
        load_runs(tmp_path)
    with pytest.raises(DataError, match="none: can't be read"):
        load_runs("none")
