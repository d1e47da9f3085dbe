"""A file that can't be written says what helps; the old one stays."""

import errno
import os
from pathlib import Path

import pytest
from safetensors import SafetensorError

from lora_replication.errors import EnvironmentProblem
from lora_replication.files import write_whole


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
