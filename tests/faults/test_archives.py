"""Faults 15 and 16 through the stage that prepares the data."""

import subprocess
import sys
from pathlib import Path

import pytest

from lora_replication.files import file_digest
from tests.study_files import ROOT, write_params


def prepare(folder: Path, **data: str) -> subprocess.CompletedProcess:
    """Run the stage in ``folder``, for the tiny study with another source."""
    write_params(folder, data=data)
    return subprocess.run(
        [sys.executable, str(ROOT / "stages" / "prepare.py")],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def prepared(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in (folder / "data").rglob("*") if file.is_file()}


@pytest.mark.fault(15)
def test_a_wrong_archive_ends_the_stage_with_3_and_harms_neither_it_nor_earlier_data(tmp_path):
    assert prepare(tmp_path).returncode == 0
    page = tmp_path / "aclImdb_v1.tar.gz"
    page.write_text("<html>404</html>")
    before = prepared(tmp_path)
    assert before
    done = prepare(tmp_path, source="archive", path=str(page))
    assert done.returncode == 3, done.stderr
    assert f"{page}: has sha256 {file_digest(page)}" in done.stderr
    assert page.read_text() == "<html>404</html>"
    assert prepared(tmp_path) == before


@pytest.mark.fault(16)
def test_a_folder_left_half_unpacked_ends_the_stage_with_3(tmp_path):
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        (tmp_path / "aclImdb" / part).mkdir(parents=True)
        (tmp_path / "aclImdb" / part / "0_5.txt").write_text("a review")
    done = prepare(tmp_path, source="folder", path=str(tmp_path))
    assert done.returncode == 3, done.stderr
    assert "lacks 50,000 of IMDb's 50,000" in done.stderr
    assert not (tmp_path / "data").exists()
