"""What a process has started, of which any may end at the moment it is looked at."""

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
    """What psutil's method ``about`` says of each process that ``pid`` or one of its descendants
    started.
    """
    found = {}
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found[child.pid] = getattr(child, about)()
    return found
