"""What DVC wrote down of its last run, ``dvc.lock``, looked at before DVC is: cut or badly merged it ends in messages that help nobody."""

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
    try:
        content: Any = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
        whole = _is_whole(content)
    except (YAMLError, UnicodeDecodeError):
        whole = False
    if not whole:
        raise DataError(
            f"{file}: not whole, as after a crash or a bad merge; run git checkout {FILE} where git keeps it, else delete it; "
            "then run again: nothing that is recorded is trained again"
        )


def _is_whole(content: Any) -> bool:
    """Whether each stage has its command and parameters, and each of its files a path and a hash."""
    if not (isinstance(content, dict) and isinstance(content.get("schema"), str) and isinstance(content.get("stages"), dict)):
        return False
    return all(isinstance(stage, dict) and _is_stage(stage) for stage in content["stages"].values())


def _is_stage(stage: dict[str, Any]) -> bool:
    lists = [stage[part] for part in ("deps", "outs") if part in stage]
    parameters = stage.get("params", {})
    return (
        isinstance(stage.get("cmd"), str)
        and all(isinstance(files, list) and all(map(_is_file, files)) for files in lists)
        and isinstance(parameters, dict)
        and all(isinstance(of_file, dict) for of_file in parameters.values())
    )


def _is_file(file: Any) -> bool:
    return isinstance(file, dict) and isinstance(file.get("path"), str) and isinstance(file.get("md5"), str) and len(file["md5"]) >= 32
