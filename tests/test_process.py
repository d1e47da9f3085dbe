import json
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ruamel.yaml import YAML

from lora_replication.errors import (
    DataError,
    EnvironmentProblem,
    IncompleteError,
    ParameterError,
    ReplicationError,
)
from lora_replication.process import QUIET, SECONDS_TO_STOP, STATUS_VARIABLE, run_command
from tests.process_tree import is_running, soon
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


def test_start_and_end_are_not_spent_on_looking_for_garbage():
    talk = """
import atexit, gc, sys
from lora_replication.process import run_command
looked = []
gc.callbacks.append(lambda phase, info: looked.append(phase))
atexit.register(lambda: print(len(looked), gc.get_count()[0] < 1000 < gc.get_freeze_count()))
kept = []
sys.exit(run_command(lambda: kept.extend([number] for number in range(40_000)), "x"))
"""
    ended = subprocess.run([sys.executable, "-c", talk], capture_output=True, text=True, check=True)
    assert ended.stdout == "0 True\n"


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
import sys, time
from lora_replication.process import run_command
def wait():
    print("ready", flush=True)
    time.sleep(60)
sys.exit(run_command(wait, "train"))
"""

HEARS_HANG_UPS = "import signal; signal.signal(signal.SIGHUP, signal.SIG_DFL)"
"""Under nohup, a process that starts the tests has it ignored."""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.fault(4, 5)
def test_a_signal_stops_cleanly_with_its_code(number, code):
    with subprocess.Popen(
        [sys.executable, "-c", HEARS_HANG_UPS + WAIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, message = process.communicate(timeout=60)
    assert process.returncode == code
    assert (
        message
        == f"train: stopped by signal {number}; everything finished is kept, run again to continue\ntrain: exit code {code}\n"
    )


def test_a_stop_that_is_swallowed_ends_the_process_all_the_same():
    stubborn = WAIT.replace(
        """    print("ready", flush=True)
    time.sleep(60)""",
        """    try:
        print("ready", flush=True)
        time.sleep(60)
    except BaseException:
        time.sleep(60)""",
    )
    with subprocess.Popen(
        [sys.executable, "-c", stubborn], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        _, message = process.communicate(timeout=10)
    assert process.returncode == 143
    assert message == f"stopped by signal 15, without an end of its own in {SECONDS_TO_STOP} s\n"


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    with subprocess.Popen(
        ["nohup", sys.executable, "-c", WAIT],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 143


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_quietly(lines):
    talk = f"import sys\nfrom lora_replication.process import run_command\nsys.exit(run_command(lambda: print('line\\n' * {lines}), 'x'))"
    with subprocess.Popen(
        [sys.executable, "-c", talk], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.close()
        message = process.stderr.read()
    assert (process.returncode, message) == (141, "")


@pytest.mark.parametrize("bug", [BrokenPipeError("a socket"), ZeroDivisionError()])
def test_a_bug_is_not_swallowed(bug):
    def fail():
        raise bug

    with pytest.raises(type(bug)):
        run_command(fail, "train")


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


@pytest.mark.parametrize(
    ("start", "variables"),
    [
        ("process.die_with_parent(signal.SIGKILL)", {}),
        (
            "import threading; threading.Thread(target=process.watch_parent, args=(os.getppid(), signal.SIGKILL), daemon=True).start()",
            {},
        ),
        ("pass", {"DVC_STAGE": "train"}),
    ],
)
def test_a_child_ends_with_its_parent(start, variables, tmp_path):
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    arguments = [sys.executable, "-c", parent, CHILD.format(start=start)]
    with subprocess.Popen(
        arguments,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        child = int(process.stdout.readline())
        assert is_running(child)
        process.kill()
        assert soon(lambda: not is_running(child), 5)


def test_what_a_person_starts_outlives_its_parent():
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    clean = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"}
    with subprocess.Popen(
        [sys.executable, "-c", parent, CHILD.format(start="pass")],
        env=clean,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        time.sleep(1.5)
        assert is_running(child)
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.fault(6)
def test_a_stage_ends_when_dvc_is_killed(shell, tmp_path):
    (tmp_path / "stage.py").write_text(
        CHILD.format(start="pathlib.Path('pid').write_text(str(os.getpid()))").replace(
            "import os,", "import pathlib, os,"
        )
    )
    own = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"]
    starts = {stage["cmd"].partition(" python ")[0] for stage in own.values()}
    command = f"{' '.join(starts)} {shlex.quote(sys.executable)} -u stage.py"
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": {"wait": {"cmd": command}}}))
    quiet = (
        os.environ
        | QUIET
        | {"DVC_SITE_CACHE_DIR": str(tmp_path / "site"), "SHELL": shutil.which(shell)}
    )
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], cwd=tmp_path, env=quiet, check=True)
    with subprocess.Popen(
        [*dvc, "repro"],
        cwd=tmp_path,
        env=quiet,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert soon(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text(), 60)
        stage = int((tmp_path / "pid").read_text())
        process.kill()
        process.wait()
        assert soon(lambda: not is_running(stage), 5)
