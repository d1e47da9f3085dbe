"""Which test reviews each run predicts rightly, and what is known of these reviews."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_replication.data.manifest import read_test_reviews
from lora_replication.data.reviews import PartName, read_table
from lora_replication.errors import DataError
from lora_replication.files import readable
from lora_replication.record import PREDICTIONS, Record, Run, checked_file
from lora_replication.report.results import RunRow
from lora_replication.statistics import Components, Scores, crossed_components, scores
from lora_replication.statistics.scores import class_scores
from lora_replication.workspace import Workspace

RunName = tuple[str, str, int]

Answers = dict[int, NDArray[np.float64]]
"""By seed: (reviews,), 1 where right, 0 where wrong."""


def run_name(run: Run | RunRow) -> RunName:
    """Role, name and seed of a run."""
    return run.role, run.name, run.seed


@dataclass(frozen=True)
class Predictions:
    """Right and wrong test predictions, review by review.

    Attributes:
        right: (reviews,) of bool by role, name and seed; runs without predictions are absent.
        scores: of the same runs.
        movies: (reviews,), the movie of each test review; None where the source names none.
        unseen_movie: (reviews,) of bool, no training review is of the same movie; None likewise.
        repeated: (reviews,) of bool, the text occurs anywhere else in the study.
        cells: (validation reviews,) of bool by name of the grid's configurations, like ``right``.
        tests: like ``right``, of every run that was tested, by its key.
        unseen_majority: share of the more frequent class among reviews of unseen movies.
    """

    right: Mapping[RunName, NDArray[np.bool_]] = field(default_factory=dict)
    scores: Mapping[RunName, Scores] = field(default_factory=dict)
    movies: NDArray[np.str_] | None = None
    unseen_movie: NDArray[np.bool_] | None = None
    repeated: NDArray[np.bool_] | None = None
    cells: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    tests: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    unseen_majority: float | None = None

    def answers(self, runs: Iterable[RunRow], diverged: float | None = None) -> Answers:
        """Of ``runs``; diverged ones are right with chance ``diverged`` each time, or left out."""
        found: Answers = {}
        reviews = next((len(one) for one in self.right.values()), 0)
        for run in runs:
            if run.status == "diverged" and diverged is not None and reviews:
                found[run.seed] = np.full(reviews, diverged)
            elif run.test and run_name(run) in self.right:
                found[run.seed] = self.right[run_name(run)].astype(np.float64)
        return found

    def between(self, first: Answers, second: Answers) -> Components | None:
        """Of the second's answers minus the first's on shared seeds; None where they share none."""
        table = [second[seed] - first[seed] for seed in first if seed in second]
        return crossed_components(table, self.movies) if table else None


def read_predictions(workspace: Workspace, records: Iterable[Record]) -> Predictions:
    """Read the predictions next to the ``records``: all on test, the grid on validation too.

    Raises:
        DataError: predictions contradict their record, or the file of test reviews is not the one
            that the manifest vouches for.
    """
    right: dict[RunName, NDArray[np.bool_]] = {}
    measured: dict[RunName, Scores] = {}
    cells: dict[str, NDArray[np.bool_]] = {}
    tests: dict[str, NDArray[np.bool_]] = {}
    labels = np.array([])
    for record in records:
        asked, file = record.asked, workspace.folder(record.asked) / PREDICTIONS
        if not record.happened.test or not file.is_file():
            continue
        columns, name = read_columns(file, record), run_name(asked)
        tests[asked.key] = right_answers(columns, file, record, "test")
        labels = columns[2][columns[0] == "test"]
        if asked.role == "cell":
            cells[asked.name] = right_answers(columns, file, record, "val")
        elif not asked.nudge:
            right[name], measured[name] = tests[asked.key], _scores(columns)
    reviews = read_test_reviews(workspace.data, workspace.manifest)
    movies, unseen = (reviews[name].to_pylist() for name in ("movie", "unseen_movie"))
    known = None not in movies and None not in unseen
    unseen_movie = np.array(unseen, dtype=np.bool_) if known else None
    of_unseen = labels[unseen_movie] if known and tests else labels[:0]
    return Predictions(
        right,
        measured,
        movies=np.array(movies, dtype=np.str_) if known else None,
        unseen_movie=unseen_movie,
        unseen_majority=0.5 + abs(of_unseen.mean() - 0.5) if len(of_unseen) else None,
        repeated=np.array(reviews["repeated"].to_pylist(), dtype=np.bool_),
        cells=cells,
        tests=tests,
    )


def read_columns(file: Path, record: Record) -> tuple[NDArray[Any], ...]:
    """Split, row, label and the logits of the predictions in ``file``, next to ``record``.

    Raises ``DataError`` where they are altered, or no finite numbers.
    """
    import pyarrow as pa

    logits = [f"logit_{label}" for label, _ in enumerate(record.asked.settings.classes)]
    columns = ["split", "row", "label", *logits]
    remedy = "delete the run's folder to run it again"
    with readable(file, remedy, KeyError, ValueError, pa.ArrowException):
        table = read_table(checked_file(file.parent, record, PREDICTIONS), columns)
        numbers = [table[name].cast(pa.float64()).to_numpy() for name in columns[1:]]
        if not np.isfinite(numbers).all():
            raise ValueError("not all of its numbers are finite")
        return table["split"].to_numpy(), *numbers


def right_answers(
    columns: Sequence[NDArray[Any]], file: Path, record: Record, part: PartName
) -> NDArray[np.bool_]:
    """Which reviews of ``part`` are right, by the ``columns`` of ``file``; ``DataError`` where
    ``record`` counts otherwise.
    """
    split, rows, labels, *logits = columns
    chosen = split == part
    right: NDArray[np.bool_] = (np.argmax(logits, axis=0) == labels)[chosen]
    counted = getattr(record.happened, part)
    expected = (counted.correct, counted.reviews) if counted else (0, 0)
    whole = np.array_equal(rows[chosen], np.arange(expected[1]))
    if not whole or (int(right.sum()), len(right)) != expected:
        name = {"val": "validation"}.get(part, part)
        raise DataError(
            f"{file}: {int(right.sum())} of {len(right)} {name} reviews right, its record says "
            f"{expected[0]} of {expected[1]}; delete the run's folder to run it again"
        )
    return right


def _scores(columns: Sequence[NDArray[Any]]) -> Scores:
    split, _, labels, *logits = columns
    tested, val = split == "test", split == "val"
    if len(logits) > 2:
        return class_scores(np.array(logits).T[tested], labels[tested].astype(int))
    margins = logits[1] - logits[0]
    return scores(margins[tested], labels[tested], margins[val], labels[val])
