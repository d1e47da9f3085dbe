import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lora_replication.errors import EnvironmentProblem
from lora_replication.files import digest, file_digest, is_locked, only_writer, write_whole

HOLD = """
import sys, time
from pathlib import Path
from lora_replication.files import only_writer
with only_writer(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.fault(32)
def test_a_second_writer_is_refused_with_the_first_ones_pid_and_a_dead_one_leaves_no_lock(tmp_path):
    lock = tmp_path / "a b" / "x.lock"
    assert not is_locked(lock)
    command = [sys.executable, "-c", HOLD, str(lock)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert is_locked(lock)
        refused = pytest.raises(EnvironmentProblem, match=f"locked by process {holder.pid};")
        with refused, only_writer(lock):
            pytest.fail("both hold the lock")
        holder.kill()
        holder.wait()
    assert lock.is_file()
    assert not is_locked(lock)
    with only_writer(lock):
        assert lock.read_text() == str(os.getpid())


@pytest.mark.parametrize("place", ["a file/x.lock", "a folder"])
@pytest.mark.fault(8)
def test_a_lock_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(EnvironmentProblem, match="can't be opened"), only_writer(tmp_path / place):
        pytest.fail("there is no such lock")


def test_a_digest_does_not_depend_on_the_order_of_keys(tmp_path):
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file").startswith("ba7816bf8f01cfea")


@pytest.mark.parametrize(
    ("problem", "remedy"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "bytes are free.; free space or"),
        (SafetensorError("I/O error: No space left on device (os error 28)"), "; free space or"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "denied.; give this user permission"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "system.; give this user permission"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "error.; check the disk or"),
    ],
)
@pytest.mark.fault(7)
@pytest.mark.fault(8)
def test_a_failed_write_names_the_remedy_that_works(problem, remedy, tmp_path):
    file = tmp_path / "folder" / "file"
    write_whole(file, lambda temporary: temporary.write_bytes(b"old"))

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise problem

    with pytest.raises(EnvironmentProblem, match=f"file: could not be written .*{remedy}"):
        write_whole(file, fail)
    assert (file.read_bytes(), list(file.parent.iterdir())) == (b"old", [file])
    with pytest.raises(EnvironmentProblem, match="move away what is in its place"):
        write_whole(file / "below", b"new")
