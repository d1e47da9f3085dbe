"""Fault 7 on a real file system, which is full; it needs leave to mount."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_replication.errors import EnvironmentProblem
from lora_replication.plan import method_run
from lora_replication.study import Study
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.faults.interrupted import result
from tests.study_files import link_data


def mount(*arguments: object) -> bool:
    command = ["mount", *map(str, arguments)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB, mounted at a folder."""
    folder = tmp_path / "small disk"
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", "size=512k", "tmpfs", folder):
        pytest.skip("no leave to mount a file system")
    yield folder
    subprocess.run(["umount", folder], check=True)


def train(study: Study, root: Path, name: str, mirror) -> None:
    workspace = Workspace(study, root)
    perform(workspace, [method_run(workspace, name, 1)], mirror)


@pytest.mark.fault(7)
def test_a_disk_that_fills_in_mid_run_is_named_and_what_stood_there_stays(
    small_disk, tiny_study, tiny_data, tmp_path, mirror
):
    link_data(small_disk, tiny_data)
    train(tiny_study, small_disk, "last_layers", mirror)
    before = result(tiny_study, small_disk, "last_layers")
    words = f"{small_disk}/.*No space left on device.* bytes are free"
    with pytest.raises(EnvironmentProblem, match=words) as told:
        train(tiny_study, small_disk, "full", mirror)
    assert told.value.exit_code == 4
    assert result(tiny_study, small_disk, "last_layers") == before
    assert not [file for file in small_disk.rglob(".*") if file.is_file()]
    assert mount("-o", "remount,size=8m", small_disk)
    train(tiny_study, small_disk, "full", mirror)
    roomy = link_data(tmp_path / "roomy", tiny_data)
    train(tiny_study, roomy, "full", mirror)
    assert result(tiny_study, small_disk, "full") == result(tiny_study, roomy, "full")
