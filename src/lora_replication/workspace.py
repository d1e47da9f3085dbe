"""A study other than the article's runs in a folder of its own, ``build/<study>``: one graph serves all, no tracked file changes.

The folder holds the merged ``params.yaml``, a copy of ``dvc.yaml``, links to ``stages`` and ``src``, and a DVC repository without git.
"""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.params import Study, check_study, expanded, load_study, merge_files
from lora_replication.records import Record, write_whole
from lora_replication.tracking.address import database_file

ARTICLE = "article"


def project_root() -> Path:
    """The project's folder: the nearest one upwards from here with ``dvc.yaml`` and ``studies``, else the one this code was installed from.

    Raises:
        EnvironmentProblem: there is none.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "dvc.yaml").is_file() and (folder / "studies").is_dir():
            return folder
    raise EnvironmentProblem(f"{here} is not in a checkout of the project (no dvc.yaml and studies/ here or above); change into one")


def study_files(name: str, root: Path) -> tuple[Path, ...]:
    """The files that make the study ``name``. Raises ``ParameterError`` for an unknown name."""
    if name == ARTICLE:
        return (root / "params.yaml",)
    file = root / "studies" / f"{name}.yaml"
    known = sorted(path.stem for path in (root / "studies").glob("*.yaml"))
    if name not in known:
        raise ParameterError(f"study is {name!r}; allowed: {', '.join([ARTICLE, *known])}")
    return (root / "params.yaml", file)


def read_study(name: str, root: Path) -> tuple[dict[str, Any], Study]:
    """The study ``name``, plain and checked, its relative paths taken from the project's folder. Writes nothing.

    Raises:
        ParameterError: the study is unknown, or asks for what it may not ask for.
    """
    files = study_files(name, root)
    content = merge_files(*files)
    study = check_study(content, *files)
    if study.study != name:
        raise ParameterError(f"{files[-1]}: study is {study.study!r}; allowed: {name!r}, the file's own name")
    content = _with_absolute_paths(content, root)
    return content, check_study(content, *files)


def workspace_folder(name: str, root: Path) -> Path:
    """Where the study ``name`` runs: the project's own folder for the article's study, ``build/<name>`` for another."""
    return root if name == ARTICLE else root / "build" / name


def open_workspace(name: str, root: Path) -> tuple[Path, Study]:
    """Make or update the folder in which the study ``name`` runs; the project's own is taken as it is.

    Raises:
        ParameterError: before anything is written.
        EnvironmentProblem: no home folder is known, or the folder can't be made, or holds something else where a link belongs.
    """
    content, study = read_study(name, root)
    expanded("~")  # DVC and MLflow need a home folder, and fail without a word on what to do
    folder = workspace_folder(name, root)
    if folder != root:
        _write_params(folder / "params.yaml", content)
        write_whole(folder / "dvc.yaml", (root / "dvc.yaml").read_bytes())
        write_whole(folder / ".dvcignore", b"__pycache__/\n")  # Python's bytecode must not look like changed code
        for linked in ("stages", "src"):
            _link(folder / linked, Path("../..") / linked)
    return folder, study


def _link(link: Path, target: Path) -> None:
    try:
        if link.is_symlink() and link.readlink() == target:
            return
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target, target_is_directory=True)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{link}: can't be made a link to {target} ({problem.strerror}); move away what stands there, then run again"
        ) from None


def report_study(name: str, *, allow_partial: bool = False) -> Path:
    """Write the report of the study ``name`` again from the records in its workspace, and give the page's path.

    Args:
        allow_partial: write it also where runs are missing, and print which.

    Raises:
        DataError: nothing has been prepared yet, or the records or predictions are not what they claim to be.
        IncompleteError: some run has no result, and ``allow_partial`` is off; nothing is written.
    """
    from lora_replication.report.build import report_folder
    from lora_replication.report.content import missing_runs

    folder, study = open_workspace(name, project_root())
    summary = report_folder(study, folder, allow_partial=allow_partial)
    if summary.missing:
        print(f"partial: {missing_runs(summary)}")
    return folder / "reports" / name / "report.html"


def report_published(file: Path, folder: Path | None, name: str | None) -> Path:
    """Write the report of the results ``file`` published with the article, and give the page's path.

    Args:
        folder: ``reports/published`` of the project where null.
        name: a study whose grid is set beside the published one, or null.

    Raises:
        DataError: the file is not as the author's script writes it, or the study has no prepared data.
    """
    from lora_replication.report.published.build import build_published_report

    root = project_root()
    folder = folder or root / "reports" / "published"
    confidence = load_study(root / "params.yaml").report.confidence
    if name is None:
        build_published_report(file, folder, confidence)
    else:
        work, study = open_workspace(name, root)
        build_published_report(file, folder, confidence, study=study, records=_cells(work, study))
    return folder / "report.html"


def _cells(work: Path, study: Study) -> list[Record]:
    """The current records of the study's grid."""
    from lora_replication.data.manifest import read_manifest
    from lora_replication.ledger import current_records

    current = current_records(study, read_manifest(work / "data" / study.study), work / "runs")
    return [record for record in current.records if record.asked.role == "cell"]


def sync_all() -> None:
    """Rebuild the tracking mirror from the records of the article's study and of every workspace, and say what was done.

    Each goes to the address that its study names; the article's serves a workspace whose study is gone.
    """
    from lora_replication.tracking import sync

    root = project_root()
    for folder in (root, *sorted((root / "build").glob("*"))):
        is_study = folder != root and (root / "studies" / f"{folder.name}.yaml").is_file()
        for runs in (folder / "runs", folder / "singles"):
            if runs.is_dir():
                _, study = read_study(folder.name if is_study else ARTICLE, root)
                print(f"{runs.relative_to(root)}: {sync(runs, study.tracking)}")


def _with_absolute_paths(content: dict[str, Any], root: Path) -> dict[str, Any]:
    """Paths in a study are relative to the project; the workspace lies deeper, and single runs may start anywhere."""
    named = {part: path for part in ("data", "model") if (path := content[part].get("path"))}
    paths = {part: content[part] | {"path": str(root / expanded(path))} for part, path in named.items()}
    database = database_file(content["tracking"]["uri"])
    if database:
        paths["tracking"] = content["tracking"] | {"uri": f"sqlite:///{root / database}"}
    return content | paths


def _write_params(file: Path, content: dict[str, Any]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as stream:
            yaml = YAML(typ="safe", pure=True)
            yaml.default_flow_style = False
            yaml.representer.sort_base_mapping_type_on_output = False  # the order of methods is that of messages and of results.json
            yaml.dump(content, stream)

    write_whole(file, write)
