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
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE
    ) as holder:
        holder.stdout.readline()
        with (
            pytest.raises(EnvironmentProblem, match=f"locked by process {holder.pid};"),
            only_writer(lock),
        ):
            pytest.fail("both hold the lock")
        holder.kill()
        holder.wait()
    with only_writer(lock):
        assert lock.read_text() == str(os.getpid())


@pytest.mark.parametrize("place", ["a file/x.lock", "a folder"])
@pytest.mark.fault(8)
def test_a_lock_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(EnvironmentProblem, match="can't be opened"), only_writer(tmp_path / place):
        pytest.fail("there is no such lock")


def test_a_held_lock_is_seen_and_a_file_that_nobody_holds_is_only_a_file(tmp_path):
    lock = tmp_path / "x.lock"
    assert not is_locked(lock)
    with only_writer(lock):
        code = (
            "import sys; from pathlib import Path; from lora_replication.files import is_locked\n"
        )
        code += "print(is_locked(Path(sys.argv[1])))"
        command = [sys.executable, "-c", code, str(lock)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == "True\n"
    assert lock.is_file()
    assert not is_locked(lock)


def test_a_digest_does_not_depend_on_the_order_of_keys(tmp_path):
    assert digest({"a": 1, "b": [2.5, None]}) == digest({"b": [2.5, None], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file").startswith("ba7816bf8f01cfea")


def test_a_file_is_written_with_all_the_folders_above_it(tmp_path):
    write_whole(tmp_path / "a" / "b", b"content")
    write_whole(tmp_path / "a" / "b", lambda temporary: temporary.write_bytes(b"new"))
    assert (tmp_path / "a" / "b").read_bytes() == b"new"
    assert [file.name for file in (tmp_path / "a").iterdir()] == ["b"]


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
def test_a_failed_write_names_the_remedy_that_works(
    problem: Exception, remedy: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    write_whole(file, b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise problem

    with pytest.raises(EnvironmentProblem, match=f"file: could not be written .*{remedy}"):
        write_whole(file, fail)
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (b"old", [file])


def test_what_is_in_the_way_is_to_be_moved(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EnvironmentProblem, match="move away what is in its place"):
        write_whole(tmp_path / "file" / "below", b"new")
