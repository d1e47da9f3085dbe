"""Answers from predictions, and facts about test reviews from the prepared data."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from report_records import altered, count, make_manifest, make_records, make_study

from lora_replication.data.manifest import Manifest, read_manifest, reviews_file
from lora_replication.errors import DataError
from lora_replication.files import file_digest
from lora_replication.record import Record, run_folder
from lora_replication.report.answers import read_answers
from lora_replication.report.comparisons import without_predictions

LABELS = [0, 0, 1, 1]
LOGITS = [
    (1.0, 0.0),
    (0.0, 1.0),
    (-2.0, 3.0),
    (0.5, 0.5),
]  # right, wrong, right, wrong: equal logits answer 0
TEXTS = {
    "train": [("same", "tt1"), ("other", "tt2")],
    "val": [("in val", "tt9")],
    "test": [("same", "tt1"), ("in val", "tt3"), ("alone", "tt2"), ("alone too", "tt3")],
}


def write_predictions(
    folder: Path, logits: list[tuple[float, float]] = LOGITS, labels: list[int] = LABELS
) -> None:
    zeros, ones = (np.array(column, dtype=np.float32) for column in zip(*logits, strict=True))
    table = {
        "split": ["test"] * len(labels),
        "row": np.arange(len(labels), dtype=np.int32),
        "label": np.array(labels, dtype=np.int8),
    }
    table |= {"logit_0": zeros, "logit_1": ones}
    validation = {"split": ["val"], "row": [0], "label": [1], "logit_0": [0.0], "logit_1": [1.0]}
    folder.mkdir(parents=True)
    whole = pa.concat_tables([pa.table(validation), pa.table(table)], promote_options="permissive")
    pq.write_table(whole, folder / "predictions.parquet")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for part, rows in TEXTS.items():
        texts, movies = zip(*rows, strict=True)
        pq.write_table(pa.table({"text": texts, "movie": movies}), reviews_file(tmp_path, part))
    return tmp_path


def manifest_of(data: Path) -> Manifest:
    manifest = make_manifest()
    parts = {
        part: one.model_copy(update={"reviews_sha256": file_digest(reviews_file(data, part))})
        for part, one in manifest.parts.items()
    }
    return manifest.model_copy(update={"parts": parts})


def one_run(correct: int = 2) -> Record:
    return altered(make_records(make_study())[0], test=count(correct, 4))


def test_right_answers_and_facts(data: Path) -> None:
    record = one_run()
    write_predictions(run_folder("minilm-small", "method", "last_layers", 1, data))
    answers = read_answers(make_study(), [record], manifest_of(data), data, data)
    assert answers.of(record).tolist() == [True, False, True, False]
    assert answers.movies.tolist() == ["tt1", "tt3", "tt2", "tt3"]
    assert answers.unseen_movie.tolist() == [False, True, False, True]
    assert answers.repeated.tolist() == [True, True, False, False]


def test_a_run_without_predictions_is_counted(data: Path) -> None:
    records = make_records(make_study())
    answers = read_answers(make_study(), records, manifest_of(data), data, data)
    assert answers.right == {}
    assert without_predictions(records, answers) == 15


@pytest.mark.parametrize("wrong", [one_run(3), altered(one_run(), test=count(2, 5))])
def test_predictions_that_contradict_their_record_are_refused(data: Path, wrong: Record) -> None:
    write_predictions(run_folder("minilm-small", "method", "last_layers", 1, data))
    with pytest.raises(
        DataError, match=r"predictions\.parquet: 2 of 4 test reviews right, its record says"
    ):
        read_answers(make_study(), [wrong], manifest_of(data), data, data)


def test_a_damaged_file_is_refused(data: Path) -> None:
    folder = run_folder("minilm-small", "method", "last_layers", 1, data)
    folder.mkdir(parents=True)
    (folder / "predictions.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"predictions\.parquet: can't be read"):
        read_answers(make_study(), [one_run()], manifest_of(data), data, data)


def test_reviews_without_movies(tiny_data: Path) -> None:
    folder = tiny_data / "data" / "tiny"
    answers = read_answers(make_study(), [], read_manifest(folder), folder, tiny_data)
    assert answers.movies is None
    assert answers.unseen_movie is None
    assert answers.repeated.shape == (24,)


def test_altered_reviews_are_refused(data: Path) -> None:
    manifest = manifest_of(data)
    reviews_file(data, "train").write_bytes(b"other")
    with pytest.raises(DataError, match="the file was altered"):
        read_answers(make_study(), [], manifest, data, data)
