"""The project's folder, and files as it writes them: whole or not at all, by one process, known by
sha256.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from lora_replication.errors import DataError, EnvironmentProblem

REMEDIES = {
    "free space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "give this user permission to write there": (errno.EACCES, errno.EPERM, errno.EROFS),
    "move away what is in its place": (errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
}
"""What to do where a file can't be written, by the system's error."""


def project_root() -> Path:
    """The project's folder: the nearest one upwards with ``dvc.yaml`` and ``studies``, else the one
    that this code was installed from. Raises ``EnvironmentProblem`` where there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "dvc.yaml").is_file() and (folder / "studies").is_dir():
            return folder
    raise EnvironmentProblem(
        f"{here} is not in a checkout of the project (no dvc.yaml and studies/ here or above); "
        "change into one"
    )


def expanded(path: str) -> Path:
    """The path that a user wrote, ``~`` at its start being the home folder. Raises
    ``EnvironmentProblem`` where none is known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise EnvironmentProblem(
            f"{path}: the home folder is not known here; set HOME, or write the path out"
        ) from None


def digest(content: Any) -> str:
    """sha256 of plain content, the same whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(file: Path) -> str:
    """sha256 of a file's bytes."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def readable(file: Path, remedy: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn an ``OSError`` of reading ``file``, or another of these ``errors``, into a ``DataError``
    that ends with the ``remedy``.
    """
    known: tuple[type[Exception], ...] = (OSError, *errors)
    try:
        yield
    except known as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise DataError(f"{file}: can't be read ({reason}); {remedy}") from None


def write_whole(file: Path, content: bytes | Callable[[Path], None]) -> None:
    """Write ``file`` so that a reader, or a crash at any moment, finds the old content or the new.

    Args:
        content: the bytes, or a function that writes them to the path that it gets.

    Raises:
        EnvironmentProblem: the disk is full, or the folder can't be written; the old file is as it
            was.
    """
    temporary: Path | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        os.close(handle)
        temporary = Path(name)
        if callable(content):
            content(temporary)
        else:
            temporary.write_bytes(content)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o644)
        temporary.replace(file)
    except (OSError, SafetensorError) as problem:  # the latter is safetensors' word for a full disk
        raise EnvironmentProblem(_not_written(file, content, problem)) from problem
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _not_written(
    file: Path, content: bytes | Callable[[Path], None], problem: OSError | SafetensorError
) -> str:
    """What went wrong in the system's words, which safetensors only has in its text; what to do."""
    reason = (isinstance(problem, OSError) and problem.strerror) or str(problem)
    remedy = next(
        (remedy for remedy, numbers in REMEDIES.items()
         if any(os.strerror(number) in reason for number in numbers)),
        "check the disk",
    )  # fmt: skip
    if remedy == "free space":
        folder = next(folder for folder in file.absolute().parents if folder.exists())
        needed = "" if callable(content) else f"; it has {len(content):,} bytes"
        reason += f"{needed}; {shutil.disk_usage(folder).free:,} bytes are free"
    return (
        f"{file}: could not be written ({reason}); {remedy} or choose another folder, "
        "then run again"
    )


@contextmanager
def only_writer(lock: Path) -> Iterator[None]:
    """Hold ``lock`` while writing an output; the lock goes with the process, however it ends.

    Raises ``EnvironmentProblem`` where another process holds it, with its PID; or it can't be made.
    """
    with ExitStack() as opened:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stream = opened.enter_context(lock.open("a+"))
        except OSError as problem:
            raise EnvironmentProblem(
                f"{lock}: can't be opened ({problem.strerror}); "
                "this folder must be writable, and everything above it a folder"
            ) from None
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EnvironmentProblem(
                f"{lock}: locked by process {_holder(lock)}; wait for it, or stop it, "
                "then run again"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def is_locked(lock: Path) -> bool:
    """Whether a living process holds ``lock``; a file that nobody holds is only a file."""
    with suppress(OSError), lock.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _holder(lock: Path) -> str:
    """The PID of the process that holds ``lock``, which writes it down just after taking it."""
    for _ in range(20):
        if number := lock.read_text("utf-8").strip():
            return number
        time.sleep(0.05)
    return "unknown"
