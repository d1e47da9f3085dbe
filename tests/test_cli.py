import json
import re
from functools import partial

import pytest

from lora_replication import __version__
from lora_replication.cli import cli
from tests.projects import ROOT, run

call = partial(run, ROOT)

USAGE = ROOT / "docs" / "usage.md"


def test_without_arguments_it_shows_the_help_with_first_steps():
    done = call()
    assert done.returncode == 0
    assert "lora-replication run demo" in done.stdout
    assert all(f"\n  {command} " in done.stdout for command in cli.commands)
    assert max(map(len, call(COLUMNS="60").stdout.splitlines())) <= 60
    assert call("--version").stdout == f"lora-replication, version {__version__}\n"
    name, shell = re.search(r"`eval .*\((\w+)=(\w+) lora-replication\)", USAGE.read_text()).groups()
    assert "complete -o nosort -F" in call(**{name: shell}).stdout


@pytest.mark.parametrize("command", cli.commands)
def test_every_help_has_an_example_and_fits_a_narrow_terminal(command):
    shown = call(command, "--help", COLUMNS="60", TERM="xterm-256color", LC_ALL="C").stdout
    assert f"Example: lora-replication {command}" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_studies_are_listed_with_their_titles():
    titles = json.loads(call("list", "--json").stdout)
    assert next(iter(titles)) == "article"
    assert titles["demo"] == "MiniLM on generated reviews, not IMDb (demonstration)"
    assert re.search(rf"^demo +{re.escape(titles['demo'])}$", call("list").stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?; see lora-replication --help"),
        (["run"], "Missing argument 'STUDY'; see lora-replication run --help"),
        (["run", "none"], "study is 'none'; allowed: article, demo,"),
        (["train", "--lora_q", "True"], "No such option '--lora_q'"),
        (["train", "--lora-mlpp"], "No such option '--lora-mlpp'"),
        (["train", "--lora_key", "maybe"], "'maybe' is not a valid boolean"),
        (["train", "--method", "full", "--lora_key", "False"], "full and --lora-key exclude each"),
        (["train", "--method", "full", "--lora-r", "8"], "full and --lora-rank exclude each other"),
    ],
)
def test_a_wrong_call_is_refused_with_one_message(arguments, message):
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("lora-replication: ") == 2
    assert done.stderr.endswith("\nlora-replication: exit code 2\n")
