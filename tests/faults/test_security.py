"""The security checklist, as far as files can show it; the rest is tested with its modules."""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
from inspect import signature

import psutil
import pytest
from jinja2 import Environment
from ruamel.yaml import YAML

from lora_replication.allowed import NAME_RULE
from lora_replication.process import QUIET
from lora_replication.reading import load_study
from lora_replication.report import words
from lora_replication.report.rendering import _environment as page_environment
from lora_replication.study import Study
from tests.process_tree import descendants, soon
from tests.projects import ROOT, environment

SOURCES = sorted(
    file for folder in ("src", "stages", "supply_chain") for file in (ROOT / folder).rglob("*.py")
)
NODES = [node for file in SOURCES for node in ast.walk(ast.parse(file.read_text("utf-8")))]
CALLS = [
    (ast.unparse(node.func), {each.arg or "**": ast.unparse(each.value) for each in node.keywords})
    for node in NODES
    if isinstance(node, ast.Call)
]
"""Every call in the project: its name with dots, and its keywords."""

FORBIDDEN = {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}
"""Reading what these wrote can run what somebody else wrote."""

FORBIDDEN_CALLS = {
    "torch.load", "torch.save", "torch.export.load", "torch.jit.load", "os.system", "os.popen",
    "eval", "yaml.load", "archive.extract", "Tuner.restore",
}  # fmt: skip

RUNS_A_USERS_METHOD = ROOT / "src/lora_replication/training/methods/registry.py"
"""The one place that may call ``exec``: of the file that a study names, by its sha256."""

FROM_THE_HUB = (
    "snapshot_download", "hf_hub_download", "dataset_info", "try_to_load_from_cache",
    "from_pretrained",
)  # fmt: skip


def test_nothing_that_runs_code_from_a_file_or_a_shell_is_imported_or_called():
    names = [node.module or "" for node in NODES if isinstance(node, ast.ImportFrom)]
    names += [alias.name for n in NODES if isinstance(n, ast.Import) for alias in n.names]
    assert not {name.split(".")[0] for name in names} & FORBIDDEN
    executing = [f for f in SOURCES if re.search(r"\bexec\(", f.read_text("utf-8"))]
    assert executing == [RUNS_A_USERS_METHOD]
    for name, keywords in CALLS:
        assert name not in FORBIDDEN_CALLS
        assert not name.endswith((".extractall", ".load_from_checkpoint"))
        assert "shell" not in keywords, name
        assert keywords.get("weights_only", "True") == "True", name


def test_what_comes_from_the_hub_is_pinned_and_brings_no_code():
    for name, keywords in CALLS:
        last = name.rsplit(".", 1)[-1]
        assert last not in FROM_THE_HUB or "revision" in keywords, name
        if last == "from_pretrained":
            assert (keywords["trust_remote_code"], keywords["use_safetensors"]) == ("False", "True")


def test_templates_escape_and_yaml_is_read_by_a_safe_loader():
    """The loader with line numbers is ruamel's for round trips, a safe one too."""
    assert [name for name, keywords in CALLS if "loader" in keywords] == ["kind"]
    assert issubclass(signature(words.environment).parameters["kind"].default, Environment)
    assert page_environment().autoescape is True
    loaders = [keywords for name, keywords in CALLS if name == "YAML"]
    assert loaders
    for keywords in loaders:
        assert (keywords["pure"], keywords.get("typ", "'safe'")) == ("True", "'safe'")


def test_only_a_methods_name_and_the_root_reach_the_shell_of_dvc():
    """DVC quotes what it unpacks of ``${item}``; root has two values."""
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    used = {word for stage in stages.values() for word in re.findall(r"\$\{[^}]*\}", stage["cmd"])}
    assert used == {"${item}", "${root}"}


NAMES = [
    "a;b", "$(id)", "a b", "`id`", "a|b", "../a", "a/b", ".a", "", "a" * 65, "a\nb", "é", "=cmd()",
    "<b>",
]  # fmt: skip


@pytest.mark.fault(40)
@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_a_shell_a_path_or_a_page_could_mistake_is_refused(name):
    content = load_study(ROOT / "params.yaml").model_dump(mode="json")
    methods = content["methods"] | {name: content["methods"]["full"]}
    for change in ({"study": name}, {"methods": methods}):
        with pytest.raises(ValueError, match=r"String should match pattern"):
            Study.model_validate(content | change)
    assert "1 to 64" in NAME_RULE


SECRETS = (
    r"hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY|xox[bp]-[0-9A-Za-z-]{20,}"
)


def test_no_secret_is_in_the_repository():
    command = ["git", "grep", "-I", "-l", "-E", SECRETS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode > 1:
        pytest.skip("not a git checkout")
    assert done.stdout == ""
    assert "/.env" in (ROOT / ".gitignore").read_text().split()


def test_telemetry_and_pickles_of_mlflow_are_switched_off_and_it_is_said():
    recipe = (ROOT / "Makefile").read_text("utf-8")
    for name in (
        "DVC_NO_ANALYTICS", "MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK",
        "RAY_USAGE_STATS_ENABLED", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    ):  # fmt: skip
        assert f"export {name} ?= {QUIET[name]}" in recipe
    assert QUIET["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert "## Telemetry" in (ROOT / "docs" / "usage.md").read_text("utf-8")


def test_the_tracking_ui_listens_on_loopback_alone(tmp_path):
    """The recipe of ``make ui``, as it is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    recipe = ["make", "--no-print-directory", "-n", "ui", f"PORT={port}"]
    shown = subprocess.run(recipe, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = shown.splitlines()[-1].split()
    start = next(place for place, word in enumerate(words) if word.endswith("python"))
    with subprocess.Popen(
        [sys.executable, *words[start + 1 :]], cwd=tmp_path, env=environment(ROOT),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as server:  # fmt: skip

        def listening() -> set[tuple[str, int]]:
            found = descendants(server.pid, "net_connections")
            every = [psutil.Process(server.pid).net_connections(), *found.values()]
            listen = [one for many in every for one in many if one.status == psutil.CONN_LISTEN]
            return {tuple(one.laddr) for one in listen}

        try:
            assert soon(lambda: ("127.0.0.1", port) in listening(), 180)
            assert {ip for ip, _ in listening()} == {"127.0.0.1"}
        finally:
            os.killpg(server.pid, signal.SIGKILL)
