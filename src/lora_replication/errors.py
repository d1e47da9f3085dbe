"""The errors that a person can do something about, each with its exit code.

Anything else that is raised is a bug of this project and ends with exit code 1.
"""

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class ReplicationError(Exception):
    """One clear message: which key or file, the value given, what is allowed, what to do."""

    exit_code: ClassVar[int] = 1


class ParameterError(ReplicationError):
    """A study asks for something that it may not ask for."""

    exit_code = 2


class DataError(ReplicationError):
    """Reviews, splits, records or weights are missing, damaged or not what they claim to be."""

    exit_code = 3


class EnvironmentProblem(ReplicationError):
    """The machine lacks something: the hub, disk, a device, a lock held by another process."""

    exit_code = 4


class GpuLost(EnvironmentProblem):
    """The GPU answers this process no more; a new process can begin afresh."""


class IncompleteError(ReplicationError):
    """Something that was asked for is still missing; running again continues."""

    exit_code = 5


class Stopped(BaseException):
    """A signal asked the process to stop. Not an ``Exception``, so that no handler swallows it.

    ``exit_code`` is 128 + the signal's number: 129 for SIGHUP, 130 for SIGINT (Ctrl-C), 143 for
    SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by signal {signal_number}")
        self.exit_code = 128 + signal_number


def first_problem(found: "ValidationError") -> tuple[str, str, str]:
    """The dotted key, what it is, shortened, and what is wrong with it."""
    first = found.errors(include_url=False)[0]
    return ".".join(map(str, first["loc"])), repr(first["input"])[:80], first["msg"]
