"""Texts of one's own: a table with a text and a label a row, in one file or in one for each part.

Nothing is repaired: what is missing, empty or too long is refused. JSON and CSV are read by the
standard library: Arrow's reader of JSON ends the process at deep nesting, and its reader of CSV,
like pandas', takes a broken quote for a part of the text.
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from lora_replication.allowed import LINE, MOST_CLASSES, MOST_NAME
from lora_replication.data.reviews import PARTS, Loaded, PartName, Review, read_table
from lora_replication.errors import DataError, ParameterError
from lora_replication.files import expanded, file_digest, readable
from lora_replication.pins import hub_file
from lora_replication.study import DataParams, TableParams

FORMS = (".csv", ".jsonl", ".parquet")
WRONG = (LookupError, ValueError, TypeError, AttributeError, RecursionError)
MOST_BYTES, MOST_CHARACTERS = 2**30, 2**20
"""Of a file, which is held in memory; of a text, of which an encoder reads 512 tokens."""


def load_table(data: DataParams) -> tuple[dict[PartName, list[Review]], Loaded]:
    """The first rows of each part that is given, else parts drawn by seed, stratified by label.

    Labels become numbers of the classes, which are in the order of their names, numbers first.

    Raises:
        DataError: a file can't be read, a row lacks something, or a part lacks a class.
        ParameterError: ``data.reviews`` asks for more rows than there are.
    """
    table = data.table or TableParams()
    rows = [row for part, file in table_files(data).items() for row in _rows(file, part, table)]
    labels = {label for _, label, *_ in rows}
    names = sorted(labels, key=lambda n: (int(n) if n.removeprefix("-").isdecimal() else inf, n))
    if not 2 <= len(names) <= MOST_CLASSES:
        raise DataError(
            f"{data.path}: column {table.label} has {len(names)} classes "
            f"({', '.join(names[:5])}); allowed: 2 to {MOST_CLASSES}"
        )
    sizes, found = data.reviews.model_dump(), dict[str, list[Review]]()
    for text, label, part, name in rows:
        found.setdefault(part, []).append(Review(text, names.index(label), name))
    spread = iter(_spread(found.get("", []), table.seed))  # nothing where parts are given
    for part in reversed(PARTS):  # so that train can grow by itself
        own = (found.get(part, []) + list(islice(spread, sizes[part])))[: sizes[part]]
        if len(own) < sizes[part]:
            raise ParameterError(
                f"{data.path}: data.reviews.{part} is {sizes[part]:,}; allowed: at most "
                f"{len(own):,}, as many as are left for it of {len(rows):,} rows"
            )
        if absent := set(range(len(names))) - {review.label for review in own}:
            raise DataError(
                f"{data.path}: {part} has no text of {names[min(absent)]!r}; allowed: each class "
                "in each part; split it otherwise, or leave the class out"
            )
        found[part] = own
    loaded = Loaded([], None, source_digests(data), tuple(names))
    return {part: found[part] for part in PARTS}, loaded


def is_of_table(data: DataParams, files: dict[str, str]) -> bool:
    """Whether ``files`` are the table that ``data`` names now; true of one that is not here."""
    if hub_file(data.path or ""):  # its address has its commit
        return [*files] == [data.path]
    return not expanded(data.path or "").exists() or files == source_digests(data)


def table_files(data: DataParams) -> dict[str, Path]:
    """The file of each part, or the only one under an empty name.

    Raises:
        DataError: a folder without a file for each part.
        EnvironmentProblem: the hub's file can't be had.
    """
    if hub := hub_file(data.path or ""):
        return {"": hub.fetched("name a copy of the file in data.path")[0]}
    path = expanded(data.path or "")
    if not path.is_dir():
        return {"": path}
    found = {part: [f for f in path.glob(f"{part}.*") if f.suffix in FORMS] for part in PARTS}
    if any(len(files) != 1 for files in found.values()):
        raise DataError(
            f"{path}: allowed: a file for each part, such as train.csv; see docs/usage.md"
        )
    return {part: file for part, (file,) in found.items()}


def source_digests(data: DataParams) -> dict[str, str]:
    """sha256 by name, or address in the hub, of the table's files. Raises ``DataError``."""
    path, files = data.path or "", table_files(data).values()
    with readable(Path(path), "name the table in data.path"):
        return {path if hub_file(path) else file.name: file_digest(file) for file in files}


def _spread(reviews: list[Review], seed: int) -> list[Review]:
    """In an order drawn by ``seed``; any stretch of it has each class in its share, to within 1."""
    total, seen = Counter(review.label for review in reviews), Counter[int]()

    def place(review: Review) -> float:
        seen[review.label] += 1
        return (seen[review.label] - 0.5) / total[review.label]

    order = np.random.RandomState(seed).permutation(len(reviews))
    return sorted((reviews[row] for row in order), key=place)


def _rows(file: Path, part: str, table: TableParams) -> list[tuple[Any, ...]]:
    """Text, label, part (empty where none is given) and name of each row of ``file``."""
    rows, wrong = [], []
    for number, row in enumerate(_read(file, table), 1):
        text, label = row.get(table.text), row.get(table.label)
        own = row.get(table.split) or "none" if table.split else part
        label = str(label).strip() if type(label) in (str, int) else label
        rows.append((text, label, own, f"{file.name}:{number}"))
        if problem := "too many cells" if None in row else _problem(text, label, own):
            wrong.append((number, problem))
    if wrong:
        first, problem = wrong[0]
        count = f"{len(wrong):,} of {len(rows):,} rows are wrong"
        raise DataError(f"{file}: row {first:,} has {problem}; {count}; fix or remove them")
    return rows


def _problem(text: Any, label: Any, part: Any) -> str:
    """What is wrong with a row; empty where nothing is."""
    if not isinstance(text, str) or not text.strip() or len(text) > MOST_CHARACTERS:
        return f"no text of 1 to {MOST_CHARACTERS:,} characters"
    if not isinstance(label, str) or not re.match(LINE, label) or len(label) > MOST_NAME:
        return f"no label: a whole number, or a line of 1 to {MOST_NAME} characters"
    if re.search("[\ud800-\udfff]", text + label):
        return "half a surrogate pair, which is no UTF-8"
    return "" if part in ("", *PARTS) else f"no part: one of {', '.join(PARTS)}"


def _read(file: Path, table: TableParams) -> list[Any]:
    import pyarrow as pa

    columns = [name for name in (table.text, table.label, table.split) if name]
    remedy = f"allowed: {', '.join(FORMS)} in UTF-8 with the columns {', '.join(columns)}"
    rows: list[Any] = []
    with readable(file, remedy, ValueError):
        size = file.stat().st_size
        if not file.is_file() or file.suffix not in FORMS or size > MOST_BYTES:
            raise OSError(f"it is no {' or '.join(FORMS)} of at most {MOST_BYTES:,} bytes")
        try:
            rows.extend(_found(file, columns, table.label))
        except (*WRONG, csv.Error, pa.ArrowException) as problem:
            raise ValueError(f"after row {len(rows):,}: {problem}") from None
        if absent := [name for name in columns if not any(name in row for row in rows)]:
            raise ValueError(f"it has no column {', '.join(absent)}")
    return rows


def _found(file: Path, columns: list[str], label: str) -> Iterator[Any]:
    if file.suffix == ".parquet":
        table = read_table(file, columns)
        # A data set of the hub keeps the names of its numbered classes there; -1 is none.
        noted = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
        names = noted.get("info", {}).get("features", {}).get(label, {}).get("names")
        named = dict(enumerate(names or ()))
        for row in table.to_pylist():
            yield row | {label: named.get(row[label])} if names else row
        return
    csv.field_size_limit(MOST_CHARACTERS)
    with file.open(encoding="utf-8-sig", newline="") as stream:
        objects = ({**json.loads(line)} for line in stream if line.strip())
        yield from objects if file.suffix == ".jsonl" else csv.DictReader(stream, strict=True)
