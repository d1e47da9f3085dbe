import getpass
import json
import socket
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from lora_replication import machine


def test_nothing_says_who_or_on_which_host():
    told = json.dumps(
        [machine.versions(), machine.cpu_name(), machine.platform_name(), machine.gpu_name("cpu")]
    )
    for private in (socket.gethostname(), str(Path.home()), f"/{getpass.getuser()}/"):
        assert private not in told


@pytest.mark.parametrize(
    ("text", "features", "in_bf16"),
    [
        ("flags\t\t: sse2 avx512f avx512_bf16\n", ["avx512_bf16", "avx512f"], True),
        ("flags\t\t: avx2 amx_bf16\n\nflags\t\t: avx2 amx_bf16\n", ["amx_bf16", "avx2"], True),
        ("Features\t: asimd bf16 i8mm\n", ["asimd", "bf16"], True),
        ("flags\t\t: avx2 sse2\nmodel name\t: some bf16 chip\n", ["avx2"], False),
    ],
)
def test_a_processors_features_are_read_from_its_flags(
    tmp_path, monkeypatch, text, features, in_bf16
):
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.cpu_features() == []  # where the system has no such file
    assert not machine.multiplies_bf16()
    (tmp_path / "cpuinfo").write_text(text)
    assert machine.cpu_features() == features
    assert machine.multiplies_bf16() is in_bf16


@pytest.mark.parametrize(
    ("device", "is_there", "answer", "lost"),
    [
        ("cuda", True, RuntimeError("CUDA error: an illegal memory access"), True),
        ("cuda", True, None, False),
        ("cuda", False, RuntimeError("no driver"), False),
        ("cpu", True, RuntimeError("not asked"), False),
    ],
)
def test_a_gpu_is_lost_when_it_is_there_and_answers_no_more(
    monkeypatch, device, is_there, answer, lost
):
    def synchronize():
        if answer:
            raise answer

    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert machine.gpu_is_lost(device) is lost


@pytest.mark.fault(35)
def test_git_is_absent_clean_detached_or_dirty(tmp_path, monkeypatch):
    def git(*words):
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
        return done.stdout.decode().strip()

    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    assert machine.git_state() == (None, None)
    (tmp_path / "machine.py").write_text("")
    git("init", "-q")
    git("add", ".")
    git("-c", "user.email=a@b", "-c", "user.name=n", "commit", "-qm", "m")
    head = git("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # of another user's checkout
    assert machine.git_state() == (head, False)
    monkeypatch.delenv("GIT_TEST_ASSUME_DIFFERENT_OWNER")
    git("checkout", "-q", "--detach")
    (tmp_path / "untracked").touch()
    assert machine.git_state() == (head, False)
    (tmp_path / "machine.py").write_text("changed")
    assert machine.git_state() == (head, True)
    monkeypatch.setenv("PATH", "")
    assert machine.git_state() == (None, None)


@pytest.mark.fault(33)
def test_time_is_utc_and_versions_and_sizes_are_real():
    assert datetime.fromisoformat(machine.utc_now()).utcoffset().total_seconds() == 0
    assert machine.versions()["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert machine.cores() >= 1
    assert machine.memory_bytes() > machine.peak_memory_bytes("cpu") > 50 * 2**20
    before = machine.peak_memory_bytes("cpu")
    held = bytearray(before + 100 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    assert machine.peak_memory_bytes("cpu") >= before + 50 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is the process's")
def test_what_an_earlier_run_has_freed_is_not_in_the_peak_of_the_next():
    machine.reset_peak_memory("cpu")
    before = machine.peak_memory_bytes("cpu")
    kept = [np.ones(10_000) for _ in range(2_000)]
    del kept[:-1]  # the last one keeps what is below it in the process
    machine.reset_peak_memory("cpu")
    assert machine.peak_memory_bytes("cpu") < before + 50 * 2**20
