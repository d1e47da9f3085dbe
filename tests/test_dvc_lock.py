"""What a killed or merged DVC left behind, looked at before the next one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lora_replication.errors import DataError
from lora_replication.pipeline import IN_USE, check_lock, forget_killed
from tests.process_tree import soon

LOCK = """schema: '2.0'
stages:
  report:
    cmd: python stages/report.py
    deps:
    - path: a
      hash: md5
      md5: {}
      size: 1
    outs: []
"""
WHOLE = LOCK.format("0a" * 16)


@pytest.mark.fault(31)
def test_a_lock_that_is_not_whole_is_told_with_the_way_out(tmp_path):
    check_lock(tmp_path)
    for content in (WHOLE, LOCK.format("0a" * 16 + ".dir")):
        (tmp_path / "dvc.lock").write_text(content)
        check_lock(tmp_path)
    cut = (
        LOCK.format("1234"),
        LOCK.format(""),
        WHOLE.partition("md5: ")[0],
        WHOLE.partition("stages")[0],
    )
    for content in ("", "stages: [", "<<<<<<< a\nschema: x\n", "\xff", *cut):
        (tmp_path / "dvc.lock").write_bytes(content.encode("latin-1"))
        with pytest.raises(DataError, match=r"dvc\.lock: not whole, .*git checkout dvc\.lock"):
            check_lock(tmp_path)


def marks_of(folder: Path, pid: int) -> str:
    user = {"pid": pid, "cmd": "-c repro"}
    marks = json.dumps({"write": {"/w/data": user}, "read": {"/w/stages": [user]}})
    (folder / IN_USE).parent.mkdir(parents=True, exist_ok=True)
    (folder / IN_USE).write_text(marks)
    return marks


@pytest.mark.fault(3, 6)
def test_marks_of_a_killed_dvc_are_removed_even_while_its_pid_is_there(tmp_path):
    forget_killed(tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""], cwd=tmp_path) as zombie:
        stat = Path(f"/proc/{zombie.pid}/stat")
        assert soon(lambda: ") Z " in stat.read_text(), 10)  # ended, not waited for
        for pid in (os.getpid(), zombie.pid):  # in another folder, and gone
            marks_of(tmp_path, pid)
            forget_killed(tmp_path)
            assert not (tmp_path / IN_USE).exists()
    (tmp_path / IN_USE).write_text('{"write": {"/w/data": {"pid": 1')
    forget_killed(tmp_path)
    assert not (tmp_path / IN_USE).exists()


def test_marks_of_a_dvc_at_work_below_the_folder_stay(tmp_path):
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, cwd=tmp_path / "data", stdin=subprocess.PIPE) as worker:
        marks = marks_of(tmp_path, worker.pid)
        forget_killed(tmp_path)
        assert (tmp_path / IN_USE).read_text() == marks
        worker.communicate(b"\n")
