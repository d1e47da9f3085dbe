"""DVC's own commands, as its users know them, in a study's folder and in a fresh clone."""

import json
import shutil
import subprocess

import pytest

from tests.projects import changed, checkout, commit, dvc, metrics, places, run
from tests.study_files import read_params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A project whose small study has run, with its lock and report committed."""
    root = checkout(tmp_path_factory.mktemp("dvc"))
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    commit(root, "small: report and lock")
    return root


def ok(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def set_rate(root, rate: str) -> None:
    file = root / "studies/small/params.yaml"
    text = file.read_text()
    assert "learning_rate: 0.01" in text
    file.write_text(text.replace("learning_rate: 0.01", f"learning_rate: {rate}"))


def test_it_is_up_to_date_and_shows_one_row_of_metrics_a_method_and_figures(root):
    assert "up to date" in ok(dvc(root, "status", "dvc.yaml"))
    shown = metrics(dvc(root, "metrics", "show", "--json"))
    assert {"full", "last_layers"} <= shown.keys()
    assert shown["full"]["runs"] == 1
    table = ok(dvc(root, "metrics", "show"))
    assert max(map(len, table.splitlines())) <= 150
    page = ok(dvc(root, "plots", "show")).strip().removeprefix("file://")
    content = (root / "studies/small/dvc_plots/index.html").read_text()
    assert page.endswith("index.html")
    assert "accuracy_by_method" in content
    assert changed(root) == []


def test_a_change_is_compared_with_what_was_committed(root):
    set_rate(root, "2.0e-2")
    ok(dvc(root, "repro"))
    parameters = json.loads(ok(dvc(root, "params", "diff", "--json")))
    rate = parameters["params.yaml"]["train.learning_rate"]
    assert (rate["old"], rate["new"]) == (0.01, 0.02)
    compared = json.loads(ok(dvc(root, "metrics", "diff", "--json", "--all")))
    assert any(name.endswith("full.json") for name in compared)
    ok(dvc(root, "plots", "diff"))
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=root, check=True)
    ok(dvc(root, "checkout", "dvc.yaml", "--force"))
    assert "up to date" in ok(dvc(root, "status", "dvc.yaml"))


def test_an_encoder_folder_among_the_dependencies_is_looked_into(root):
    params, graph = root / "studies/small/params.yaml", root / "studies/small/dvc.yaml"
    shared = read_params(params)["model"]["path"]
    encoder = shutil.copytree(shared, root / "encoder")
    params.write_text(params.read_text().replace(shared, str(encoder)))
    graph.write_text(graph.read_text().replace("deps:", "deps:\n      - ${model.path}", 1))
    ok(dvc(root, "commit", "--force", "prepare"))
    assert "up to date" in ok(dvc(root, "status", "prepare"))
    (encoder / "vocab.txt").write_text("[PAD]\n")
    assert "modified" in ok(dvc(root, "status", "prepare"))
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=root, check=True)
    shutil.rmtree(encoder)


def test_parameters_that_no_command_has_checked_run_nothing_in_a_shell(root):
    params = root / "studies/small/params.yaml"
    text = params.read_text()
    params.write_text(text.replace("../..", "$(touch X)"))
    assert "No such file or directory" in dvc(root, "repro", "prepare").stderr
    params.write_text(text.replace("last_layers", '"$(touch X)"'))
    shown = dvc(root, "repro", "--dry", "--force", "train").stdout
    assert "train.py --method '$(touch X)'\n" in shown
    assert not list(root.rglob("X"))
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=root, check=True)


def test_experiments_set_parameters_and_wait_in_a_queue(root):
    ok(dvc(root, "exp", "run", "--set-param", "train.learning_rate=0.03", "--name", "faster"))
    shown = ok(dvc(root, "exp", "show", "--csv"))
    assert "faster" in shown
    assert "0.03" in shown
    subprocess.run(["git", "checkout", "-q", "--", "."], cwd=root, check=True)
    queued = ["exp", "run", "--queue", "-S", "train.learning_rate=0.04", "--name", "queued"]
    ok(dvc(root, *queued))
    assert "queued" in ok(dvc(root, "queue", "status"))
    ok(dvc(root, "exp", "remove", "--queue"))
    ok(dvc(root, "checkout", "dvc.yaml", "--force"))


def test_a_clone_pulls_what_was_pushed_and_runs_nothing(root, tmp_path):
    ok(dvc(root, "remote", "add", "--default", "shelf", str(tmp_path / "shelf")))
    commit(root, "a remote")
    ok(dvc(root, "push", "dvc.yaml"))
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    assert (clone / "studies/small/dvc.lock").is_file()
    ok(dvc(clone, "pull", "dvc.yaml"))
    assert len(places(clone)) == 5
    done = ok(dvc(clone, "repro"))
    assert "Running stage" not in done
    assert changed(clone) == []
