"""A parquet copy is read whatever its files are called, and nothing that is no review passes for
one.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_replication.data.parquet import HUB_FILES, read_parquet_folder, rows_of_table
from lora_replication.data.reviews import Review
from lora_replication.errors import DataError
from lora_replication.files import file_digest


def write(file: Path, texts: list[str | None], labels: list[int | None]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"label": labels, "text": pa.array(texts, pa.string())}), file)


@given(st.lists(st.tuples(st.text(), st.integers(0, 1)), min_size=1))
@pytest.mark.fault(18)
def test_texts_survive(rows: list[tuple[str, int]]) -> None:
    table = pa.table({"text": [text for text, _ in rows], "label": [label for _, label in rows]})
    assert rows_of_table(table, "table") == [Review(text, label) for text, label in rows]


def test_the_hubs_two_files_are_read_and_its_unlabelled_one_is_not(tmp_path: Path) -> None:
    write(tmp_path / HUB_FILES[0], ["a"], [0])
    write(tmp_path / HUB_FILES[1], ["b", "NA"], [1, 0])
    write(tmp_path / "plain_text/unsupervised-00000-of-00001.parquet", ["c"], [-1])
    write(tmp_path / "other.parquet", ["d"], [0])
    loaded = read_parquet_folder(tmp_path)
    assert loaded.reviews == [Review("a", 0), Review("b", 1), Review("NA", 0)]
    assert loaded.files == {name: file_digest(tmp_path / name) for name in HUB_FILES}


def test_any_other_files_are_read_together(tmp_path: Path) -> None:
    write(tmp_path / "b.parquet", ["2"], [1])
    write(tmp_path / "a.parquet", ["1"], [0])
    assert read_parquet_folder(tmp_path).reviews == [Review("1", 0), Review("2", 1)]


def test_a_folder_without_any_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds neither plain_text/train"):
        read_parquet_folder(tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"PAR1" + b"\0" * 40 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: can't be read as parquet"):
        read_parquet_folder(tmp_path)


@pytest.mark.parametrize(
    ("texts", "labels", "complaint"),
    [
        (["a", "b"], [0, -1], "row 1 has label -1, allowed are 0"),
        (["a", "b"], [None, 1], "row 0 has label None"),
        (["a", None], [0, 1], "row 1 has no text"),
        (["a", "x" * 1_000_001], [0, 1], "row 1 has 1,000,001 bytes"),
    ],
)
def test_a_row_that_is_no_review_is_named(
    texts: list[str | None], labels: list[int | None], complaint: str, tmp_path: Path
) -> None:
    write(tmp_path / "a.parquet", texts, labels)
    with pytest.raises(DataError, match=rf"a\.parquet: {complaint}"):
        read_parquet_folder(tmp_path)


@pytest.mark.parametrize(
    "columns",
    [
        {"text": ["a"]},
        {"text": [1], "label": [1]},
        {"text": ["a"], "label": ["pos"]},
        {"label": [0]},
    ],
)
def test_wrong_columns_are_told(columns: dict[str, list[object]]) -> None:
    with pytest.raises(
        DataError, match=r"somewhere: needs a column (text of text|label of whole numbers)"
    ):
        rows_of_table(pa.table(columns), "somewhere")


@pytest.mark.fault(18)
def test_a_text_that_is_not_utf8_is_named_with_its_place() -> None:
    starts = pa.array([0, 2, 5], pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(2, starts, pa.py_buffer(b"okab\xff"))
    with pytest.raises(DataError, match="row 1 is not UTF-8 at byte 2"):
        rows_of_table(pa.table({"text": texts, "label": [0, 1]}), "table")
