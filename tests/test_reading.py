"""Which studies there are, and where; what a study holds is tested in ``test_study``."""

import shutil
import subprocess
import sys

import pytest

from lora_replication import reading
from lora_replication.errors import EnvironmentProblem, IncompleteError, ParameterError
from lora_replication.files import project_root, write_whole
from lora_replication.reading import read_study, study_folder, study_names
from tests.projects import ROOT, add_study, tree


@pytest.fixture
def root(tmp_path):
    """A project with the studies ``article`` and ``small``."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    add_study(tmp_path, "small")
    return tmp_path


@pytest.mark.parametrize("place", [".", "studies", "studies/small"])
def test_the_project_is_found_from_below(root, monkeypatch, place):
    monkeypatch.chdir(root / place)
    assert project_root() == root


def test_elsewhere_the_project_that_was_installed_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_root() == ROOT
    monkeypatch.setattr("lora_replication.files.__file__", str(tmp_path / "a/b/c/d.py"))
    with pytest.raises(EnvironmentProblem, match="is not in a checkout of the project"):
        project_root()


def test_a_study_is_a_folder_of_its_name_and_the_articles_the_root(root):
    assert study_names(root) == ["article", "small"]
    assert study_folder("article", root) == root
    assert study_folder("small", root) == root / "studies" / "small"
    with pytest.raises(ParameterError, match="study is 'other'; allowed: article, small"):
        study_folder("other", root)
    add_study(root, "renamed", study="small")
    with pytest.raises(ParameterError, match="study is 'small'; allowed: 'renamed'"):
        read_study("renamed", root)


def test_relative_paths_are_of_the_studys_folder_and_the_database_is_the_projects(root):
    add_study(root, "own", data={"source": "folder", "path": "texts"})
    study = read_study("own", root)
    assert study.data.path == str(root / "studies" / "own" / "texts")
    assert study.tracking.uri == f"sqlite:///{root}/mlflow.db"


@pytest.mark.parametrize("what", ["parameters", "code"])
def test_what_is_edited_while_a_stage_works_is_not_noted_as_read(root, monkeypatch, what):
    monkeypatch.setattr(reading, "__file__", str(root / "package/reading.py"))
    is_told = pytest.raises(IncompleteError, match="changed meanwhile; run again")
    params = root / "studies/small/params.yaml"
    with reading.unchanged(params):
        pass
    with is_told, reading.unchanged(params):
        if what == "parameters":
            add_study(root, "small", title="Another")
        else:
            write_whole(root / "package/loop.py", b"")


BAD = """
import sys
from lora_replication.pipeline import run_study
from lora_replication.process import run_command
code = run_command(lambda: run_study("bad"), "run")
print(sorted({"torch", "transformers", "mlflow", "dvc", "pandas"} & set(sys.modules)))
sys.exit(code)
"""


@pytest.mark.fault(21)
def test_a_bad_study_ends_with_2_and_nothing_is_loaded_or_written_for_it(root):
    add_study(root, "bad", train={"epochs": 0})
    before, command = tree(root), [sys.executable, "-c", BAD]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (2, "[]")
    assert "train.epochs is 0; allowed: a whole number from 1 to 1000" in done.stderr
    assert done.stderr.endswith("run: exit code 2\n")
    assert tree(root) == before
