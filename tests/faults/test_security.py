"""The security checklist, as far as a look at the files can hold it; what runs is tested beside its
module.
"""

import ast
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from lora_replication.process import QUIET
from lora_replication.reading import load_study
from lora_replication.report.rendering import _environment as page_environment
from lora_replication.study import NAME_RULE, Study
from tests.process_tree import descendants
from tests.projects import ROOT, environment

SOURCES = sorted(
    file for folder in ("src", "stages", "supply_chain") for file in (ROOT / folder).rglob("*.py")
)

FORBIDDEN = {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}
"""Reading what these wrote can run what somebody else wrote."""

FORBIDDEN_CALLS = {
    "torch.load", "torch.save", "torch.export.load", "torch.jit.load", "os.system", "os.popen", "eval", "exec", "yaml.load",
    "tarfile.TarFile.extractall", "archive.extractall", "archive.extract", "Tuner.restore",
}  # fmt: skip


def nodes(kind: type) -> Iterator[tuple[Path, ast.AST]]:
    for file in SOURCES:
        yield from (
            (file, node)
            for node in ast.walk(ast.parse(file.read_text("utf-8")))
            if isinstance(node, kind)
        )


def calls() -> Iterator[tuple[str, dict[str, ast.expr]]]:
    """Every call in the project: its name with dots, and its keywords."""
    for _, call in nodes(ast.Call):
        yield (
            ast.unparse(call.func),
            {keyword.arg or "**": keyword.value for keyword in call.keywords},
        )


def test_nothing_that_runs_code_from_a_file_is_imported():
    for file, node in (*nodes(ast.Import), *nodes(ast.ImportFrom)):
        names = (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
        )
        assert not {name.split(".")[0] for name in names} & FORBIDDEN, file


def test_nothing_that_runs_code_from_a_file_or_a_shell_is_called():
    found = {name for name, _ in calls()}
    assert not found & FORBIDDEN_CALLS
    assert not [name for name in found if name.endswith((".extractall", ".load_from_checkpoint"))]
    for name, keywords in calls():
        assert "shell" not in keywords, name
        assert "weights_only" not in keywords or ast.unparse(keywords["weights_only"]) == "True", (
            name
        )


def test_what_comes_from_the_hub_is_pinned_and_brings_no_code():
    for name, keywords in calls():
        last = name.rsplit(".", 1)[-1]
        if last in (
            "snapshot_download",
            "hf_hub_download",
            "dataset_info",
            "try_to_load_from_cache",
            "from_pretrained",
        ):
            assert "revision" in keywords, name
        if last == "from_pretrained":
            assert ast.unparse(keywords["trust_remote_code"]) == "False"
            assert ast.unparse(keywords["use_safetensors"]) == "True"


def test_templates_escape():
    makers = [name for name, keywords in calls() if name == "Environment" and "loader" in keywords]
    assert len(makers) == 1
    assert page_environment().autoescape is True


def test_yaml_is_read_by_a_safe_loader():
    """The one with line numbers is ruamel's loader for round trips, a safe one too."""
    loaders = [keywords for name, keywords in calls() if name == "YAML"]
    assert loaders
    for keywords in loaders:
        assert ast.unparse(keywords["pure"]) == "True"
        assert "typ" not in keywords or ast.unparse(keywords["typ"]) == "'safe'"


def test_only_a_methods_name_and_the_root_reach_the_shell_of_dvc():
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"]
    used = {word for stage in stages.values() for word in re.findall(r"\$\{[^}]*\}", stage["cmd"])}
    assert used == {"${item}", "${root}"}, (
        "DVC quotes what it unpacks of ${item}; root has two values"
    )


@pytest.mark.fault(40)
@pytest.mark.parametrize(
    "name",
    [
        "a;b",
        "$(id)",
        "a b",
        "`id`",
        "a|b",
        "../a",
        "a/b",
        ".a",
        "",
        "a" * 65,
        "a\nb",
        "é",
        "=cmd()",
        "<b>",
    ],
)
@pytest.mark.parametrize("part", ["study", "method"])
def test_a_name_that_a_shell_a_path_or_a_page_could_mistake_is_refused(name, part):
    content = load_study(ROOT / "params.yaml").model_dump(mode="json")
    if part == "study":
        content["study"] = name
    else:
        content["methods"][name] = content["methods"]["full"]
    with pytest.raises(ValueError, match=r"String should match pattern"):
        Study.model_validate(content)
    assert "1 to 64" in NAME_RULE


def test_the_linter_holds_the_rules_on_security():
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    ignored = [
        *lint["ignore"],
        *(rule for rules in lint["per-file-ignores"].values() for rule in rules),
    ]
    assert not {"S", "S2", "S202", "S3", "S301", "S5", "S506", "S6", "S602", "S7", "S701"} & set(
        ignored
    )
    excused = r"noqa.*S(202|301|506|602|701)"
    excusing = [file.name for file in SOURCES if re.search(excused, file.read_text("utf-8"))]
    assert excusing == ["words.py"]  # plain text is no HTML; the page's own templates escape


SECRETS = r"hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|AKIA[0-9A-Z]{16}|-----BEGIN [A-Z ]*PRIVATE KEY|xox[bp]-[0-9A-Za-z-]{20,}"


def test_no_secret_is_in_the_repository():
    done = subprocess.run(
        ["git", "grep", "-I", "-l", "-E", SECRETS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode > 1:
        pytest.skip("not a git checkout")
    assert done.stdout == ""
    assert "/.env" in (ROOT / ".gitignore").read_text().split()


def test_telemetry_is_switched_off_and_said_so():
    recipe = (ROOT / "Makefile").read_text("utf-8")
    for name in (
        "DVC_NO_ANALYTICS",
        "MLFLOW_DISABLE_TELEMETRY",
        "HF_HUB_DISABLE_TELEMETRY",
        "DO_NOT_TRACK",
        "RAY_USAGE_STATS_ENABLED",
    ):
        assert name in QUIET
        assert f"export {name} ?=" in recipe
    assert "## Telemetry" in (ROOT / "docs" / "usage.md").read_text("utf-8")


def test_mlflow_reads_no_pickles():
    assert QUIET["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert "export MLFLOW_ALLOW_PICKLE_DESERIALIZATION ?= false" in (ROOT / "Makefile").read_text(
        "utf-8"
    )


def test_the_tracking_ui_listens_on_loopback_alone(tmp_path):
    """The recipe of ``make ui``, as it stands."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    recipe = subprocess.run(
        ["make", "--no-print-directory", "-n", "ui", f"PORT={port}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    words = recipe.stdout.splitlines()[-1].split()
    start = next(place for place, word in enumerate(words) if word.endswith("python"))
    with subprocess.Popen(
        [sys.executable, *words[start + 1 :]],
        cwd=tmp_path,
        env=environment(ROOT),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as server:
        try:
            end = time.monotonic() + 60
            listening: set[tuple[str, int]] = set()
            while ("127.0.0.1", port) not in listening and time.monotonic() < end:
                time.sleep(0.5)
                family = [
                    psutil.Process(server.pid).net_connections(),
                    *descendants(server.pid, "net_connections").values(),
                ]
                listening = {
                    tuple(one.laddr)
                    for many in family
                    for one in many
                    if one.status == psutil.CONN_LISTEN
                }
            assert ("127.0.0.1", port) in listening
            assert {ip for ip, _ in listening} == {"127.0.0.1"}
        finally:
            os.killpg(server.pid, signal.SIGKILL)
