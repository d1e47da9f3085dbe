"""What the documentation site is made from besides the pages in this folder.

The reports with their figures, the table of parameters from the schema, and links that lead to
other folders of the repository. MkDocs calls the functions named ``on_...``.
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from urllib.parse import unquote, urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
REPORTS = ("minilm", "minilm-rates", "surface", "variants", "minilm-small", "published")
LOG = logging.getLogger("mkdocs.hooks.docs")
SHOWN = {".html", ".svg", ".csv", ".json", ".tex", ".bib", ".parquet"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the reports, the simulations and the table of parameters."""
    for name in REPORTS:
        folder = ROOT / "reports" / name
        files.append(File.generated(config, f"reports/{name}.md", content=_report(name)))
        for path in sorted(folder.rglob("*")):
            kept = path.parent == folder or path.parent.name in ("figures", "metrics")
            if kept and path.suffix in SHOWN:
                uri = path.relative_to(ROOT).as_posix()
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    for name in ("coverage", "placebo", "early_end"):
        uri = f"benchmarks/results/{name}.md"
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / uri)))
    parameters = "\n".join(_parameters())
    files.append(File.generated(config, "parameters.md", content=parameters))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links that lead out of this folder in the repository lead to the same pages of the site."""
    if page.file.src_uri.startswith("benchmarks/"):
        return markdown.replace("](../README.md)", "](../../statistics.md)")
    linked = re.sub(r"\]\(\.\./reports/([\w-]+)/report\.md\)", r"](reports/\1.md)", markdown)
    return linked.replace("](../benchmarks/results/", "](benchmarks/results/")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of the notebook, which MkDocs leaves as they are, lead to pages of the site."""
    return re.sub(r'href="(\w+)\.md"', r'href="\1.html"', html)


def on_post_build(config: MkDocsConfig) -> None:
    """Warn of each link that leads nowhere in the site; ``--strict`` makes it an error."""
    site = Path(config.site_dir).resolve()
    for page in sorted(site.rglob("*.html")):
        if page.name == "404.html":  # its links are from the root of a server
            continue
        for link in sorted(set(re.findall(r'\b(?:href|src)="([^"]+)"', page.read_text("utf-8")))):
            address = urlsplit(link)
            if address.scheme or not address.path:
                continue
            target = page.parent / unquote(address.path)
            if not (target / "index.html" if target.is_dir() else target).is_file():
                LOG.warning("%s: no file for the link %s", page.relative_to(site), link)


def _report(name: str) -> str:
    """The report in Markdown, its links and figures from one folder up, and the page itself."""
    text = (ROOT / "reports" / name / "report.md").read_text("utf-8")
    text = re.sub(r"\]\((?!https?:|#|\.\./)([^)]+)\)", rf"]({name}/\1)", text)
    title, _, rest = text.partition("\n")
    page = f"[The same report as one page that needs no network]({name}/report.html)"
    return f"{title}\n\n{page}\n{rest}"


def _parameters() -> Iterator[str]:
    from lora_replication.study import Study

    yield "# Parameters\n"
    yield (
        "Every key of a study's `params.yaml`, from the schema that checks it, with the comment "
        "that the studies' own files have. NAME is a name of your choice.\n"
    )
    notes = _comments("studies/minilm-gpu/params.yaml") | _comments("params.yaml")
    notes |= _comments("studies/minilm-rates/params.yaml")
    title = ""
    for section, field in Study.model_fields.items():
        own_title = section if _model(field.annotation) else "The study itself"
        if own_title != title:
            yield f"\n## {own_title}\n\n| key | allowed | default | what it is |"
            yield "| --- | --- | --- | --- |"
        title = own_title
        for key, allowed, default in _rows(section, field):
            yield f"| `{key}` | {allowed} | {default} | {notes.get(key, '')} |"


def _comments(file: str) -> dict[str, str]:
    """By key, such as ``run.seeds``, the comment on its line of a study's file."""
    notes: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (ROOT / file).read_text("utf-8").splitlines():
        found = re.match(r"( *)(\w+):[^#]*(?:# (.*))?", line)
        if found:
            indent, name, note = len(found[1]), found[2], found[3]
            path = [(i, n) for i, n in path if i < indent] + [(indent, name)]
            if note and " | " not in note:
                notes[".".join(n for _, n in path)] = note
    return notes


def _rows(key: str, field: FieldInfo) -> Iterator[tuple[str, str, str]]:
    """(key, allowed, default) of a parameter, or of each below it."""
    is_optional = not (field.is_required() or isinstance(field.default, BaseModel))
    default = f"`{_plain(field.default)}`" if is_optional else "required"
    inner = _model(field.annotation)
    if inner is None:
        yield key, field.description or _allowed(field.annotation), default
        return
    below = f"{key}.NAME" if get_origin(field.annotation) is dict else key
    if field.description or is_optional:
        yield key, field.description or "a mapping, or null", default
    for name, part in inner.model_fields.items():
        yield from _rows(f"{below}.{name}", part)


def _model(kind: Any) -> type[BaseModel] | None:
    """The mapping of known keys that a type is, holds under names, or may be."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    is_known = get_origin(kind) in (dict, Union, UnionType)
    return next((m for part in get_args(kind) if (m := _model(part))), None) if is_known else None


def _allowed(kind: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return ", ".join(f"`{_plain(value)}`" for value in arguments)
    if origin in (Union, UnionType):
        words = [_allowed(part) for part in arguments]
        return ", or ".join(word for word in words if "null" not in words[0] or word != "null")
    if origin in (list, tuple):
        return f"a list, no value twice, of: {_allowed(arguments[0])}"
    for part in getattr(kind, "__metadata__", ()):  # Annotated
        if isinstance(part, FieldInfo) and part.description:
            return part.description
    if hasattr(kind, "__metadata__"):
        return _allowed(arguments[0])
    words = {bool: "`true` or `false`", type(None): "null", str: "text", dict: "a mapping"}
    return words.get(origin or kind, str(kind))


def _plain(value: Any) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)
