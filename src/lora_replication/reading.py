"""From a file to a study: read in DVC's dialect (YAML 1.2, so ``5e-5`` is a number), checked.

All problems of a study are reported at once, each with its file and line.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from lora_replication.errors import ParameterError
from lora_replication.study import METHOD_RULE, Part, Study, expanded
from lora_replication.tracking.address import absolute

MOST_BYTES, MOST_CHARACTERS, DEEPEST, MOST_PROBLEMS = 100_000, 2_000, 9, 50
"""Of a file, which usually has 5,000; of a value; levels of mappings and lists; lines of a message."""

Location = tuple[str | int, ...]


def load_study(file: Path) -> Study:
    """Read the study in ``file``; relative paths in it are taken from the file's folder.

    Raises:
        ParameterError: with every problem found, one line each: file, line, key, value, what is
            allowed.
    """
    text = _read_text(file)
    content = _plain_values(text, file)
    try:
        study = Study.model_validate(content)
    except ValidationError as problems:
        with_lines = YAML(pure=True).load(text)
        found = problems.errors(include_url=False)[:MOST_PROBLEMS]
        lines = {_position(each["loc"], file, with_lines) + _message(each) for each in found}
        raise ParameterError("\n".join(sorted(lines))) from None
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


def _read_text(file: Path) -> str:
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise ParameterError(f"{file}: has {size:,} bytes; allowed: at most {MOST_BYTES:,}")
        return file.read_text("utf-8")
    except OSError as problem:
        raise ParameterError(
            f"{file}: can't be read ({problem.strerror}); a study is a params.yaml, "
            "that of the article is in the project's folder"
        ) from None
    except UnicodeDecodeError as problem:
        raise ParameterError(f"{file}: not in UTF-8: {problem}") from None


def _plain_values(text: str, file: Path) -> dict[str, Any]:
    """The content of plain YAML; aliases, which can name more than memory holds, are refused."""
    try:
        _refuse_extras(text, file)
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as problem:
        mark = getattr(problem, "problem_mark", None)
        place = f"{file}:{mark.line + 1}" if mark else str(file)
        reason = str(getattr(problem, "problem", None) or problem).splitlines()[0]
        remedy = "; write each key once" if isinstance(problem, DuplicateKeyError) else ""
        raise ParameterError(
            f"{place}: not plain YAML 1.2: {reason.split(' with value ')[0]}{remedy}"
        ) from None
    if not isinstance(content, dict):
        raise ParameterError(
            f"{file}: holds {type(content).__name__}; a study is a mapping of keys to values"
        )
    return content


def _refuse_extras(text: str, file: Path) -> None:
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        place = f"{file}:{event.start_mark.line + 1}"
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        extra = getattr(event, "anchor", None) or getattr(event, "tag", None)
        if extra or depth > DEEPEST:
            raise ParameterError(
                f"{place}: not plain YAML 1.2: {extra or 'lists in lists'}; allowed: no anchor (&),"
                f" alias (*) or tag (!), at most {DEEPEST} levels"
            )
        if (size := len(getattr(event, "value", ""))) > MOST_CHARACTERS:
            raise ParameterError(f"{place}: has {size:,} characters; allowed: {MOST_CHARACTERS:,}")


def _message(problem: Mapping[str, Any]) -> str:
    """The problem in words: key, value, what is allowed."""
    location, kind, value = tuple(problem["loc"]), problem["type"], problem["input"]
    key = ".".join(map(str, location))
    if location[-1:] == ("[key]",):
        return f"the name {_shown(value)} is not allowed; allowed: {METHOD_RULE}"
    if kind == "extra_forbidden":
        return f"unknown key {key}; {_hint(location)}"
    _, allowed = _expected(location)
    if kind == "missing":
        return f"{key} is missing; allowed: {allowed}"
    if kind == "value_error" and isinstance(value, dict | BaseModel):
        return f"{key + ': ' if key else ''}{problem['ctx']['error']}"
    return f"{key} is {_shown(value)}; allowed: {allowed}"


def _shown(value: object) -> str:
    """As in YAML, where it differs from Python, and not too long."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _hint(location: Location) -> str:
    parent, _ = _expected(location[:-1])
    keys = list(parent.model_fields) if parent else []
    word = str(location[-1])
    if near := difflib.get_close_matches(word, keys):
        # A slip changes the length by little: "rpot" is "root", though "report" has its letters.
        meant = max(near, key=lambda key: _alike(word, key) - abs(len(key) - len(word)) / 20)
        return f"did you mean {'.'.join(map(str, (*location[:-1], meant)))}?"
    return f"allowed here: {', '.join(keys)}"


def _alike(word: str, key: str) -> float:
    return difflib.SequenceMatcher(None, word, key).ratio()


def _expected(location: Location) -> tuple[type[Part] | None, str]:
    """The part with keys at ``location`` of a study, if it is one, and what is allowed there."""
    annotation: Any = Study
    text = ""
    for step in location:
        part = _part_in(annotation)
        if part is not None and step in part.model_fields:
            field = part.model_fields[str(step)]
            annotation = field.annotation
            text = field.description or _described(annotation)
        elif get_origin(annotation) in (dict, list):
            annotation = get_args(annotation)[-1]
            text = _described(annotation)
    part = _part_in(annotation)
    return part, f"the keys {', '.join(part.model_fields)}" if part else text


def _part_in(annotation: Any) -> type[Part] | None:
    choices = (annotation, *get_args(annotation)) if get_origin(annotation) is not dict else ()
    return next(
        (kind for kind in choices if isinstance(kind, type) and issubclass(kind, Part)), None
    )


def _described(annotation: Any) -> str:
    """What a type allows, in words; of ``X | None`` what X allows."""
    if annotation is bool:
        return "true or false"
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(get_args(annotation))}"
    if get_origin(annotation) is list:
        return f"a list of at least one, none twice, each {_described(get_args(annotation)[0])}"
    for extra in getattr(annotation, "__metadata__", ()):
        if text := getattr(extra, "description", None):
            return str(text)
    return next((text for kind in get_args(annotation) if (text := _described(kind))), "")


def _position(location: Location, file: Path, content: Any) -> str:
    """``file:line: `` of the deepest part of ``location`` that is in the file."""
    line = 1
    for step in location:
        if isinstance(content, CommentedMap) and step in content:
            line = content.lc.key(step)[0] + 1
        elif isinstance(content, CommentedSeq) and isinstance(step, int) and step < len(content):
            line = content.lc.item(step)[0] + 1
        else:
            break
        content = content[step]
    return f"{file}:{line}: "
