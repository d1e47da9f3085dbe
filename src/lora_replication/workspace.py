"""A study other than the article's runs in a folder of its own, ``build/<study>``: one graph serves all, no tracked file changes.

The folder holds the merged ``params.yaml``, a copy of ``dvc.yaml``, links to ``stages`` and ``src``, and a DVC repository without git.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from ruamel.yaml import YAML

from lora_replication.errors import DataError, EnvironmentProblem, IncompleteError, ParameterError, ReplicationError, Stopped
from lora_replication.params import Study, check_study, load_study, merge_files
from lora_replication.processes import QUIET, STATUS_VARIABLE
from lora_replication.records import PREDICTIONS, RECORD, Record, write_whole
from lora_replication.report.terminal import terminal_table

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


def open_workspace(name: str, root: Path) -> tuple[Path, Study]:
    """Make or update the folder in which the study ``name`` runs; the project's own for the article's study.

    Raises:
        ParameterError: before anything is written.
    """
    files = study_files(name, root)
    content = merge_files(*files)
    study = check_study(content, *files)
    if study.study != name:
        raise ParameterError(f"{files[-1]}: study is {study.study!r}; allowed: {name!r}, the file's own name")
    if name == ARTICLE:
        return root, study
    folder = root / "build" / name
    folder.mkdir(parents=True, exist_ok=True)
    _write_params(folder / "params.yaml", _with_absolute_paths(content, root))
    write_whole(folder / "dvc.yaml", (root / "dvc.yaml").read_bytes())
    write_whole(folder / ".dvcignore", b"__pycache__/\n")  # Python's bytecode must not look like changed code
    for linked in ("stages", "src"):
        if (folder / linked).is_symlink():
            (folder / linked).unlink()
        (folder / linked).symlink_to(Path("../..") / linked, target_is_directory=True)
    return folder, study


def run_study(name: str, *, publish: bool = False) -> None:
    """Bring the study ``name`` up to date: ``dvc repro`` in its workspace.

    Args:
        publish: copy its report, records and predictions to ``reports/<study>`` of the project.

    Raises:
        ReplicationError: with the message and exit code of the stage that failed.
        Stopped: a signal stopped it.
    """
    root = project_root()
    folder, study = open_workspace(name, root)
    environment = _environment(root, folder)
    status = Path(environment[STATUS_VARIABLE])
    status.unlink(missing_ok=True)
    dvc = [sys.executable, "-m", "dvc"]
    if not (folder / ".dvc").is_dir() and _wait([*dvc, "init", "--no-scm", "--quiet"], folder, environment):
        raise EnvironmentProblem(f"{folder}: dvc init failed; its message stands above")
    code = _wait([*dvc, "repro"], folder, environment)
    if publish:
        _publish(folder, root, name)
    if code:
        raise _failure(status, code)
    report = folder / "reports" / study.study
    print(f"\n{terminal_table(report / 'table.csv')}\nreport: {report / 'report.html'}")


def report_study(name: str) -> Path:
    """Write the report of the study ``name`` again from the records in its workspace, and give the page's path.

    Raises:
        DataError: nothing has been prepared yet, or the records or predictions are not what they claim to be.
        IncompleteError: some run has no result; the report is written and says so.
    """
    from lora_replication.report.build import report_folder

    folder, study = open_workspace(name, project_root())
    return report_folder(study, folder)


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

    records, _ = current_records(study, read_manifest(work / "data" / study.study), work / "runs")
    return [record for record in records if record.asked.role == "cell"]


def sync_all() -> None:
    """Rebuild the tracking mirror from the records of the article's study and of every workspace, and say what was done."""
    from lora_replication.tracking import sync

    root = project_root()
    os.environ.setdefault(*_tracking_default(root))
    tracking = load_study(root / "params.yaml").tracking
    for folder in (root, *sorted((root / "build").glob("*"))):
        for runs in (folder / "runs", folder / "singles"):
            if runs.is_dir():
                print(f"{runs.relative_to(root)}: {sync(runs, tracking)}")


def _tracking_default(root: Path) -> tuple[str, str]:
    return "MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}"


def _publish(folder: Path, root: Path, name: str) -> None:
    """Copy a report and the records and predictions that it was made from; adapters stay, they are large and can be trained again."""
    if folder != root and (folder / "reports" / name).is_dir():
        shutil.copytree(folder / "reports" / name, root / "reports" / name, dirs_exist_ok=True)
    for file in sorted((folder / "runs" / name).rglob("*")):
        if file.name in (RECORD, PREDICTIONS):
            write_whole(root / "reports" / name / "records" / file.relative_to(folder / "runs" / name), file.read_bytes())


def _wait(command: list[str], folder: Path, environment: dict[str, str]) -> int:
    """Run ``command`` to its end, in a process group of its own.

    A signal reaches the whole group, DVC and its stage, once and as SIGINT: on SIGTERM DVC would leave its stage behind.

    Raises:
        Stopped: a signal came; everything in the group has ended.
    """
    received: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        if not received:
            os.killpg(process.pid, signal.SIGINT)
        received.append(number)

    with subprocess.Popen(command, cwd=folder, env=environment, process_group=0) as process:  # noqa: S603  # fixed words
        before = {number: signal.signal(number, hand_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if received:
        raise Stopped(received[0])
    return code


def _failure(status: Path, code: int) -> ReplicationError:
    """The error that the failed stage wrote down, or DVC's own."""
    with suppress(OSError, ValueError, KeyError):
        told = json.loads(status.read_text("utf-8"))
        for kind in (ParameterError, DataError, EnvironmentProblem, IncompleteError):
            if kind.exit_code == told["exit_code"]:
                return kind(told["message"])
    return ReplicationError(f"dvc repro ended with {code}; its message stands above")


def _environment(root: Path, folder: Path) -> dict[str, str]:
    """For DVC and its stages: our Python first, telemetry off, one MLflow database for all studies, DVC's site cache private."""
    site_cache = folder / ".dvc" / "site-cache"
    environment = QUIET | dict([_tracking_default(root)]) | {"DVC_SITE_CACHE_DIR": str(site_cache)} | os.environ
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if environment.get("IMDB_ARCHIVE"):
        environment["IMDB_ARCHIVE"] = str(Path(environment["IMDB_ARCHIVE"]).expanduser().absolute())  # the stages run in another folder
    environment[STATUS_VARIABLE] = str(root / "build" / "status.json")
    return environment


def _with_absolute_paths(content: dict[str, Any], root: Path) -> dict[str, Any]:
    """Paths in a study are relative to the project; the workspace lies deeper."""
    for part in ("data", "model"):
        if content[part].get("path"):
            content[part]["path"] = str(root / content[part]["path"])
    return content


def _write_params(file: Path, content: dict[str, Any]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as stream:
            yaml = YAML(typ="safe", pure=True)
            yaml.default_flow_style = False
            yaml.dump(content, stream)

    write_whole(file, write)
