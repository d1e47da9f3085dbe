"""What DVC left behind, looked at before DVC does: a ``dvc.lock`` cut or badly merged, and the
marks of one that was killed.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lora_replication.errors import DataError

FILE = "dvc.lock"

IN_USE = Path(".dvc/tmp/rwlock")
"""Where each DVC at work writes its PID beside the paths that it reads and writes."""


def check_lock(folder: Path) -> None:
    """See whether ``dvc.lock`` in ``folder`` is whole, where there is one.

    Raises:
        DataError: it is cut, badly merged or something else. Without it DVC takes each stage up
            again, and a stage runs nothing that is recorded.
    """
    file = folder / FILE
    if not file.exists():
        return
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        content = COMPILED_LOCKFILE_SCHEMA(
            YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
        )
        whole = all(map(_is_hashed, _files(content["stages"])))
    except (YAMLError, UnicodeDecodeError, Invalid, KeyError):
        whole = False
    if not whole:
        raise DataError(
            f"{file}: not whole, as after a crash or a bad merge; run git checkout {FILE} where git keeps it, else delete it; "
            "then run again: nothing that is recorded is trained again"
        )


def _files(stages: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (
        file
        for stage in stages.values()
        for part in ("deps", "outs")
        for file in stage.get(part, ())
    )


def _is_hashed(file: dict[str, Any]) -> bool:
    """Whether a file has its path and its whole hash; DVC would take a part of one for another
    hash.
    """
    return "path" in file and len(file.get("md5") or "") >= 32


def forget_killed(folder: Path) -> None:
    """Remove the marks of DVCs that are gone from ``folder``.

    A killed one leaves them, perhaps half written, and DVC takes whatever has its PID for it:
    another process, or its own remains that nobody has waited for.
    """
    try:
        marks = json.loads((folder / IN_USE).read_text("utf-8"))
        users = [
            *marks.get("write", {}).values(),
            *(user for users in marks.get("read", {}).values() for user in users),
        ]
        in_use = any(_works_in(folder, int(user["pid"])) for user in users)
    except FileNotFoundError:
        return
    except (ValueError, KeyError, TypeError, AttributeError):
        in_use = False
    if not in_use:
        (folder / IN_USE).unlink(missing_ok=True)


def _works_in(folder: Path, pid: int) -> bool:
    import psutil

    try:
        return Path(psutil.Process(pid).cwd()).is_relative_to(
            folder.resolve()
        )  # DVC may be started below its folder
    except psutil.NoSuchProcess:  # remains count as none
        return False
    except psutil.AccessDenied:  # of another user; it may be one
        return True
