"""Which process logs a run, so that a run whose process is gone can be told from one that still
goes on.
"""

import hashlib
import os
import socket
import time

SAME_START_SECONDS = 5.0
"""Two readings of a process's start differ by less, clock corrections included; a number is not
given again so soon.
"""

FOREIGN_RUN_SECONDS = 24 * 3600.0
"""A process of another machine can't be looked at; its run is taken for dead when it began longer
ago.

If it lives after all, the end of the run puts that right.
"""


def this_process() -> str:
    """A name for this process: digest of the machine's name, process number, start in seconds since
    1970.
    """
    import psutil

    return f"{_machine()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def is_alive(process: str, began_milliseconds: int) -> bool:
    """Whether the process named by ``this_process`` still runs; ``began_milliseconds``: when its
    run began.

    A name that is not of that form counts as gone.
    """
    import psutil

    machine, _, rest = process.partition(":")
    number, _, start = rest.partition(":")
    if not (number.isdecimal() and start.isdecimal()):
        return False
    if machine != _machine():
        return time.time() - began_milliseconds / 1000 < FOREIGN_RUN_SECONDS
    try:
        return bool(
            abs(psutil.Process(int(number)).create_time() - int(start)) < SAME_START_SECONDS
        )
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]
