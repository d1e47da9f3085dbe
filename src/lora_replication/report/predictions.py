"""Which test reviews each run predicts rightly, and what is known of these reviews."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lora_replication.data.manifest import read_test_reviews
from lora_replication.data.reviews import read_table
from lora_replication.errors import DataError
from lora_replication.record import PREDICTIONS, Record
from lora_replication.statistics import Scores, scores
from lora_replication.workspace import Workspace

RunName = tuple[str, str, int]
"""Role, name and seed of a run."""


@dataclass(frozen=True)
class Predictions:
    """Right and wrong test predictions, review by review.

    Attributes:
        right: (reviews,) of bool by role, name and seed; runs without predictions are absent.
        scores: of the same runs.
        movies: (reviews,), the movie of each test review; None where the source names none.
        unseen_movie: (reviews,) of bool, no training review is of the same movie; None likewise.
        repeated: (reviews,) of bool, the text occurs anywhere else in the study.
    """

    right: Mapping[RunName, NDArray[np.bool_]] = field(default_factory=dict)
    scores: Mapping[RunName, Scores] = field(default_factory=dict)
    movies: NDArray[np.str_] | None = None
    unseen_movie: NDArray[np.bool_] | None = None
    repeated: NDArray[np.bool_] | None = None


def read_predictions(workspace: Workspace, records: Iterable[Record]) -> Predictions:
    """Read the predictions next to the ``records``, the grid's configurations aside.

    Raises:
        DataError: predictions contradict their record, or the file of test reviews is not the one
            that the manifest vouches for.
    """
    right: dict[RunName, NDArray[np.bool_]] = {}
    measured: dict[RunName, Scores] = {}
    for record in records:
        asked, file = record.asked, workspace.folder(record.asked) / PREDICTIONS
        if asked.role != "cell" and record.happened.test and file.is_file():
            name = (asked.role, asked.name, asked.seed)
            right[name], measured[name] = _read(file, record)
    reviews = read_test_reviews(workspace.data, workspace.manifest)
    movies, unseen = (reviews[name].to_pylist() for name in ("movie", "unseen_movie"))
    known = None not in movies and None not in unseen
    return Predictions(
        right,
        measured,
        movies=np.array(movies, dtype=np.str_) if known else None,
        unseen_movie=np.array(unseen, dtype=np.bool_) if known else None,
        repeated=np.array(reviews["repeated"].to_pylist(), dtype=np.bool_),
    )


def _read(file: Path, record: Record) -> tuple[NDArray[np.bool_], Scores]:
    import pyarrow as pa

    columns = ["split", "row", "label", "logit_0", "logit_1"]
    try:
        table = read_table(file, columns)
    except (OSError, KeyError, pa.ArrowException) as problem:
        raise DataError(
            f"{file}: can't be read ({problem}); delete the run's folder to run it again"
        ) from None
    split, rows, labels, zeros, ones = (table[name].to_numpy() for name in columns)
    tested, val = split == "test", split == "val"
    margins = ones.astype(np.float64) - zeros
    right = np.asarray((margins > 0) == (labels == 1))[tested]
    counted = record.happened.test
    expected = (counted.correct, counted.reviews) if counted else (0, 0)
    whole = np.array_equal(rows[tested], np.arange(expected[1]))
    if not whole or (int(right.sum()), len(right)) != expected:
        raise DataError(
            f"{file}: {int(right.sum())} of {len(right)} test reviews right, its record says "
            f"{expected[0]} of {expected[1]}; delete the run's folder to run it again"
        )
    return right, scores(margins[tested], labels[tested], margins[val], labels[val])
