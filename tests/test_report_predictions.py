"""Predictions and facts about the test reviews, read from their files and checked."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_replication.data.manifest import TEST_REVIEWS
from lora_replication.errors import DataError
from lora_replication.record import PREDICTIONS, Record
from lora_replication.report.predictions import Predictions, read_predictions
from lora_replication.workspace import Workspace
from tests import report_records as made

RIGHT = np.array([True, False, True, False])
MOVIES = np.array(["tt1", "tt3", "tt2", "tt3"])
NAME = ("method", "last_layers", 1)


def workspace_of(root: Path, record: Record, movies: np.ndarray | None = MOVIES) -> Workspace:
    workspace = made.make_workspace(made.make_study(), root)
    unseen = None if movies is None else ~RIGHT
    made.write_study(workspace, [record], Predictions({NAME: RIGHT}, {}, movies, unseen, RIGHT))
    return Workspace(workspace.study, root)


def one_run(correct: int = 2, reviews: int = 4) -> Record:
    record = made.make_records(made.make_workspace(made.make_study()))[0]
    return made.altered(record, test=made.count(correct, reviews))


def test_right_predictions_and_facts_or_their_absence(tmp_path: Path) -> None:
    tested = read_predictions(workspace_of(tmp_path / "all", one_run()), [one_run()])
    found = [tested.right[NAME], tested.movies, tested.unseen_movie, tested.repeated]
    assert [each.tolist() for each in found] == [x.tolist() for x in (RIGHT, MOVIES, ~RIGHT, RIGHT)]
    workspace = workspace_of(tmp_path / "none", one_run(), movies=None)
    (workspace.folder(one_run().asked) / PREDICTIONS).unlink()
    tested = read_predictions(workspace, [one_run()])
    assert (tested.right, tested.movies, tested.unseen_movie) == ({}, None, None)


def test_the_grids_configurations_are_read_on_validation(tmp_path: Path) -> None:
    records = made.make_records(made.make_workspace(made.make_study()))
    cell = next(record for record in records if record.asked.role == "cell")
    cell = made.altered(cell, val=made.count(1, 2), test=made.count(2, 4))
    workspace = workspace_of(tmp_path, cell)
    table = {
        "split": ["val"] * 2 + ["test"] * 4, "row": [0, 1, 0, 1, 2, 3], "label": [1, 0, 1, 0, 1, 0],
        "logit_0": [0.0] * 6, "logit_1": [1.0] * 6,
    }  # fmt: skip
    pq.write_table(pa.table(table), workspace.folder(cell.asked) / PREDICTIONS)
    tested = read_predictions(workspace, [cell])
    assert (tested.right, tested.unseen_majority) == ({}, 1.0)  # rows 1 and 3, both negative
    assert {name: one.tolist() for name, one in tested.cells.items()} == {
        cell.asked.name: [True, False]
    }
    with pytest.raises(DataError, match="1 of 2 validation reviews right, its record says 2 of 2"):
        read_predictions(workspace, [made.altered(cell, val=made.count(2, 2))])


def test_equal_logits_predict_0_and_other_parts_are_left_out(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, one_run())
    table = {
        "split": ["val", *["test"] * 4], "row": [0, 0, 1, 2, 3], "label": [1, 0, 1, 0, 0],
        "logit_0": [0.0, 0.5, 0.5, 0.0, 0.0], "logit_1": [1.0, 0.5, 0.5, -1.0, 1.0],
    }  # fmt: skip
    pq.write_table(pa.table(table), workspace.folder(one_run().asked) / PREDICTIONS)
    tested = read_predictions(workspace, [one_run()])
    assert tested.right[NAME].tolist() == [True, False, True, False]
    assert tested.unseen_majority == 0.5  # rows 1 and 3, one of each class


@pytest.mark.parametrize("wrong", [one_run(3), one_run(2, 5)])
def test_predictions_that_contradict_their_record_are_refused(tmp_path, wrong):
    expected = r"predictions\.parquet: 2 of 4 test reviews right, its record says"
    with pytest.raises(DataError, match=expected):
        read_predictions(workspace_of(tmp_path, wrong), [wrong])


def test_damaged_predictions_and_altered_reviews_are_refused(tmp_path: Path) -> None:
    workspace = workspace_of(tmp_path, one_run())
    file = workspace.folder(one_run().asked) / PREDICTIONS
    parts = pa.array([b"test\xff"] * 4).view(pa.string())  # no UTF-8
    pq.write_table(pq.read_table(file).set_column(0, "split", parts), file)
    with pytest.raises(DataError, match=r"predictions\.parquet: can't be read"):
        read_predictions(workspace, [one_run()])
    file.write_bytes(b"PAR1 but no more")
    with pytest.raises(DataError, match=r"predictions\.parquet: can't be read"):
        read_predictions(workspace, [one_run()])
    (workspace.data / TEST_REVIEWS).write_bytes(b"other")
    with pytest.raises(DataError, match="altered"):
        read_predictions(workspace, [])
