import json
import os
import subprocess
import sys

import pytest

from lora_replication.dvc_lock import IN_USE, check_lock, forget_killed
from lora_replication.errors import DataError
from tests.process_tree import soon

WHOLE = """schema: '2.0'
stages:
  report:
    cmd: python stages/report.py
    deps:
    - path: a
      hash: md5
      md5: {}
      size: 1
"""


def test_no_lock_and_a_whole_one_pass(tmp_path):
    check_lock(tmp_path)
    for md5 in ("0a" * 16, "0a" * 16 + ".dir"):
        (tmp_path / "dvc.lock").write_text(WHOLE.format(md5))
        check_lock(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"schema: '2.0'", b"schema: '2.0'\nstages:\n", b"stages: [", b"\xff", WHOLE.format("12").encode(), b"<<<<<<< a\nschema: x\n",
     b"schema: '2.0'\nstages:\n  report:\n", b"schema: '2.0'\nstages:\n  report:\n    cmd: x\n    deps:\n",
     WHOLE.format("0a" * 16).encode() + b"    - path: b\n",
     WHOLE.format("0a" * 16).encode() + b"    params:\n      params.yaml:\n", WHOLE.format("0a" * 16).encode().removesuffix(b" 1\n")],
)  # fmt: skip
def test_a_lock_that_is_not_whole_is_told_with_the_way_out(tmp_path, content):
    (tmp_path / "dvc.lock").write_bytes(content)
    with pytest.raises(DataError, match=r"dvc\.lock: not whole, .*git checkout dvc\.lock"):
        check_lock(tmp_path)


def marks_of(folder, pid):
    user = {"pid": str(pid), "cmd": "-c repro"}
    (folder / IN_USE).parent.mkdir(parents=True, exist_ok=True)
    marks = {"write": {"/w/data": user}, "read": {"/w/stages": [user]}}
    (folder / IN_USE).write_text(json.dumps(marks))


@pytest.mark.fault(3, 6)
def test_marks_of_a_killed_dvc_are_removed_even_while_its_pid_is_there(tmp_path):
    forget_killed(tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""], cwd=tmp_path) as zombie:
        stat = f"/proc/{zombie.pid}/stat"
        assert soon(lambda: ") Z " in open(stat).read(), 10)  # noqa: PTH123, SIM115  # ended, not waited for
        for pid in (os.getpid(), zombie.pid):  # in another folder, and gone
            marks_of(tmp_path, pid)
            forget_killed(tmp_path)
            assert not (tmp_path / IN_USE).exists()
    for half in ("", "{", '{"write": {"/w/data": {"pid": "1', "[]", "{}"):
        (tmp_path / IN_USE).write_text(half)
        forget_killed(tmp_path)
        assert not (tmp_path / IN_USE).exists()


@pytest.mark.parametrize("place", [".", "data"])
def test_marks_of_a_dvc_at_work_stay(tmp_path, place):
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, cwd=tmp_path / place, stdin=subprocess.PIPE) as worker:
        marks_of(tmp_path, worker.pid)
        for left_out in ("", "read"):  # DVC leaves out what is empty
            marks = json.loads((tmp_path / IN_USE).read_text())
            marks.pop(left_out, None)
            (tmp_path / IN_USE).write_text(json.dumps(marks))
            forget_killed(tmp_path)
            assert json.loads((tmp_path / IN_USE).read_text()) == marks
        worker.communicate(b"\n")
