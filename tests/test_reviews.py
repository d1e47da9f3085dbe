"""Parquet files, read by the calling thread alone."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from lora_replication.data.reviews import read_table, table_to_bytes


@pytest.fixture
def file(tmp_path: Path) -> Path:
    table = pa.table({"text": ["a", "b"], "label": [0, 1]})
    (tmp_path / "two.parquet").write_bytes(table_to_bytes(table))
    return tmp_path / "two.parquet"


def test_a_file_and_its_content_give_the_same_table_in_the_order_asked_for(file: Path) -> None:
    content = {"text": ["a", "b"], "label": [0, 1]}
    assert read_table(file).to_pydict() == read_table(file.read_bytes()).to_pydict() == content
    assert read_table(file, ["label", "text"]).column_names == ["label", "text"]
    with pytest.raises(KeyError, match="movie"):
        read_table(file, ["text", "movie"])


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@pytest.mark.parametrize("source", ["path", "path.read_bytes()"])
def test_no_thread_reads_that_could_abort_the_process_at_its_end(file: Path, source: str) -> None:
    check = (
        "from pathlib import Path\n"
        "from lora_replication.data.reviews import read_table\n"
        f"path = Path({str(file)!r})\n"
        f"read_table({source})\n"
        "names = [task.read_text() for task in Path('/proc/self/task').glob('*/comm')]\n"
        "print(sum('jemalloc' not in name for name in names))"
    )
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "1"
