"""Foreign predictions: a folder with ``predictions.json`` and a table a run, made by any program.

``predictions.json`` is ``{"name": "my method", "study": "minilm-small"}``: a name for people, and
the study whose test reviews were predicted. ``seed-<k>.csv`` or ``seed-<k>.parquet`` has the
columns split (train, val or test; only test is read), row (from 0, as in the split), label (0, 1
...), score_0, score_1 ... (one for each class, any finite numbers; the largest is predicted), in
any order of rows.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from lora_replication.allowed import LINE, Name, Part
from lora_replication.compare.sides import Side, find_records
from lora_replication.data.reviews import MOST_ROWS, PARTS, read_table
from lora_replication.errors import DataError, first_problem
from lora_replication.files import readable
from lora_replication.record import PREDICTIONS
from lora_replication.report.predictions import read_columns, read_predictions
from lora_replication.workspace import Workspace

DESCRIPTION = "predictions.json"
COLUMNS = ("split", "row", "label")
FILES = re.compile(r"seed-(0|[1-9][0-9]{0,9})\.(csv|parquet)")
MOST_BYTES = 2**28
"""Of a table; one of 3 million rows has less."""

FIRST = 5
"""Rows that a message names."""


class Description(Part):
    """``predictions.json``."""

    name: str = Field(pattern=LINE, max_length=60)
    study: Name


def is_foreign(folder: Path) -> bool:
    """Whether it is a folder of foreign predictions."""
    return (folder / DESCRIPTION).is_file()


def read_foreign(folder: Path, root: Path) -> Side:
    """The runs in ``folder``, on the test reviews of the study that it names.

    Raises:
        ParameterError: there is no such study, or nothing of it is recorded.
        DataError: a file is not as it must be; rows at fault are named.
    """
    description = read_description(folder / DESCRIPTION)
    workspace, records = find_records(description.study, root)
    tested = [record for record in records if record.happened.test]
    found = sorted(folder.iterdir())
    files = [file for file in found if FILES.fullmatch(file.name) and file.is_file()]
    seeds = [int(re.findall(r"\d+", file.stem)[-1]) for file in files]
    if not files or len(set(seeds)) < len(seeds):
        raise DataError(
            f"{folder}: has {', '.join(file.name for file in files) or 'no table'}; "
            "allowed: one seed-<k>.csv or seed-<k>.parquet for each run, at least one"
        )
    labels = _labels(workspace, tested)
    movies = read_predictions(workspace, ()).movies
    answers = {seed: read_answers(file, labels) for seed, file in zip(seeds, files, strict=True)}
    return Side(description.name, workspace, answers, movies)


def read_description(file: Path) -> Description:
    """``predictions.json``. Raises ``DataError``."""
    try:
        if file.stat().st_size > 2**16:
            raise DataError(f"{file}: has more than {2**16:,} bytes; allowed: a name and a study")
        return Description.model_validate_json(file.read_bytes())
    except OSError as problem:
        reason = str(problem)
    except ValidationError as problem:
        key, _, wrong = first_problem(problem)
        reason = f"{key or 'the file'}: {wrong}"
    raise DataError(f'{file}: {reason}; allowed: {{"name": "my method", "study": "minilm-small"}}')


def _labels(workspace: Workspace, records: list[Any]) -> NDArray[np.float64]:
    """Of the test reviews, from the predictions of any recorded run."""
    for record in records:
        if (file := workspace.folder(record.asked) / PREDICTIONS).is_file():
            split, _, labels, *_ = read_columns(file, record)
            return np.asarray(labels[split == "test"])
    raise DataError(
        f"{workspace.runs}: no run with test predictions, which the labels are checked against; "
        f"run the study (lora-replication run {workspace.study.study})"
    )


def read_answers(file: Path, labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """(reviews,), 1 where right, of the test rows in ``file``. Raises ``DataError``."""
    names = [f"score_{label}" for label in range(max(2, int(labels.max()) + 1))]
    split, *numbers = _columns(file, [*COLUMNS, *names])
    if other := sorted(set(split.tolist()) - set(PARTS), key=str):
        raise DataError(f"{file}: split is {other[0]!r}; allowed: {', '.join(PARTS)}")
    tested = split == "test"
    row, label, *scores = (column[tested] for column in numbers)
    places, times = np.unique(row, return_counts=True)
    expected = np.arange(len(labels))
    _refuse(file, places[~np.isin(places, expected)], f"allowed: 0 to {len(labels) - 1}")
    _refuse(file, places[times > 1], "there twice; allowed: once each")
    _refuse(file, np.setdiff1d(expected, places), "missing; allowed: each test review once")
    for name, own in zip(names, scores, strict=True):
        odd = np.sort(row[~np.isfinite(own)])
        _refuse(file, odd, f"{name} is not a finite number; allowed: finite numbers")
    order = np.argsort(row)
    wrong = expected[label[order] != labels]
    _refuse(file, wrong, "label is not the study's; allowed: the order of the study's test reviews")
    return np.asarray(np.argmax(scores, axis=0) == label, dtype=np.float64)[order]


def _refuse(file: Path, rows: Iterable[float], reason: str) -> None:
    """Raise ``DataError`` that names the first of these test ``rows``, if there are any."""
    if named := [f"{row:.15g}" for row in rows]:
        more = f" and {len(named) - FIRST:,} more" if len(named) > FIRST else ""
        raise DataError(f"{file}: test rows {', '.join(named[:FIRST])}{more}: {reason}")


def _columns(file: Path, names: list[str]) -> list[NDArray[Any]]:
    """The columns ``names``, all but the first as numbers."""
    import pyarrow as pa
    from pyarrow import csv

    remedy = f"allowed: a table of {', '.join(names)}"
    with readable(file, remedy, KeyError, ValueError, pa.ArrowException):
        if (size := file.stat().st_size) > MOST_BYTES:
            raise OSError(f"it has {size:,} bytes; allowed: {MOST_BYTES:,}")
        if file.suffix == ".csv":
            types = {name: pa.float64() for name in names} | {"split": pa.string()}
            table = csv.read_csv(
                file,
                csv.ReadOptions(use_threads=False),
                convert_options=csv.ConvertOptions(column_types=types, include_columns=names),
            )
            if table.num_rows > MOST_ROWS:
                raise OSError(f"it has {table.num_rows:,} rows; allowed: {MOST_ROWS:,}")
        else:
            table = read_table(file, names)
        split = table["split"].cast(pa.string()).to_numpy(zero_copy_only=False)
        return [split, *(table[name].cast(pa.float64()).to_numpy() for name in names[1:])]
