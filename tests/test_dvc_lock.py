import pytest

from lora_replication.dvc_lock import check_lock
from lora_replication.errors import DataError

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
