"""The test answers of a study's runs, review by review, and what is known of the test reviews: from
predictions and the prepared data.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lora_replication.data.manifest import Manifest, read_reviews
from lora_replication.data.reviews import PARTS, PartName
from lora_replication.errors import DataError
from lora_replication.record import PREDICTIONS, Record, run_folder
from lora_replication.study import Study
from lora_replication.tables import read_table

if TYPE_CHECKING:
    import pyarrow as pa

RunName = tuple[str, str, int]
"""Role, name and seed of a run."""


@dataclass(frozen=True)
class Answers:
    """Which test reviews each run answers rightly, and facts about these reviews.

    Attributes:
        right: (reviews,) of bool by role, name and seed; runs without predictions are absent.
        movies: (reviews,), the movie of each test review; null where the source names none.
        unseen_movie: (reviews,) of bool, whether no training review is of the same movie; null
            likewise.
        repeated: (reviews,) of bool, whether the text stands anywhere else in the study; null where
            the data were not read.
    """

    right: Mapping[RunName, NDArray[np.bool_]] = field(default_factory=dict)
    movies: NDArray[np.str_] | None = None
    unseen_movie: NDArray[np.bool_] | None = None
    repeated: NDArray[np.bool_] | None = None

    def of(self, record: Record) -> NDArray[np.bool_] | None:
        """The right answers of the run of ``record``, or null where there are no predictions."""
        return self.right.get((record.asked.role, record.asked.name, record.asked.seed))


def read_answers(
    study: Study, records: Iterable[Record], manifest: Manifest, data: Path, runs: Path
) -> Answers:
    """Read the predictions of the methods' and the winner's runs, and the reviews in ``data``.

    Args:
        records: of the study; grid configurations are left unread.
        data: the study's prepared folder, ``data/<study>``.
        runs: the folder of all runs; the predictions stand in ``runs/<study>/...`` beside the
            records.

    Raises:
        DataError: predictions contradict their record, or the reviews are not those that
            ``manifest`` vouches for.
    """
    right: dict[RunName, NDArray[np.bool_]] = {}
    for record in records:
        asked = record.asked
        file = run_folder(study.study, asked.role, asked.name, asked.seed, runs) / PREDICTIONS
        if asked.role != "cell" and record.happened.test and file.is_file():
            right[asked.role, asked.name, asked.seed] = _right(file, record)
    parts = {part: read_reviews(data, part, manifest) for part in PARTS}
    movies, train_movies = (parts[part]["movie"].to_pylist() for part in ("test", "train"))
    known = None not in movies and None not in train_movies
    seen = set(train_movies)
    return Answers(
        right,
        movies=np.array(movies, dtype=np.str_) if known else None,
        unseen_movie=np.array([movie not in seen for movie in movies]) if known else None,
        repeated=_repeated(parts),
    )


def _right(file: Path, record: Record) -> NDArray[np.bool_]:
    import pyarrow as pa

    columns = ["split", "row", "label", "logit_0", "logit_1"]
    try:
        table = read_table(file, columns)
    except (OSError, KeyError, pa.ArrowException) as problem:
        raise DataError(
            f"{file}: can't be read ({problem}); delete the run's folder to run it again"
        ) from None
    tested = table["split"].to_numpy() == "test"
    rows, labels, zeros, ones = (table[name].to_numpy()[tested] for name in columns[1:])
    right = np.asarray((ones > zeros) == (labels == 1))
    expected = record.happened.test
    if (
        expected is None
        or not np.array_equal(rows, np.arange(expected.reviews))
        or int(right.sum()) != expected.correct
    ):
        told = f"{expected.correct} of {expected.reviews}" if expected else "none"
        raise DataError(
            f"{file}: {int(right.sum())} of {len(right)} test reviews right, its record says {told}; delete the run's folder"
        )
    return right


def _repeated(parts: "Mapping[PartName, pa.Table]") -> NDArray[np.bool_]:
    times: Counter[str] = Counter()
    texts = {part: table["text"].to_pylist() for part, table in parts.items()}
    for part in texts.values():
        times.update(part)
    return np.array([times[text] > 1 for text in texts["test"]])
