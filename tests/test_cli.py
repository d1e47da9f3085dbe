import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("lora-replication")


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=30, check=False)


def test_help_is_fast_and_names_every_command():
    best = 9.0
    for _ in range(3):
        started = time.monotonic()
        done = call("--help")
        best = min(best, time.monotonic() - started)
    assert done.returncode == 0
    assert all(
        re.search(rf"^    {command}\s", done.stdout, re.MULTILINE) for command in ("run", "report", "train", "predict", "published", "sync")
    )
    assert best < 0.5


def test_the_articles_switches_are_offered_under_its_names():
    told = call("train", "--help").stdout
    for switch in ("lora_r", "lora_alpha", "lora_query", "lora_key", "lora_value", "lora_projection", "lora_mlp", "lora_head"):
        assert f"--{switch} " in told
    assert "--method" in told
    assert "--seed" in told
    assert "--study" in told


@pytest.mark.parametrize("value", ["yes", "1", ""])
def test_a_switch_is_true_or_false(value):
    done = call("train", "--lora_key", value)
    assert done.returncode == 2
    assert f"argument --lora_key: is {value!r}; allowed: True, False" in done.stderr


def test_a_missing_command_is_told():
    done = call()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
