"""The project's studies, and how one is read: in DVC's dialect (YAML 1.2, so ``5e-5`` is a number),
and checked. All problems of a study are reported at once, each with its file and line.

A study is a folder with ``params.yaml``; the article's is the project's root.
"""

import difflib
import reprlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import ConstructorError, DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode

from lora_replication.allowed import METHOD_RULE, Part
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.files import expanded, file_digest, project_root
from lora_replication.pins import HUB
from lora_replication.study import MethodParams, Study
from lora_replication.tracking.store import absolute

ARTICLE = "article"
PARAMS = "params.yaml"

MOST_BYTES = 64 * 2**10
"""Of a study's file; the article's has 5,000, and YAML is read in seconds for so many."""

MOST_PROBLEMS = 50
"""Lines of a message."""

Location = tuple[str | int, ...]


def study_names(root: Path) -> list[str]:
    """All studies of the project, the article's first."""
    return [ARTICLE, *sorted(file.parent.name for file in root.glob(f"studies/*/{PARAMS}"))]


def study_folder(name: str, root: Path) -> Path:
    """The folder of the study ``name``. Raises ``ParameterError`` for an unknown name."""
    if name not in study_names(root):
        raise ParameterError(f"study is {name!r}; allowed: {', '.join(study_names(root))}")
    return root if name == ARTICLE else root / "studies" / name


def read_study(name: str, root: Path) -> Study:
    """The study ``name``, checked. Raises ``ParameterError``."""
    folder = study_folder(name, root)
    study = load_study(folder / PARAMS)
    if study.study != name:
        raise ParameterError(
            f"{folder / PARAMS}: study is {study.study!r}; allowed: {name!r}, the folder's name"
        )
    return study


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
    # Stages run in the study's folder, commands anywhere.
    folder = file.absolute().parent
    methods = {name: _method(name, study, file, text) for name in study.methods}
    data, model = (
        part.model_copy(update={"path": str(folder / expanded(part.path))})
        if part.path and not part.path.startswith(HUB)
        else part
        for part in (study.data, study.model)
    )
    uri = absolute(study.tracking.uri, (folder / study.root).resolve())
    tracking = study.tracking.model_copy(update={"uri": uri})
    changed = {"data": data, "model": model, "tracking": tracking, "methods": methods}
    return study.model_copy(update=changed)


@contextmanager
def unchanged(params: Path) -> Iterator[Study]:
    """The study in the file ``params``, for a stage whose outputs do not all say what it has read.

    Raises ``IncompleteError`` where it or the code was changed meanwhile: DVC would note the new.
    """

    def now() -> tuple[Study, list[int]]:
        code = sorted(Path(__file__).parent.rglob("*.*"))
        return load_study(params), [f.stat().st_mtime_ns for f in code if f.suffix != ".pyc"]

    before = now()
    yield before[0]
    if now() != before:
        raise IncompleteError(f"{params} or the code was changed meanwhile; run again")


def _method(name: str, study: Study, file: Path, text: str) -> MethodParams:
    """The method ``name`` with its options checked, its file found and read."""
    method = study.methods[name]
    location: Location = ("methods", name)
    if not (method.file or method.options):
        return method
    from lora_replication.training.methods.registry import plain_options  # torch takes a second

    if method.file:
        path, root = (file.absolute().parent / expanded(method.file)).resolve(), project_root()
        inside = str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
        sha256 = file_digest(path) if path.is_file() else None
        method = method.model_copy(update={"file": inside, "file_sha256": sha256})
    try:
        return method.model_copy(update={"options": plain_options(method)})
    except ValidationError as problems:
        first = problems.errors(include_url=False)[0]
        location = (*location, "options", *first["loc"])
        problem = f"{'.'.join(map(str, location))} is {_shown(first['input'])}; {first['msg']}"
    except ParameterError as found:
        problem = f"methods.{name}.file: {found}"
    place = _position(location, file, YAML(pure=True).load(text))
    raise ParameterError(place + problem)


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


class _Plain(SafeConstructor):
    """Without merge keys: nine levels of nine would make 387 million pairs of a few lines."""

    def flatten_mapping(self, node: MappingNode) -> None:
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                words = "merge keys (<<) are not read, write the keys out"
                raise ConstructorError(None, None, words, key.start_mark)


def _plain_values(text: str, file: Path) -> dict[str, Any]:
    reader = YAML(typ="safe", pure=True)
    reader.Constructor = _Plain
    try:
        content = reader.load(text)
    except (YAMLError, ValueError, RecursionError) as problem:
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
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    try:
        return short.repr(value)
    except ValueError:  # Python writes out no whole number of more than 4,300 digits
        return "a number of thousands of digits"


def _hint(location: Location) -> str:
    parent, _ = _expected(location[:-1])
    keys = list(parent.model_fields) if parent else []
    word = str(location[-1])
    # A slip changes the length by little: "rpot" is "root", though "report" has its letters.
    near = sorted(difflib.get_close_matches(word, keys), key=lambda k: abs(len(k) - len(word)))
    if near:
        return f"did you mean {'.'.join(map(str, (*location[:-1], near[0])))}?"
    return f"allowed here: {', '.join(keys)}"


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
    """What a type allows, in words."""
    if annotation is bool:
        return "true or false"
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(get_args(annotation))}"
    if get_origin(annotation) is list:
        return f"a list of at least one, none twice, each {_described(get_args(annotation)[0])}"
    for extra in getattr(annotation, "__metadata__", ()):
        if text := getattr(extra, "description", None):
            return str(text)
    kinds = get_args(annotation)
    text = next((text for kind in kinds if (text := _described(kind))), "")
    return f"{text}, or null" if NoneType in kinds else text


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
