"""A study from its files to its report: ``dvc repro`` in its folder, stopped as a whole."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from lora_replication.data.manifest import MANIFEST
from lora_replication.doctor import device
from lora_replication.encoders import locate_encoder
from lora_replication.errors import (
    DataError,
    EnvironmentProblem,
    IncompleteError,
    ParameterError,
    ReplicationError,
)
from lora_replication.files import expanded, only_writer, project_root, write_whole
from lora_replication.machine import GIT
from lora_replication.plan import progress
from lora_replication.process import QUIET, STATUS_VARIABLE, run_group
from lora_replication.reading import PARAMS, read_study, study_folder
from lora_replication.record import PREDICTIONS, RECORD, checked_file, read_records, write_record
from lora_replication.study import Study
from lora_replication.tracking.store import VARIABLE, resolved
from lora_replication.workspace import Workspace

DVC_LOCK = "dvc.lock"

IN_USE = Path(".dvc/tmp/rwlock")
"""Where each DVC at work writes its PID beside the paths that it reads and writes."""

SITE_CACHE_VARIABLE = "DVC_SITE_CACHE_DIR"
"""DVC's own; names the folder of the caches that it keeps next to a project."""

NEXT_STEPS = """next:
  make ui                           all runs in MLflow
  lora-replication doctor article   ready for the article?"""

DVC = """
import json, logging, os, signal, sys
from pathlib import Path
from lora_replication.process import STATUS_VARIABLE, die_with_parent
die_with_parent(signal.SIGKILL)
from dvc.cli import main
from dvc.ui import ui

verbose = sys.argv.pop(1) == "verbose"
status = Path(os.environ[STATUS_VARIABLE])

def tell(record):
    if record.levelno >= logging.ERROR and not status.exists():
        words, cause = [record.getMessage()], record.exc_info and record.exc_info[1]
        while cause:
            words.append(str(cause))
            cause = cause.__cause__
        message = ": ".join(filter(None, words))
        status.write_text(json.dumps({"exit_code": 1, "message": message}))
    return verbose

if not verbose:
    ui.write = lambda *words, **options: None
for handler in logging.getLogger("dvc").handlers:
    handler.addFilter(tell)
sys.exit(main(sys.argv[1:]))
"""
"""DVC that does not outlive us, and tells its own errors as a stage does; else it says nothing but
where it is asked to. Its stages do not outlive it, and stop cleanly."""


def run_study(
    name: str,
    *,
    from_published: bool = False,
    without_grid: bool = False,
    verbose: bool = False,
    as_json: bool = False,
) -> None:
    """Bring the study ``name`` up to date: ``dvc repro`` in its folder.

    Args:
        from_published: take the runs that are published next to its report as done.
        without_grid: leave out the grid; the report is then a partial one.
        verbose: show what DVC says.
        as_json: print what the report says as JSON; what stages print goes to stderr.

    Raises:
        EnvironmentProblem: another process is at this study, or the device that it asks for is
            missing.
        ReplicationError: with the message and exit code of the stage that failed.
        Stopped: a signal stopped it.
    """
    root = project_root()
    study = read_study(name, root)
    _check_device(study)
    expanded("~")  # DVC and MLflow need a home folder, and fail without a word on what to do
    workspace = Workspace(study, root)
    pipeline = (study_folder(name, root) / "dvc.yaml").relative_to(root)
    targets = [f"{pipeline}:train"] if without_grid else [str(pipeline)]
    with only_writer(workspace.state / "run.lock"), _scratch_lock(workspace, root, pipeline.parent):
        if from_published:
            _take_published(workspace, Workspace.published(study, root))
        # A workspace of its own, as it keeps what it has read, and stages may write that anew.
        options = forget_undone(Workspace(study, root), root / pipeline.parent)
        status, output = workspace.state / "status.json", sys.stderr if as_json else None
        _repro(root, [*options, *targets], status, output, verbose=verbose)
    from lora_replication.report import build  # pandas takes a second
    from lora_replication.report.tables import terminal_table

    if without_grid:
        build.build_report(workspace, workspace.report, allow_partial=True)
    results = build.read_results(workspace.report)
    text = f"\n{terminal_table(results)}\nreport: {workspace.report / 'report.html'}\n{NEXT_STEPS}"
    print(results.to_json().decode() if as_json else text)


def _take_published(workspace: Workspace, published: Workspace) -> None:
    """Copy what is recorded next to the report to where it is missing, each record last."""
    for source, record in read_records(published.runs):
        folder = workspace.folder(record.asked)
        if not (folder / RECORD).exists():
            if (source / PREDICTIONS).is_file():
                file = checked_file(source, record, PREDICTIONS)
                write_whole(folder / PREDICTIONS, file.read_bytes())
            write_record(record, folder)


def _check_device(study: Study) -> None:
    """Before hours of preparation rather than after them. Raises ``EnvironmentProblem``."""
    state, text = device(study, Path())
    if state == "warning":
        print(f"warning: {text}", file=sys.stderr)
    if state == "problem":
        raise EnvironmentProblem(f"{study.study}: {text}")


@contextmanager
def _scratch_lock(workspace: Workspace, root: Path, folder: Path) -> Iterator[None]:
    """Keep ``dvc.lock`` of a study whose report git ignores out of the work tree between starts.

    DVC refuses a lock that git ignores, and what ran here must not show as a change of the project.
    """
    lock, kept = root / folder / DVC_LOCK, workspace.state / DVC_LOCK
    ignored = [*GIT, "check-ignore", "--quiet", f"{workspace.report}/"]
    is_scratch = False
    with suppress(OSError):  # no git
        done = subprocess.run(ignored, cwd=root, capture_output=True, check=False)  # noqa: S603
        is_scratch = done.returncode == 0
    if is_scratch and kept.is_file() and not lock.exists():
        shutil.copy(kept, lock)
    try:
        yield
    finally:
        if is_scratch and lock.is_file():
            shutil.move(lock, kept)


def _repro(
    root: Path, targets: list[str], status: Path, output: TextIO | None, *, verbose: bool
) -> None:
    environment = _environment(root, status)
    status.unlink(missing_ok=True)
    dvc = [sys.executable, "-c", DVC, "verbose" if verbose else "quiet"]
    _make_private(Path(environment[SITE_CACHE_VARIABLE]))
    if not _knows_its_scm(root):
        run_group([*dvc, "config", "--local", "core.no_scm", "true"], root, environment)
    forget_killed(root)
    if code := run_group([*dvc, "repro", *targets], root, environment, output):
        raise _failure(status, code)


def forget_undone(workspace: Workspace, folder: Path) -> list[str]:
    """Take out of ``dvc.lock`` in ``folder`` what it calls done and the records do not.

    DVC writes down the parameters that it finds after a stage, not those that the stage has read,
    and it looks into neither an encoder's folder nor a table. A stage that runs again skips what
    is recorded.

    Returns options for ``dvc repro``: none, or not to take stale data out of its cache of runs.
    Raises ``DataError`` where the lock, the encoder or a record is damaged.
    """
    from lora_replication.data.prepare import is_prepared

    content, study = check_lock(folder), workspace.study
    if not (content and (workspace.data / MANIFEST).is_file()):
        return []
    is_stale = bool(workspace.manifest.differences(study))
    is_there = not study.model.path or expanded(study.model.path).is_dir()
    if is_there and (study.model.path or study.data.source == "table"):
        is_stale |= not is_prepared(study, locate_encoder(study.model), workspace.data)
    missing = [] if is_stale else progress(workspace).missing
    undone = {f"train@{r.name}" if r.role == "method" else "gridsearch" for r in missing}
    undone |= {"prepare"} if is_stale else set()
    page = workspace.report / "results.json"
    if page.is_file() and page.stat().st_mtime_ns < (folder / PARAMS).stat().st_mtime_ns:
        undone |= {"report"}  # edited after its last look at them, before DVC's
    if undone & content["stages"].keys():
        content["stages"] = {k: v for k, v in content["stages"].items() if k not in undone}
        text = io.StringIO()
        YAML(pure=True).dump(content, text)
        write_whole(folder / DVC_LOCK, text.getvalue().encode())
    return ["--no-run-cache"] if is_stale else []


def check_lock(folder: Path) -> dict[str, Any]:
    """The content of ``dvc.lock`` in ``folder``; nothing where there is none.

    Without it DVC takes each stage up again, and a stage runs nothing that is recorded. Raises
    ``DataError`` where it is cut, badly merged or something else.
    """
    file = folder / DVC_LOCK
    if not file.exists():
        return {}
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from voluptuous import Invalid

    try:
        content = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
        stages = COMPILED_LOCKFILE_SCHEMA(content)["stages"].values()
        entries = [entry for stage in stages for entry in (*stage["deps"], *stage["outs"])]
        is_whole = all(len(entry["md5"] or "") >= 32 for entry in entries)
    except (YAMLError, UnicodeDecodeError, Invalid, KeyError):
        is_whole = False
    if not is_whole:
        raise DataError(
            f"{file}: not whole, as after a crash or a bad merge; run git checkout {DVC_LOCK} "
            "where git keeps it, else delete it; then run again: no recorded run is trained again"
        )
    return dict(content)


def forget_killed(folder: Path) -> None:
    """Remove the marks of DVCs that are gone from ``folder``.

    A killed one leaves them, perhaps half written, and DVC takes whatever has its PID for it:
    another process, or its own remains that nobody has waited for.
    """
    with suppress(FileNotFoundError):
        marks = (folder / IN_USE).read_text("utf-8")
        if not any(_works_in(folder, int(pid)) for pid in re.findall(r'"pid": (\d+),', marks)):
            (folder / IN_USE).unlink()


def _works_in(folder: Path, pid: int) -> bool:
    import psutil

    try:  # DVC may be started below its folder
        return Path(psutil.Process(pid).cwd()).is_relative_to(folder.resolve())
    except psutil.AccessDenied:  # of another user; it may be one
        return True
    except psutil.NoSuchProcess:  # remains count as none
        return False


def _make_private(site_cache: Path) -> None:
    """Open DVC's site cache to its owner alone: DVC lets everybody write there, and unpickles."""
    try:
        site_cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        site_cache.chmod(0o700)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{site_cache}: can't be made private ({problem.strerror}); "
            f"set {SITE_CACHE_VARIABLE} to a folder of yours"
        ) from None


def _knows_its_scm(root: Path) -> bool:
    """Whether DVC will find git: an unpacked archive of the project has none, and DVC must know."""
    if any((above / ".git").exists() for above in (root, *root.parents)):
        return True
    configs = [root / ".dvc" / name for name in ("config", "config.local")]
    return any("no_scm" in config.read_text("utf-8") for config in configs if config.is_file())


def _failure(status: Path, code: int) -> ReplicationError:
    """The error that the failed stage wrote down, or DVC's own, or of its death."""
    told: dict[str, Any] = {"exit_code": 1, "message": "its message is above"}
    with suppress(OSError, ValueError):
        told = json.loads(status.read_text("utf-8"))
    for kind in (ParameterError, DataError, EnvironmentProblem, IncompleteError):
        if kind.exit_code == told["exit_code"]:
            return kind(told["message"])
    if told["exit_code"] > 128:  # by somebody else than us
        return IncompleteError(f"{told['command']} was {told['message']}")
    killed = re.search(r"'([^']+)'.*exited with -(\d+)", told["message"], re.DOTALL)
    if killed or code < 0:
        name = signal.Signals(int(killed[2]) if killed else -code).name
        return IncompleteError(
            f"{f'stage {killed[1]}' if killed else 'DVC'} was killed by {name}"
            f"{', often by the system when memory runs out' if name == 'SIGKILL' else ''}; "
            "what is finished is kept, run again to continue (a smaller train.batch_size or "
            "execution.pack takes less memory)"
        )
    return ReplicationError(f"dvc repro ended with {code}: {told['message']}")


def _environment(root: Path, status: Path) -> dict[str, str]:
    """For DVC and its stages: our Python first, telemetry off, DVC's site cache private."""
    from lora_replication.data.imdb import ARCHIVE_VARIABLE

    site_cache = {SITE_CACHE_VARIABLE: str(root / ".dvc" / "site-cache")}
    environment = QUIET | site_cache | os.environ
    path = os.environ.get("PATH", "")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{path}"
    # The stages run in another folder.
    if archive := environment.get(ARCHIVE_VARIABLE):
        environment[ARCHIVE_VARIABLE] = str(expanded(archive).absolute())
    if environment.get(VARIABLE, "").strip():
        environment[VARIABLE] = resolved("")
    environment[STATUS_VARIABLE] = str(status)
    return environment
