import shutil
from pathlib import Path

import pytest

from lora_replication import workspace
from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.params import load_study
from lora_replication.workspace import open_workspace, project_root, study_files

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def project(tmp_path):
    """A copy of what a workspace is made from, in a folder with a space."""
    root = tmp_path / "a project"
    for name in ("params.yaml", "dvc.yaml"):
        root.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    shutil.copytree(ROOT / "studies", root / "studies")
    (root / "stages").mkdir()
    (root / "src").mkdir()
    return root


def test_the_root_is_found_from_anywhere_inside(project, monkeypatch):
    (project / "docs" / "deep").mkdir(parents=True)
    monkeypatch.chdir(project / "docs" / "deep")
    assert project_root() == project


def test_outside_a_checkout_the_installed_one_is_used_or_the_lack_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert project_root() == ROOT
    monkeypatch.setattr(workspace, "__file__", str(tmp_path / "a/b/c.py"))
    with pytest.raises(EnvironmentProblem, match="not in a checkout of the project"):
        project_root()


def test_the_articles_study_runs_in_the_project_itself(project):
    folder, study = open_workspace("article", project)
    assert folder == project
    assert study.is_the_articles
    assert not (project / "build").exists()


def test_another_study_gets_a_folder_with_merged_parameters_and_links(project):
    folder, study = open_workspace("tiny", project)
    assert folder == project / "build" / "tiny"
    assert load_study(folder / "params.yaml") == study == load_study(project / "params.yaml", project / "studies" / "tiny.yaml")
    assert (folder / "stages").resolve() == project / "stages"
    assert (folder / "src").resolve() == project / "src"
    assert (folder / "dvc.yaml").read_bytes() == (project / "dvc.yaml").read_bytes()


def test_opening_again_takes_changes_over(project):
    open_workspace("tiny", project)
    file = project / "studies" / "tiny.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 4"))
    folder, _ = open_workspace("tiny", project)
    assert load_study(folder / "params.yaml").train.epochs == 4


def test_paths_of_a_study_are_relative_to_the_project(project):
    (project / "studies" / "mine.yaml").write_text("study: mine\ntitle: x\ndata: {source: archive, path: archive.tar.gz}\n")
    folder, _ = open_workspace("mine", project)
    assert load_study(folder / "params.yaml").data.path == str(project / "archive.tar.gz")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("none", None, "study is 'none'; allowed: article, demo, minilm-small, tiny"),
        ("../tiny", None, "study is '../tiny'; allowed"),
        ("bad", "study: bad\ntrain: {epochs: 0}\n", r"bad\.yaml:2: train\.epochs is 0"),
        ("other", "study: another\n", "study is 'another'; allowed: 'other'"),
    ],
)
def test_a_bad_study_is_told_before_anything_is_written(project, name, text, message):
    if text:
        (project / "studies" / f"{name}.yaml").write_text(text)
    with pytest.raises(ParameterError, match=message):
        open_workspace(name, project)
    assert not (project / "build").exists()


def test_a_study_is_the_articles_parameters_with_its_own_file_over_them(project):
    assert study_files("article", project) == (project / "params.yaml",)
    assert study_files("demo", project) == (project / "params.yaml", project / "studies" / "demo.yaml")
