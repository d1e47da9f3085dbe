"""From a file to a study: read in DVC's dialect (YAML 1.2, so ``5e-5`` is a number), checked.

All problems of a study are reported at once, each with its file and line.
"""

import difflib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from lora_replication.errors import ParameterError
from lora_replication.study import NAME_RULE, Part, Study, expanded
from lora_replication.tracking.address import absolute


def load_study(file: Path) -> Study:
    """Read the study in ``file``; relative paths in it are taken from the file's folder.

    Raises:
        ParameterError: with every problem found, one line each: file, line, key, value, what is
            allowed.
    """
    content = _read_yaml(file)
    try:
        study = Study.model_validate(content)
    except ValidationError as problems:
        lines = sorted({_message(problem, file) for problem in problems.errors(include_url=False)})
        raise ParameterError("\n".join(lines)) from None
    return _with_absolute_paths(study, file.absolute().parent)


def _with_absolute_paths(study: Study, folder: Path) -> Study:
    """Stages run in the study's folder, commands anywhere."""
    data, model = (
        part.model_copy(update={"path": str(folder / expanded(part.path))}) if part.path else part
        for part in (study.data, study.model)
    )
    uri = absolute(study.tracking.uri, (folder / study.root).resolve())
    tracking = study.tracking.model_copy(update={"uri": uri})
    return study.model_copy(update={"data": data, "model": model, "tracking": tracking})


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    except FileNotFoundError:
        raise ParameterError(
            f"{file}: there is no such file; run in the project's folder, or name another one"
        ) from None
    except OSError as problem:
        raise ParameterError(
            f"{file}: can't be read ({problem.strerror}); a study is a YAML file"
        ) from None
    except DuplicateKeyError as problem:
        raise ParameterError(
            f"{_place(file, problem)}: {_first_sentence(problem)}; write each key once"
        ) from None
    except MarkedYAMLError as problem:
        raise ParameterError(
            f"{_place(file, problem)}: not plain YAML 1.2: {_first_sentence(problem)}"
        ) from None
    except (YAMLError, UnicodeDecodeError) as problem:
        raise ParameterError(f"{file}: not plain YAML 1.2 in UTF-8: {problem}") from None
    if not isinstance(content, dict):
        raise ParameterError(
            f"{file}: holds {type(content).__name__}; a study is a mapping of keys to values"
        )
    return content


def _place(file: Path, problem: MarkedYAMLError) -> str:
    return f"{file}:{problem.problem_mark.line + 1}" if problem.problem_mark else str(file)


def _first_sentence(problem: MarkedYAMLError) -> str:
    return (
        str(problem.problem or problem.context or "unreadable")
        .splitlines()[0]
        .split(" with value ")[0]
    )


def _message(problem: Mapping[str, Any], file: Path) -> str:
    if problem["loc"][-1:] == ("[key]",):
        return f"{_position(problem['loc'][:-1], file)}the name {problem['input']!r} is not allowed; allowed: {NAME_RULE}"
    location = tuple(problem["loc"])
    key = ".".join(str(part) for part in location)
    place = _position(location, file)
    _, allowed = _expected(location)
    if problem["type"] == "extra_forbidden":
        parent, _ = _expected(location[:-1])
        keys = list(parent.model_fields) if parent else []
        near = difflib.get_close_matches(str(location[-1]), keys, n=1)
        hint = (
            f"did you mean {'.'.join(map(str, (*location[:-1], near[0])))}?"
            if near
            else f"allowed here: {', '.join(keys)}"
        )
        return f"{place}unknown key {key}; {hint}"
    if problem["type"] == "missing":
        return f"{place}{key} is missing; allowed: {allowed}"
    if problem["type"] == "value_error" and isinstance(problem["input"], dict | BaseModel):
        return f"{place}{key + ': ' if key else ''}{problem['ctx']['error']}"
    value = problem["input"]
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    if isinstance(value, bool) or value is None:
        shown = {True: "true", False: "false", None: "null"}[value]
    elif isinstance(value, float) and not math.isfinite(value):
        shown = str(value)
    return f"{place}{key} is {shown}; allowed: {allowed}"


def _expected(location: tuple[Any, ...]) -> tuple[type[Part] | None, str]:
    """What stands at ``location`` of a study: the part with its keys, if it is one, and what is
    allowed there in words.
    """
    annotation: Any = Study
    text = ""
    for step in location:
        part = _part_in(annotation)
        if part is not None and step in part.model_fields:
            annotation = part.model_fields[step].annotation
            text = part.model_fields[step].description or _described(annotation) or ""
        elif get_origin(annotation) is dict:
            annotation = get_args(annotation)[1]
    part = _part_in(annotation)
    return part, f"the keys {', '.join(part.model_fields)}" if part else text


def _part_in(annotation: Any) -> type[Part] | None:
    choices = (annotation, *get_args(annotation)) if get_origin(annotation) is not dict else ()
    return next(
        (kind for kind in choices if isinstance(kind, type) and issubclass(kind, Part)), None
    )


def _described(annotation: Any) -> str | None:
    """The description inside a type such as ``LearningRate | None``."""
    extras = [extra for kind in get_args(annotation) for extra in getattr(kind, "__metadata__", ())]
    return next(
        (extra.description for extra in extras if getattr(extra, "description", None)), None
    )


def _position(location: tuple[Any, ...], file: Path) -> str:
    """``file:line: `` of the deepest part of ``location`` that is in the file."""
    node: Node | None = YAML(typ="safe", pure=True).compose(file.read_text("utf-8"))
    line = 1
    for part in location:
        step = _child(node, part)
        if step is None:
            break
        line, node = step
    return f"{file}:{line}: "


def _child(node: Node | None, part: Any) -> tuple[int, Node] | None:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return key.start_mark.line + 1, value
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None
