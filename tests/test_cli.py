import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

COMMAND = Path(sys.executable).with_name("lora-replication")


def call(*arguments: str, **more: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [COMMAND, *arguments],
        env=os.environ | more,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_help_is_fast_and_names_every_command():
    best = 9.0
    for _ in range(3):
        started = time.monotonic()
        done = call("--help")
        best = min(best, time.monotonic() - started)
    assert done.returncode == 0
    assert all(
        re.search(rf"^    {command}\s", done.stdout, re.MULTILINE)
        for command in ("run", "report", "train", "predict", "published", "sync")
    )
    assert best < 0.5


def test_the_articles_switches_are_offered_under_its_names():
    told = call("train", "--help").stdout
    for switch in (
        "lora_r",
        "lora_alpha",
        "lora_query",
        "lora_key",
        "lora_value",
        "lora_projection",
        "lora_mlp",
        "lora_head",
    ):
        assert f"--{switch} " in told
    assert "--method" in told
    assert "--seed" in told
    assert "--study" in told


@pytest.mark.parametrize("value", ["yes", "1", ""])
def test_a_switch_is_true_or_false(value):
    done = call("train", "--lora_key", value)
    assert done.returncode == 2
    assert f"argument --lora_key: is {value!r}; allowed: True, False" in done.stderr


def test_the_switches_defaults_are_told():
    told = " ".join(call("train", "--help").stdout.split())
    assert "--lora_r LORA_R rank (default: 8)" in told
    assert "factor of the low-rank term (default: 16.0)" in told


@pytest.mark.parametrize("given", [["--lora_r", "8"], ["--lora_key", "False"]])
def test_a_method_and_switches_exclude_each_other(given):
    done = call("train", "--study", "tiny", "--method", "full", *given)
    assert done.returncode == 2
    assert f"--method full and {given[0]} exclude each other" in done.stderr


def test_predicting_on_another_device_is_offered_with_what_it_computes_in():
    told = " ".join(call("predict", "--help").stdout.split())
    assert (
        "--device {cpu,cuda} the run's own where not given; on cpu a run of fp16-mixed predicts in fp32"
        in told
    )


def test_a_path_from_the_home_folder_is_meant_so(tmp_path):
    done = call("predict", "~/run", "a text", HOME=str(tmp_path))
    assert f"{tmp_path}/run/record.json: there is no such record" in done.stderr


def test_a_missing_command_is_told():
    done = call()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
