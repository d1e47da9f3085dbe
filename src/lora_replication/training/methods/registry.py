"""Finds a method by its name, or in a file outside the package, and what is the same for all."""

import hashlib
import importlib
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from lora_replication.errors import DataError, ParameterError, ReplicationError
from lora_replication.files import project_root
from lora_replication.record import Settings
from lora_replication.study import MethodExtras, MethodParams
from lora_replication.training.methods import Method


def method_of(asked: MethodParams | Settings) -> Method:
    """The method that is asked for.

    Raises:
        ParameterError: its file can't be imported, or lacks a part.
        DataError: its file is not the one that a record was made with.
    """
    kind = _kind(asked.trains, asked.file, asked.file_sha256)
    return kind(asked.lora, kind.Options.model_validate(asked.options))


def plain_options(asked: MethodParams) -> dict[str, Any]:
    """Its options as plain values, without those at their defaults. Raises ``ValidationError``."""
    return method_of(asked).options.model_dump(mode="json", exclude_defaults=True)  # type: ignore[no-any-return]


def shared_in_pack(settings: Settings) -> str | None:
    """What the configurations of a pack have in common: all but the method, rates and LoRA settings
    other than dropout. None for what trains in no pack.
    """
    if settings.lora is None or not method_of(settings).packs:
        return None
    own = {"lora", "learning_rate", "trains", *MethodExtras.model_fields}
    return f"{settings.model_dump_json(exclude=own)}, dropout {settings.lora.dropout}"


@contextmanager
def blamed(file: Path | None, part: str) -> Iterator[None]:
    """Turn what goes wrong in a user's ``file`` into a ``ParameterError`` with line and part."""
    try:
        yield
    except ReplicationError:
        raise
    except Exception as problem:  # whatever a foreign file raises
        if file is None:
            raise
        lines = [
            f.lineno for f in traceback.extract_tb(problem.__traceback__) if f.filename == str(file)
        ]
        line = problem.lineno if isinstance(problem, SyntaxError) else lines[-1] if lines else None
        place = f"{file}:{line}" if line else str(file)
        raise ParameterError(f"{place}: {part}: {type(problem).__name__}: {problem}") from None


@cache
def _kind(trains: str | None, file: str | None, sha256: str | None) -> type[Method]:
    path = project_root() / file if file else None
    name = f"{__package__}.{trains}"
    module = _imported(path, sha256) if path else importlib.import_module(name)
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type)]
    found = [k for k in kinds if issubclass(k, Method) and k.__module__ == module.__name__]
    if len(found) != 1:
        raise ParameterError(f"{path}: has {len(found)} subclasses of Method; allowed: one")
    (kind,) = found
    kind.file = path
    if not kind.words:
        raise ParameterError(f'{place_of(kind)} lacks words = "...", its name in tables')
    if kind.trains is Method.trains and kind.stand_in is Method.stand_in:
        raise ParameterError(f"{place_of(kind)} trains nothing; it lacks both stand_in and trains")
    return kind


def place_of(kind: type[Method], part: str = "") -> str:
    """The method's file, the line where ``part`` of it begins, or else its class, and its name."""
    if kind.file is None:
        return f"method: {kind.__name__}"
    own = vars(kind).get(part)
    line = inspect.getsourcelines(own if callable(own) else kind)[1]
    return f"{kind.file}:{line}: {kind.__name__}"


def _imported(file: Path, sha256: str | None) -> ModuleType:
    """The module of exactly the bytes that have this digest."""
    try:
        content = file.read_bytes()
    except OSError as problem:
        raise ParameterError(
            f"{file}: can't be read ({problem.strerror}); a method is a Python file"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(f"{file} has sha256 {found}, not {sha256}; put the right file there")
    module = ModuleType(f"method_{found[:16]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # pydantic looks up annotations there
    with blamed(file, "can't be imported"):
        exec(compile(content, str(file), "exec"), vars(module))  # noqa: S102  # the user's own
    return module
