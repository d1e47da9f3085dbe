"""What a process has started, of which any may end at the moment it is looked at."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than one that only waits to be reaped."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descendants(pid: int, about: str) -> dict[int, Any]:
    """What psutil's method ``about`` says of ``pid`` and of each of its descendants."""
    found = {}
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found[child.pid] = getattr(child, about)()
    return found


def kill_tree(pid: int) -> None:
    """SIGKILL the process ``pid`` with all that it started; one that is gone already is fine."""
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for one in tree:
        with suppress(psutil.NoSuchProcess):
            one.kill()


def soon(condition: Callable[[], object], seconds: float = 60.0) -> bool:
    """Whether ``condition`` becomes true within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
