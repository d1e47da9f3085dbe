import json
import os
import signal
import subprocess
import sys
import time

import pytest

from lora_replication.errors import DataError, EnvironmentProblem, IncompleteError, ParameterError, ReplicationError
from lora_replication.processes import QUIET, STATUS_VARIABLE, only_writer, run_command


@pytest.fixture(autouse=True)
def restored_signals():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("kind", "code"), [(ParameterError, 2), (DataError, 3), (EnvironmentProblem, 4), (IncompleteError, 5), (ReplicationError, 1)]
)
def test_an_error_becomes_its_message_and_exit_code(kind, code, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv(STATUS_VARIABLE, str(tmp_path / "status.json"))

    def fail():
        raise kind("train.epochs is 0")

    assert run_command(fail, "train") == code
    assert capsys.readouterr().err == f"train: train.epochs is 0\ntrain: exit code {code}\n"
    assert json.loads((tmp_path / "status.json").read_text()) == {"command": "train", "exit_code": code, "message": "train.epochs is 0"}


def test_success_is_silent_and_writes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv(STATUS_VARIABLE, str(tmp_path / "status.json"))
    assert run_command(lambda: None, "train") == 0
    assert capsys.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def test_a_bug_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: print(1 / 0), "train")


WAIT = """
import sys, time
from lora_replication.processes import run_command
def wait():
    print("ready", flush=True)
    time.sleep(60)
sys.exit(run_command(wait, "train"))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_cleanly_with_its_code(number, code):
    with subprocess.Popen([sys.executable, "-c", WAIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        process.send_signal(number)
        _, told = process.communicate(timeout=10)
    assert time.monotonic() - started < 5
    assert process.returncode == code
    assert told == f"train: stopped by signal {number}; everything finished is kept, run again to continue\ntrain: exit code {code}\n"


def test_a_hang_up_that_nohup_ignores_stays_ignored():
    with subprocess.Popen(["nohup", sys.executable, "-c", WAIT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
    assert process.returncode == 143


@pytest.mark.parametrize("lines", [1, 100_000])
def test_output_that_nobody_reads_ends_quietly(lines):
    talk = f"import sys\nfrom lora_replication.processes import run_command\nsys.exit(run_command(lambda: print('line\\n' * {lines}), 'x'))"
    with subprocess.Popen([sys.executable, "-c", talk], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert (process.returncode, told) == (141, "")


def test_a_broken_pipe_of_another_kind_is_a_bug():
    def fail():
        raise BrokenPipeError("a socket")

    with pytest.raises(BrokenPipeError):
        run_command(fail, "train")


def test_telemetry_is_off_unless_the_user_says_otherwise(monkeypatch):
    for name in QUIET:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    seen = {}
    run_command(lambda: seen.update(os.environ), "train")
    assert (seen["DVC_NO_ANALYTICS"], seen["MLFLOW_DISABLE_TELEMETRY"], seen["HF_HUB_DISABLE_TELEMETRY"]) == ("1", "true", "1")
    assert seen["DO_NOT_TRACK"] == "0"


HOLD = """
import sys, time
from pathlib import Path
from lora_replication.processes import only_writer
with only_writer(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_with_the_first_ones_pid_and_a_dead_one_leaves_no_lock(tmp_path):
    lock = tmp_path / "a b" / "x.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        with pytest.raises(EnvironmentProblem, match=f"locked by process {holder.pid};"), only_writer(lock):
            pytest.fail("both hold the lock")
        holder.kill()
        holder.wait()
    with only_writer(lock):
        assert lock.read_text() == str(os.getpid())


@pytest.mark.parametrize("place", ["a file/x.lock", "a folder"])
def test_a_lock_that_cannot_be_made_is_told(tmp_path, place):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a folder").mkdir()
    with pytest.raises(EnvironmentProblem, match="can't be opened"), only_writer(tmp_path / place):
        pytest.fail("there is no such lock")
