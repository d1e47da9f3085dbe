"""Processes that call functions, so that a crash, a hang or what one held touches no other."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from lora_replication.errors import IncompleteError

FOREVER = float("inf")

LOADED = ["torch._dynamo", "transformers.models.distilbert.modeling_distilbert"]
"""What takes long to import."""


class Workers:
    """Processes by name, each started when first needed and killed as the context ends.

    Args:
        log: a file that takes what they print, where it is not this process's terminal.
        forked: from a server that has libraries loaded, which is quick and not for CUDA.
    """

    def __init__(self, log: Path | None = None, *, forked: bool = False) -> None:
        self._log, self._started = log, dict[str, tuple[BaseProcess, Connection]]()
        multiprocessing.set_forkserver_preload(LOADED)
        self._context = multiprocessing.get_context("forkserver" if forked else "spawn")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._started):
            self.stop(name)

    def call(
        self, name: str, function: Callable[..., Any], *arguments: Any, until: float = FOREVER
    ) -> Any:
        """What ``function`` returns there, waiting to ``until`` (monotonic seconds).

        Raises:
            TimeoutError: it takes longer; the process is killed.
            IncompleteError: the function raised, or the process died.
        """
        if name not in self._started:
            here, there = multiprocessing.Pipe()
            process = self._context.Process(target=_serve, args=(there, self._log), daemon=True)
            process.start()
            there.close()
            self._started[name] = process, here
        process, connection = self._started[name]
        connection.send((function, arguments))
        left = None if until == FOREVER else max(0.0, until - time.monotonic())
        try:
            if not connection.poll(left):
                self.stop(name)
                raise TimeoutError("out of time")
            returned, value = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join(5)
            self.stop(name)
            raise IncompleteError(f"its process ended with {process.exitcode}") from None
        if not returned:
            raise IncompleteError(value)
        return value

    def stop(self, name: str) -> None:
        """Kill it; the next call of that name starts another."""
        process, _ = self._started.pop(name)
        process.kill()
        process.join()


def _serve(connection: Connection, log: Path | None) -> None:
    if log:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    with suppress(EOFError):  # the caller has ended
        while True:
            function, arguments = connection.recv()
            try:
                connection.send((True, function(*arguments)))
            except Exception as problem:  # whatever it is, the caller names it
                traceback.print_exc()
                connection.send((False, f"{type(problem).__name__}: {problem}"))
