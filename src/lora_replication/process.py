"""How a command behaves as a process: clean stops, no orphans, exit codes, no telemetry."""

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TextIO

import click

from lora_replication.errors import ReplicationError, Stopped
from lora_replication.files import write_whole

STATUS_VARIABLE = "LORA_REPLICATION_STATUS"
"""Names the file for a stage's exit code and message; DVC itself has 255 for every failure."""

SECONDS_TO_STOP = 8
"""Of a process that a signal asked to stop; what it has not finished by then is lost."""

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""Of cyclic garbage. Looking through the 600,000 objects of torch, MLflow and others, which stay,
is a third of their import."""

SECONDS_BETWEEN_INTERRUPTS = 2.0
"""While DVC or a stage goes on after a signal asked both to stop. A stage of ours needs one."""

QUIET = {
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "true",
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}
"""Telemetry off; no pickles in MLflow; and the workspace that deterministic cuBLAS needs."""


def run_command(command: Callable[[], None], name: str) -> int:
    """Run ``command`` and turn how it ends into an exit code, and one message on stderr.

    Errors that a person can mend give their own code; a signal gives 128 + its number; anything
    else is our bug and raised. Where nobody reads the output any more (``| head``) it ends quietly.
    """
    set_up_libraries()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode
    stop_on_signals()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    if "DVC_STAGE" in os.environ:  # a stage; what a person starts may outlive its terminal
        die_with_parent(signal.SIGTERM)
    code, message = 0, ""
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still to be written goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except ReplicationError as problem:
        code, message = problem.exit_code, str(problem)
    except Stopped as stop:
        code = stop.exit_code
        message = f"{stop}; everything finished is kept, run again to continue"
    if code and STATUS_VARIABLE in os.environ:  # whoever started this tells it, once
        status = json.dumps({"command": name, "exit_code": code, "message": message}, indent=1)
        write_whole(Path(os.environ[STATUS_VARIABLE]), status.encode() + b"\n")
    elif code:
        with suppress(OSError):  # the terminal may be gone
            told = f"{coloured(f'{name}:', 'red', sys.stderr)} {message}\n{name}: exit code {code}"
            print(told, file=sys.stderr, flush=True)
    gc.freeze()  # the process ends here; Python would look through everything once more
    return code


def coloured(text: str, colour: str, stream: TextIO) -> str:
    """``text`` in a colour on a terminal, unless NO_COLOR is set (no-color.org)."""
    is_colourful = stream.isatty() and not os.environ.get("NO_COLOR")
    return click.style(text, fg=colour) if is_colourful else text


def set_up_libraries() -> None:
    """Set the variables of ``QUIET`` that the user did not set, and keep freed memory.

    The C library would give every large tensor back to the system at once, which clears the pages
    of the next one of that size again: an eighth of a training step on a CPU.
    """
    for variable, value in QUIET.items():
        os.environ.setdefault(variable, value)
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of <malloc.h>
    with suppress(AttributeError):  # another C library has no such function
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_max, 0)


def stop_signals() -> list[signal.Signals]:
    """Those that stop a command cleanly: Ctrl-C, SIGTERM, SIGHUP unless ``nohup`` ignores it."""
    asked = [signal.SIGINT, signal.SIGTERM]
    return asked if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [*asked, signal.SIGHUP]


def stop_on_signals() -> None:
    """Have the ``stop_signals`` raise ``Stopped`` from now on."""
    for number in stop_signals():
        signal.signal(number, _stop)


def run_group(
    command: list[str], folder: Path, environment: dict[str, str], output: TextIO | None = None
) -> int:
    """Run ``command`` to its end, in a process group of its own; it prints to ``output``.

    A signal reaches the whole group, DVC and its stage, as SIGINT: on any other DVC would leave its
    stage behind. And again until it has ended: DVC hears none while a stage runs, and begins the
    next one if that stage had just come to its end. Ctrl-Z halts the group too.

    Raises ``Stopped`` where a signal came, once everything in the group has ended.
    """
    received: list[int] = []
    halts = [signal.SIGTSTP] if signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL else []
    before = {
        number: signal.signal(number, lambda number, _frame: received.append(number))
        for number in (*stop_signals(), *halts)
    }
    # Not the terminal's own group, which "stty tostop" would halt at its first line.
    before[signal.SIGTTOU] = signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    again = 0.0
    try:
        with subprocess.Popen(  # noqa: S603  # fixed words
            command, cwd=folder, env=environment, process_group=0, stdout=output
        ) as process:
            while (code := process.poll()) is None:
                with suppress(OSError):  # it has ended by itself
                    if signal.SIGTSTP in received:
                        received.remove(signal.SIGTSTP)
                        os.killpg(process.pid, signal.SIGSTOP)
                        os.kill(os.getpid(), signal.SIGSTOP)
                        os.killpg(process.pid, signal.SIGCONT)
                    if received and time.monotonic() >= again:
                        again = time.monotonic() + SECONDS_BETWEEN_INTERRUPTS
                        os.killpg(process.pid, signal.SIGINT)
                time.sleep(0.1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise Stopped(received[0])
    return code


def _stop(number: int, _frame: FrameType | None) -> None:
    # A second signal while cleaning up must not cut the cleaning short.
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    threading.Thread(target=_end_at_last, args=(number,), daemon=True).start()
    raise Stopped(number)


def _end_at_last(number: int) -> None:
    # Python drops an exception that is raised in a library's destructor or callback.
    time.sleep(SECONDS_TO_STOP)
    last = f"stopped by signal {number}, without an end of its own in {SECONDS_TO_STOP} s\n"
    os.write(2, last.encode())
    os._exit(128 + number)


def die_with_parent(number: int) -> None:
    """Have the signal ``number`` sent to this process when its parent is gone, even by SIGKILL.

    On Linux the kernel sees to it; elsewhere a thread looks once a second.
    """
    parent = os.getppid()
    if sys.platform != "linux":
        threading.Thread(target=watch_parent, args=(parent, number), daemon=True).start()
        return
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>
    ctypes.CDLL(None).prctl(set_parent_death_signal, ctypes.c_ulong(number))
    if os.getppid() != parent:  # it went before the kernel was asked
        os.kill(os.getpid(), number)


def watch_parent(parent: int, number: int) -> None:
    """Send this process the signal ``number`` once ``parent`` is no longer its parent."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os.kill(os.getpid(), number)
