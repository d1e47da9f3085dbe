"""Every source is found where the study or the environment says."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_replication.data.reviews import Review
from lora_replication.data.sources import archive_path, load_imdb
from lora_replication.errors import DataError
from lora_replication.study import DataParams


def data(source: str, path: Path | str | None = None) -> DataParams:
    content: dict[str, Any] = {
        "source": source,
        "path": path and str(path),
        "reviews": {"train": 2, "val": 1, "test": 1},
        "generated_seed": 1,
    }
    return DataParams.model_validate(content)


def test_the_variable_names_the_archive_where_the_study_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("IMDB_ARCHIVE", "/from/variable")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert archive_path(data("archive")) == Path("/from/variable")
    assert archive_path(data("archive", "~/from study")) == tmp_path / "from study"


@pytest.mark.parametrize("value", [None, ""])
def test_an_archive_that_nothing_names_is_told(
    value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMDB_ARCHIVE", raising=False)
    if value is not None:
        monkeypatch.setenv("IMDB_ARCHIVE", value)
    with pytest.raises(
        DataError,
        match=r"data\.path is null and the variable IMDB_ARCHIVE is not set.*ai\.stanford\.edu",
    ):
        load_imdb(data("archive"))


def test_each_source_reads_its_own_kind(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    assert load_imdb(data("parquet", tmp_path)).reviews == [Review("a", 1)]
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        (tmp_path / "aclImdb" / part).mkdir(parents=True)
    (tmp_path / "aclImdb/test/neg/0_2.txt").write_bytes(b"b")
    assert load_imdb(data("folder", tmp_path)).reviews == [Review("b", 0, "test/neg/0_2")]
    with pytest.raises(DataError, match="has sha256"):
        load_imdb(data("archive", tmp_path / "a.parquet"))


@pytest.mark.parametrize("source", ["folder", "parquet"])
def test_a_folder_that_is_not_there_is_told(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"nowhere: is no folder; source {source} needs data.path"):
        load_imdb(data(source, tmp_path / "nowhere"))
