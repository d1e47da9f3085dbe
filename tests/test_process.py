import io
import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from ruamel.yaml import YAML

from lora_replication.errors import (
    DataError,
    EnvironmentProblem,
    IncompleteError,
    ParameterError,
    ReplicationError,
)
from lora_replication.process import QUIET, SECONDS_TO_STOP, STATUS_VARIABLE, coloured, run_command
from tests.process_tree import is_running, kill_tree, soon
from tests.projects import ROOT


@pytest.fixture(autouse=True)
def restored_signals():
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ParameterError, 2),
        (DataError, 3),
        (EnvironmentProblem, 4),
        (IncompleteError, 5),
        (ReplicationError, 1),
    ],
)
def test_an_error_becomes_its_message_and_exit_code(kind, code, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv(STATUS_VARIABLE, str(tmp_path / "status.json"))

    def fail():
        raise kind("train.epochs is 0")

    assert run_command(fail, "train") == code
    assert capsys.readouterr().err == "", "who started it tells it"
    assert json.loads((tmp_path / "status.json").read_text()) == {
        "command": "train",
        "exit_code": code,
        "message": "train.epochs is 0",
    }


def test_without_somebody_who_tells_it_an_error_is_printed_and_success_is_silent(
    capsys, monkeypatch
):
    monkeypatch.delenv(STATUS_VARIABLE, raising=False)

    def fail():
        raise ParameterError("train.epochs is 0")

    assert run_command(lambda: None, "train") == 0
    assert run_command(fail, "train") == 2
    assert capsys.readouterr().err == "train: train.epochs is 0\ntrain: exit code 2\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has its own ways")
def test_memory_once_taken_is_not_cleared_by_the_system_again():
    talk = """
import resource, sys
from lora_replication.process import run_command

def take():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    content = b"x" * 100_000_000
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

sys.exit(run_command(lambda: print(take() > 1000, take() < 100), "x"))
"""
    ended = subprocess.run([sys.executable, "-c", talk], capture_output=True, text=True, check=True)
    assert ended.stdout == "True True\n"


WAIT = """
import signal, sys, time
from lora_replication.process import run_command
{before}
def wait():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        {caught}
sys.exit(run_command(wait, "train"))
"""

HEARS_HANG_UPS = "signal.signal(signal.SIGHUP, signal.SIG_DFL)"
"""Under nohup, a process that starts the tests has it ignored."""


def stopped(*numbers: int, before: str = HEARS_HANG_UPS, caught: str = "raise") -> tuple[int, str]:
    """Exit code and message of a process that waits and then gets these signals."""
    code = WAIT.format(before=before, caught=caught)
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        for number in numbers:
            process.send_signal(number)
        _, message = process.communicate(timeout=60)
    return process.returncode, message


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.fault(4, 5)
def test_a_signal_stops_cleanly_with_its_code(number, code):
    said = f"stopped by signal {number}; everything finished is kept, run again to continue"
    assert stopped(number) == (code, f"train: {said}\ntrain: exit code {code}\n")


def test_a_stop_that_is_swallowed_ends_the_process_all_the_same():
    said = f"stopped by signal 15, without an end of its own in {SECONDS_TO_STOP} s\n"
    assert stopped(signal.SIGTERM, caught="time.sleep(60)") == (143, said)


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    assert stopped(signal.SIGHUP, signal.SIGTERM, before=ignored)[0] == 143


def waiting_for(code: str) -> subprocess.Popen[str]:
    """A process that waits, as for DVC, for one that runs ``code``."""
    waiting = (
        "import sys\nfrom pathlib import Path\nfrom lora_replication.process import run_group\n"
    )
    waiting += f'run_group([sys.executable, "-c", {code!r}], Path(), {{}})'
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", waiting], stdout=pipe, stderr=pipe, text=True)


DEAF_AT_FIRST = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as DVC while a stage ends by itself just then
print("deaf", flush=True)
time.sleep(1)
signal.signal(signal.SIGINT, signal.default_int_handler)
time.sleep(60)
"""


@pytest.mark.fault(4, 5)
def test_a_stop_that_dvc_does_not_hear_at_the_end_of_a_stage_still_stops_it():
    with waiting_for(DEAF_AT_FIRST) as process:
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=30)
    assert "Stopped" in message
    assert "KeyboardInterrupt" in message, "the child was stopped, not left behind"


HALTED_BY_A_TERMINAL = """
import signal, time
print(signal.getsignal(signal.SIGTTOU) == signal.SIG_IGN, flush=True)
time.sleep(600)
"""


@pytest.mark.fault(4)
def test_ctrl_z_halts_what_it_waits_for_too_and_the_terminal_alone_does_not():
    with waiting_for(HALTED_BY_A_TERMINAL) as process:
        try:
            assert process.stdout.readline() == "True\n", "a line written does not halt it"
            both = [psutil.Process(process.pid), *psutil.Process(process.pid).children()]
            for number, state in ((signal.SIGTSTP, {"stopped"}), (signal.SIGCONT, {"sleeping"})):
                process.send_signal(number)
                assert soon(lambda wanted=state: {one.status() for one in both} == wanted)
        finally:
            kill_tree(process.pid)


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_quietly(lines):
    talk = (
        "import sys\nfrom lora_replication.process import run_command\n"
        f"sys.exit(run_command(lambda: print('line\\n' * {lines}), 'x'))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", talk], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        message = process.stderr.read()
    assert (process.returncode, message) == (141, "")


def test_where_output_is_ascii_other_characters_are_written_out():
    code = "from lora_replication.process import run_command\n"
    code += "run_command(lambda: print('é \\U0001f600 \\udce9'), 'list')"
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
    assert done.stdout == rb"\xe9 \U0001f600 \udce9" + b"\n"


def test_colours_are_for_a_terminal_that_wants_them(monkeypatch):
    with os.fdopen(os.openpty()[1], "w") as terminal:
        assert coloured("x", "red", terminal) == "\x1b[31mx\x1b[0m"
        monkeypatch.setenv("NO_COLOR", "1")
        assert coloured("x", "red", terminal) == coloured("x", "red", io.StringIO()) == "x"


def test_a_bug_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 / 0, "train")


def test_telemetry_is_off_unless_the_user_says_otherwise(monkeypatch):
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    seen = {}
    run_command(lambda: seen.update(os.environ), "train")
    assert (
        seen["DVC_NO_ANALYTICS"],
        seen["MLFLOW_DISABLE_TELEMETRY"],
        seen["HF_HUB_DISABLE_TELEMETRY"],
    ) == ("1", "true", "1")
    assert seen["DO_NOT_TRACK"] == "0"


CHILD = """
import os, signal, sys, time
from lora_replication import process
def wait():
    {start}
    print(os.getpid(), flush=True)
    for _ in range(600):  # a signal that comes just before a sleep is seen after it
        time.sleep(0.1)
sys.exit(process.run_command(wait, "train"))
"""


PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
WATCH = (
    "import threading; threading.Thread(target=process.watch_parent, "
    "args=(os.getppid(), signal.SIGKILL), daemon=True).start()"
)


@pytest.mark.parametrize(
    ("start", "variables", "ends"),
    [
        ("process.die_with_parent(signal.SIGKILL)", {}, True),
        (WATCH, {}, True),
        ("pass", {"DVC_STAGE": "train"}, True),
        ("pass", {}, False),  # what a person starts
    ],
)
def test_a_child_ends_with_its_parent_where_it_should(start, variables, ends):
    clean = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    command = [sys.executable, "-c", PARENT, CHILD.format(start=start)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=clean | variables, text=True, **pipes) as process:
        child = int(process.stdout.readline())
        assert is_running(child)
        process.kill()
        process.wait()
        assert soon(lambda: not is_running(child), 5 if ends else 1.5) is ends
        if not ends:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.fault(6)
def test_a_stage_ends_when_dvc_is_killed(shell, tmp_path):
    script = CHILD.format(start="pathlib.Path('pid').write_text(str(os.getpid()))")
    (tmp_path / "stage.py").write_text(f"import pathlib\n{script}")
    own = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    starts = {stage["cmd"].partition(" python ")[0] for stage in own.values()}
    command = f"{' '.join(starts)} {shlex.quote(sys.executable)} -u stage.py"
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"wait": {"cmd": command}}}))
    own_folder = {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "SHELL": shutil.which(shell)}
    quiet = os.environ | QUIET | own_folder
    dvc, silent = [sys.executable, "-m", "dvc"], subprocess.DEVNULL
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, env=quiet, check=True)
    with subprocess.Popen(
        [*dvc, "repro"], cwd=tmp_path, env=quiet, stdout=silent, stderr=silent
    ) as process:
        assert soon(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 60)
        stage = int((tmp_path / "pid").read_text())
        process.kill()
        process.wait()
        assert soon(lambda: not is_running(stage), 5)
