"""A study from its files to its report: ``dvc repro`` in its workspace, stopped as a whole, with
the exit code of the stage that failed.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType

from lora_replication.dvc_lock import check_lock, forget_killed
from lora_replication.errors import (
    DataError,
    EnvironmentProblem,
    IncompleteError,
    ParameterError,
    ReplicationError,
    Stopped,
)
from lora_replication.files import only_writer
from lora_replication.process import QUIET, STATUS_VARIABLE, stop_signals
from lora_replication.report.terminal import terminal_table
from lora_replication.study import Study, expanded
from lora_replication.tracking import address
from lora_replication.workspace import open_workspace, project_root, read_study, workspace_folder

SITE_CACHE_VARIABLE = "DVC_SITE_CACHE_DIR"
"""DVC's own; names the folder of the caches that it keeps beside a project."""

SECONDS_BETWEEN_INTERRUPTS = 2.0
"""While DVC or a stage goes on after a signal asked both to stop. A stage of ours needs one and
ignores the rest.
"""

DVC = """
import signal, sys
from lora_replication.process import die_with_parent
die_with_parent(signal.SIGKILL)
from dvc.cli import main
sys.exit(main(sys.argv[1:]))
"""
"""DVC that does not outlive us. Its stages do not outlive it, and stop cleanly."""


def run_study(name: str, *, publish: bool = False) -> None:
    """Bring the study ``name`` up to date: ``dvc repro`` in its workspace.

    Args:
        publish: once it is done, replace ``reports/<study>`` of the project by its report, records
            and predictions.

    Raises:
        EnvironmentProblem: another process is at this study, or the device that it asks for is
            missing.
        ReplicationError: with the message and exit code of the stage that failed.
        Stopped: a signal stopped it.
    """
    root = project_root()
    _, study = read_study(name, root)
    _check_device(study)
    state = workspace_folder(name, root) / "build" / "state" / name
    with only_writer(state / "run.lock"):
        folder, study = open_workspace(name, root)
        _repro(folder, state / "status.json")
        if publish:
            from lora_replication.publishing import publish_study  # scipy takes a second

            publish_study(study, folder, root)
    report = folder / "reports" / name
    print(f"\n{terminal_table(report / 'table.csv')}\nreport: {report / 'report.html'}")


def _check_device(study: Study) -> None:
    """Told before hours of preparation rather than after them: what is slow is warned of. Raises
    ``EnvironmentProblem``.
    """
    from lora_replication.doctor import device

    if study.train.device == "cpu" and (finding := device(study, Path())).state == "warning":
        print(f"warning: {finding.told}", file=sys.stderr)
    if study.train.device == "cuda":
        import torch  # takes seconds, so only where a GPU is asked for

        if not torch.cuda.is_available():
            raise EnvironmentProblem(
                f"{study.study}: train.device is cuda, but torch sees no GPU here; set train.device to cpu, or run on a machine with one"
            )


def _repro(folder: Path, status: Path) -> None:
    environment = _environment(folder, status)
    status.unlink(missing_ok=True)
    dvc = [sys.executable, "-c", DVC]
    if not (folder / ".dvc").is_dir():
        if _wait([*dvc, "init", "--no-scm", "--quiet"], folder, environment):
            raise EnvironmentProblem(f"{folder}: dvc init failed; its message stands above")
    elif not _knows_its_scm(folder) and _wait(
        [*dvc, "config", "--local", "core.no_scm", "true"], folder, environment
    ):
        raise EnvironmentProblem(f"{folder}: dvc config failed; its message stands above")
    _make_private(Path(environment[SITE_CACHE_VARIABLE]))
    check_lock(folder)
    forget_killed(folder)
    if code := _wait([*dvc, "repro"], folder, environment):
        raise _failure(status, code)


def _make_private(site_cache: Path) -> None:
    """Open DVC's site cache to its owner alone: DVC would let everybody write there, and unpickles
    what it finds.
    """
    try:
        site_cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        site_cache.chmod(0o700)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{site_cache}: can't be made private ({problem.strerror}); set {SITE_CACHE_VARIABLE} to a folder of yours"
        ) from None


def _knows_its_scm(folder: Path) -> bool:
    """Whether DVC will find git where it expects it: an unpacked archive of the project has none,
    and must be told so once.
    """
    if any((above / ".git").exists() for above in (folder, *folder.parents)):
        return True
    configs = [folder / ".dvc" / name for name in ("config", "config.local")]
    return any("no_scm" in config.read_text("utf-8") for config in configs if config.is_file())


def _wait(command: list[str], folder: Path, environment: dict[str, str]) -> int:
    """Run ``command`` to its end, in a process group of its own.

    A signal reaches the whole group, DVC and its stage, as SIGINT: on any other DVC would leave its
    stage behind. And again until the group has ended: DVC hears none while a stage runs, and begins
    the next one if that stage had just come to its end.

    Raises:
        Stopped: a signal came; everything in the group has ended.
    """
    received: list[int] = []
    groups: list[int] = []
    ended = threading.Event()

    def interrupt() -> None:
        while not ended.is_set():
            with suppress(ProcessLookupError):  # it has ended by itself
                os.killpg(groups[0], signal.SIGINT)
            ended.wait(SECONDS_BETWEEN_INTERRUPTS)

    def begin_to_interrupt() -> None:
        threading.Thread(target=interrupt, name="interrupt", daemon=True).start()

    def hand_on(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if groups and len(received) == 1:
            begin_to_interrupt()

    # Before there is a group: what came in between would find no one to stop it.
    before = {number: signal.signal(number, hand_on) for number in stop_signals()}
    try:
        with subprocess.Popen(command, cwd=folder, env=environment, process_group=0) as process:  # noqa: S603  # fixed words
            groups.append(process.pid)
            if received:
                begin_to_interrupt()
            code = process.wait()
    finally:
        ended.set()
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


def _environment(folder: Path, status: Path) -> dict[str, str]:
    """For DVC and its stages: our Python first, telemetry off, DVC's site cache private, paths as
    they are from here.
    """
    from lora_replication.data.sources import ARCHIVE_VARIABLE

    environment = QUIET | {SITE_CACHE_VARIABLE: str(folder / ".dvc" / "site-cache")} | os.environ
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # The stages run in another folder.
    if environment.get(ARCHIVE_VARIABLE):
        environment[ARCHIVE_VARIABLE] = str(expanded(environment[ARCHIVE_VARIABLE]).absolute())
    if environment.get(address.VARIABLE, "").strip():
        environment[address.VARIABLE] = address.resolved("")
    environment[STATUS_VARIABLE] = str(status)
    return environment
