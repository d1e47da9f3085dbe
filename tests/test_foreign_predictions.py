"""A folder of foreign predictions is compared as the project's own runs are, or refused."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lora_replication.compare.command import compare_recorded
from lora_replication.compare.foreign import DESCRIPTION, read_answers, read_foreign
from lora_replication.errors import DataError, ParameterError

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "reports" / "minilm-small" / "records"
LABELS = np.array([0, 1, 1, 0, 1, 0, 0])


def described(folder: Path, **changes: object) -> Path:
    content = {"name": "mine", "study": "minilm-small"} | changes
    (folder / DESCRIPTION).write_text(json.dumps(content))
    return folder


def table(**changes: object) -> pd.DataFrame:
    """All of ``LABELS`` right but the last, in reverse order, after a training row."""
    rows = np.arange(len(LABELS))
    columns = {"split": "test", "row": rows, "label": LABELS, "score_0": 1 - LABELS * 1.5}
    made = pd.DataFrame(columns | {"score_1": [0.5] * 6 + [2.0]} | changes)
    train = made.head(1).assign(split="train", score_0=np.nan)
    return pd.concat([train, made[::-1]])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_the_projects_own_predictions_in_this_form_give_its_own_numbers(tmp_path, kind) -> None:
    described(tmp_path)
    for seed in range(3, 8):
        own = pd.read_parquet(RECORDS / f"full/seed-{seed}/predictions.parquet")
        own = own.rename(columns={"logit_0": "score_0", "logit_1": "score_1"}).sample(frac=1)
        write = own.to_csv if kind == "csv" else own.to_parquet
        write(tmp_path / f"seed-{seed}.{kind}", index=False)
    found = compare_recorded("lora_default", str(tmp_path), "minilm-small", None, ROOT)
    assert found.names == ("LoRA default", "mine")
    assert found.seeds == (list(range(3, 13)), list(range(3, 8)))
    results = json.loads((ROOT / "reports/minilm-small/results.json").read_bytes())
    pair = next(p for p in results["comparisons"]
                if (p["first"], p["second"]) == ("lora_default", "full"))  # fmt: skip
    expected = np.mean(pair["differences"][:5])
    assert found.decision.difference.estimate == pytest.approx(expected)
    assert (found.decision.seeds, found.decision.clusters) == (5, 870)


def test_a_table_by_hand_in_any_order(tmp_path) -> None:
    table().to_csv(tmp_path / "seed-1.csv", index=False)
    assert read_answers(tmp_path / "seed-1.csv", LABELS).tolist() == [1, 1, 1, 1, 1, 1, 0]
    table(score_0=0.5, score_1=0.5).to_csv(tmp_path / "seed-1.csv", index=False)
    assert read_answers(tmp_path / "seed-1.csv", LABELS).tolist() == (1.0 - LABELS).tolist()


NAN = np.nan


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (table()[:-2], "test rows 0, 1: missing; allowed: each test review once"),
        (table(row=[0, 1, 2, 3, 3, 5, 1]), "test rows 1, 3: there twice; allowed: once each"),
        (table(row=np.arange(7) + 6), "test rows 7, 8, 9, 10, 11 and 1 more: allowed: 0 to 6"),
        (table(row=[0.5, 1, 2, 3, 4, 5, 6]), "test rows 0.5: allowed: 0 to 6"),
        (table(row=[NAN, 1, 2, 3, 4, 5, 6]), "test rows nan: allowed: 0 to 6"),
        (table(label=LABELS[::-1]), "test rows 1, 5: label is not the study's; allowed: the"),
        (table(label=[NAN, *LABELS[1:]]), "test rows 0: label is not the study's"),
        (table(score_1=[NAN, 1, 1, 1, np.inf, 1, 1]),
         "test rows 0, 4: score_1 is not a finite number"),
        (table(split="Test"), "split is 'Test'; allowed: train, val, test"),
        (table(score_0="high"), "can't be read"),
        (table().drop(columns="score_1"),
         "can't be read .*; allowed: a table of split, row, label,"),
    ],
)  # fmt: skip
def test_a_table_that_is_not_whole_is_refused_with_its_first_rows(
    tmp_path, made, message, kind
) -> None:
    file = tmp_path / f"seed-1.{kind}"
    (made.to_csv if kind == "csv" else made.to_parquet)(file, index=False)
    with pytest.raises(DataError, match=rf"seed-1\.{kind}: {message}"):
        read_answers(file, LABELS)


@pytest.mark.parametrize("content", [None, b"", b"\x00\xff" * 40, b"split,row\n1\n"])
def test_what_is_no_table_is_refused(tmp_path, content) -> None:
    if content is not None:
        (tmp_path / "seed-1.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"seed-1\.csv: can't be read"):
        read_answers(tmp_path / "seed-1.csv", LABELS)


@pytest.mark.parametrize(
    ("changes", "files", "error", "message"),
    [
        ({"name": ""}, [], DataError, r"predictions\.json: name: .*; allowed: \{\"name\""),
        ({"name": "a\nb"}, [], DataError, r"predictions\.json: name: "),
        ({"more": 1}, [], DataError, r"predictions\.json: more: "),
        ({"study": "none"}, [], ParameterError, "'none' is neither a study"),
        ({}, [], DataError, r"has no table; allowed: one seed-<k>\.csv or seed-<k>\.parquet"),
        ({}, ["seed-x.csv"], DataError, "has no table"),
        ({}, ["seed-1.csv", "seed-1.parquet"], DataError, r"has seed-1\.csv, seed-1\.parquet; all"),
    ],
)
def test_a_folder_that_is_not_as_it_must_be_is_refused(
    tmp_path, changes, files, error, message
) -> None:
    described(tmp_path, **changes)
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(error, match=message):
        read_foreign(tmp_path, ROOT)
