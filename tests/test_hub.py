"""The hub's reviews come from its cache where they are there; a hub that does not answer is told
soon.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_replication.data.hub import REPOSITORY, REVISION
from lora_replication.data.parquet import HUB_FILES
from lora_replication.files import file_digest

# In a process of its own: the hub's libraries read their addresses and folders when they are
# imported.
READ = """
from lora_replication.data.hub import read_hub
from lora_replication.errors import ReplicationError
try:
    loaded = read_hub()
    print([tuple(review) for review in loaded.reviews], loaded.revision, loaded.files)
except ReplicationError as problem:
    print(type(problem).__name__, problem)
"""


def read(home: Path, **variables: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    environment = inherited | {"HF_HOME": str(home)} | variables
    done = subprocess.run(
        [sys.executable, "-c", READ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fill_cache(home: Path) -> list[Path]:
    """Two small files where the hub's own client would have put the real ones."""
    snapshot = home / "hub" / f"datasets--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION
    files = [snapshot / name for name in HUB_FILES]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": [f"naïve\r\n\0 {number}", ""], "label": [0, 1]}), file)
    return files


@pytest.mark.parametrize(
    "variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
@pytest.mark.fault(14)
def test_a_cached_copy_serves_without_the_hub(variables: dict[str, str], tmp_path: Path) -> None:
    files = fill_cache(tmp_path)
    rows = [
        ("naïve\r\n\0 0", 0, None, None),
        ("", 1, None, None),
        ("naïve\r\n\0 1", 0, None, None),
        ("", 1, None, None),
    ]
    digests = {name: file_digest(file) for name, file in zip(HUB_FILES, files, strict=True)}
    assert read(tmp_path, **variables).strip() == f"{rows} {REVISION} {digests}"


@pytest.mark.parametrize(
    "variables", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]
)
@pytest.mark.fault(14)
def test_no_hub_and_no_copy_is_told_within_30_seconds(
    variables: dict[str, str], tmp_path: Path
) -> None:
    started = time.monotonic()
    told = read(tmp_path, **variables)
    assert time.monotonic() - started < 30
    assert told.startswith(
        "EnvironmentProblem stanfordnlp/imdb, revision e6281661ce1c48d982bc483cf8a173c1bbeb5d31: can't be had"
    )
    assert str(tmp_path / "hub") in told
    assert "archive" in told
    assert "HF_HUB_OFFLINE" in told


def test_half_a_copy_is_none(tmp_path: Path) -> None:
    fill_cache(tmp_path)[1].unlink()
    assert read(tmp_path, HF_HUB_OFFLINE="1").startswith("EnvironmentProblem")


def test_a_damaged_copy_is_named(tmp_path: Path) -> None:
    file = fill_cache(tmp_path)[0]
    file.write_bytes(file.read_bytes()[:100])
    assert read(tmp_path, HF_HUB_OFFLINE="1").startswith(
        f"DataError {file}: can't be read as parquet"
    )
