"""Processes that call functions, so that a crash, a hang or what one held touches no other."""

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from lora_replication.errors import IncompleteError


class Worker:
    """A process of its own that calls functions, one after another.

    Args:
        log: a file that takes what they print, where it is not this process's terminal.
    """

    def __init__(self, log: Path | None = None) -> None:
        self._connection, there = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(there, log), daemon=True
        )
        self._process.start()
        there.close()

    def begin(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have it call ``function``, without waiting."""
        self._connection.send((function, arguments))

    def result(self, until: float = float("inf")) -> Any:
        """What the function returned, waiting to ``until`` (monotonic seconds).

        Raises:
            TimeoutError: it takes longer; the process is killed.
            IncompleteError: the function raised, or the process died.
        """
        left = None if until == float("inf") else max(0.0, until - time.monotonic())
        try:
            if not self._connection.poll(left):
                self.stop()
                raise TimeoutError("out of time")
            returned, value = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            raise IncompleteError(f"its process ended with {self._process.exitcode}") from None
        if not returned:
            raise IncompleteError(value)
        return value

    def call(
        self, function: Callable[..., Any], *arguments: Any, until: float = float("inf")
    ) -> Any:
        """``begin`` and ``result``."""
        self.begin(function, *arguments)
        return self.result(until)

    def stop(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()


class Workers:
    """Workers by name, each started when first called; all are killed as the context ends."""

    def __init__(self, log: Path | None = None) -> None:
        self._log, self._workers = log, dict[str, Worker]()

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill them."""
        for name in list(self._workers):
            self.drop(name)

    def __getitem__(self, name: str) -> Worker:
        """The worker of that name."""
        if name not in self._workers:
            self._workers[name] = Worker(self._log)
        return self._workers[name]

    def call(self, name: str, *function: Any, until: float = float("inf")) -> Any:
        """As ``Worker.call``; a worker that failed is not used again."""
        try:
            return self[name].call(*function, until=until)
        except (TimeoutError, IncompleteError):
            self.drop(name)
            raise

    def drop(self, name: str) -> None:
        """Kill one; the next call of that name starts another."""
        self._workers.pop(name).stop()


def _serve(connection: Connection, log: Path | None) -> None:
    if log:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send((True, function(*arguments)))
        except Exception as problem:  # whatever it is, the caller names it
            traceback.print_exc()
            connection.send((False, f"{type(problem).__name__}: {problem}"))
