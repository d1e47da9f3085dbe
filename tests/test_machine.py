import getpass
import json
import socket
import subprocess
from datetime import datetime
from pathlib import Path

import pytest
import torch

from lora_replication import machine


@pytest.mark.fault(33)
def test_the_time_is_utc():
    assert datetime.fromisoformat(machine.utc_now()).utcoffset().total_seconds() == 0


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git checkout in which the module seems to lie."""
    for command in (["init", "-q"], ["config", "user.email", "a@b"], ["config", "user.name", "n"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "machine.py").write_text("")
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    subprocess.run(["git", "commit", "-qm", "m"], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    return tmp_path


@pytest.mark.fault(35)
def test_a_clean_checkout_a_dirty_one_a_detached_head_and_none(checkout, monkeypatch):
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=checkout, check=True, capture_output=True, text=True
    ).stdout.strip()
    assert machine.git_state() == (head, False)
    subprocess.run(["git", "checkout", "-q", "--detach"], cwd=checkout, check=True)
    (checkout / "untracked").touch()
    assert machine.git_state() == (head, False)
    (checkout / "machine.py").write_text("changed")
    assert machine.git_state() == (head, True)
    monkeypatch.setattr(machine, "__file__", str(checkout.parent / "machine.py"))
    assert machine.git_state() == (None, None)


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


def test_versions_and_sizes_are_real():
    assert machine.versions()["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert machine.cores() >= 1
    assert machine.memory_bytes() > machine.peak_memory_bytes("cpu") > 50 * 2**20


def test_peak_memory_grows_with_what_is_held():
    before = machine.peak_memory_bytes("cpu")
    held = bytearray(before + 100 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    assert machine.peak_memory_bytes("cpu") >= before + 50 * 2**20


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_left_to_the_model_to_tell():
    machine.reset_peak_memory("cuda")
    assert machine.gpu_name("cuda") is None


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
