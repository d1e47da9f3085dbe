"""What DVC wrote down of its last run, ``dvc.lock``, looked at before DVC is: cut or badly merged it ends in messages that help nobody."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lora_replication.errors import DataError

FILE = "dvc.lock"


def check_lock(folder: Path) -> None:
    """See whether ``dvc.lock`` in ``folder`` is whole, where there is one.

    Raises:
        DataError: it is cut, badly merged or something else. Without it DVC takes each stage up again, and a stage runs nothing
            that is recorded.
    """
    file = folder / FILE
    if not file.exists():
        return
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        content = COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe", pure=True).load(file.read_text("utf-8")))
        whole = all(map(_is_hashed, _files(content["stages"])))
    except (YAMLError, UnicodeDecodeError, Invalid, KeyError):
        whole = False
    if not whole:
        raise DataError(
            f"{file}: not whole, as after a crash or a bad merge; run git checkout {FILE} where git keeps it, else delete it; "
            "then run again: nothing that is recorded is trained again"
        )


def _files(stages: dict[str, Any]) -> Iterator[dict[str, Any]]:
    return (file for stage in stages.values() for part in ("deps", "outs") for file in stage.get(part, ()))


def _is_hashed(file: dict[str, Any]) -> bool:
    """Whether a file has its path and its whole hash; DVC would take a part of one for another hash."""
    return "path" in file and len(file.get("md5") or "") >= 32
