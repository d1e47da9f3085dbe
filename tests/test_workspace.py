import shutil
from pathlib import Path

import pytest

from lora_replication import workspace
from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.reading import load_study
from lora_replication.workspace import open_workspace, project_root

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
    assert load_study(folder / "params.yaml") == study
    assert (
        list(load_study(folder / "params.yaml").methods)
        == list(study.methods)
        == ["last_layers", "lora_default", "lora_tuned", "full"]
    )
    plain = load_study(project / "params.yaml", project / "studies" / "tiny.yaml")
    assert study.model_copy(update={"tracking": plain.tracking}) == plain
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
    (project / "studies" / "mine.yaml").write_text(
        "study: mine\ntitle: x\ndata: {source: archive, path: archive.tar.gz}\n"
    )
    folder, _ = open_workspace("mine", project)
    assert load_study(folder / "params.yaml").data.path == str(project / "archive.tar.gz")


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{project}/mlflow.db"),
        ("sqlite:///other/mine.db", "sqlite:///{project}/other/mine.db"),
        ("sqlite:////elsewhere/mine.db", "sqlite:////elsewhere/mine.db"),
        ("http://localhost:5000", "http://localhost:5000"),
    ],
)
@pytest.mark.parametrize("name", ["article", "mine"])
def test_a_tracking_database_is_one_of_the_projects(project, name, uri, expected):
    (project / "studies" / "mine.yaml").write_text(f"study: mine\ntracking: {{uri: '{uri}'}}\n")
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("sqlite:///mlflow.db", uri))
    folder, study = open_workspace(name, project)
    assert study.tracking.uri == expected.format(project=project)
    if name != "article":
        assert load_study(folder / "params.yaml").tracking.uri == study.tracking.uri


def test_a_path_from_the_home_folder_is_meant_so(project, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    (project / "studies" / "mine.yaml").write_text(
        "study: mine\ndata: {source: archive, path: ~/archive.tar.gz}\n"
    )
    assert open_workspace("mine", project)[1].data.path == "/home/ada/archive.tar.gz"


def test_links_are_made_again_only_where_they_differ(project):
    folder, _ = open_workspace("tiny", project)
    before = (folder / "src").lstat().st_ino
    (folder / "stages").unlink()
    (folder / "stages").symlink_to("elsewhere")
    open_workspace("tiny", project)
    assert (folder / "src").lstat().st_ino == before
    assert (folder / "stages").resolve() == project / "stages"


def test_what_stands_in_the_way_of_a_workspace_is_named(project):
    folder, _ = open_workspace("tiny", project)
    (folder / "src").unlink()
    (folder / "src").mkdir()
    with pytest.raises(
        EnvironmentProblem, match=r"src: can't be made a link to .*File exists.*move away"
    ):
        open_workspace("tiny", project)
    shutil.rmtree(project / "build")
    (project / "build").write_text("")
    with pytest.raises(
        EnvironmentProblem,
        match=r"build/tiny/params\.yaml: could not be written \(Not a directory; ",
    ):
        open_workspace("tiny", project)


def test_a_folder_in_the_place_of_a_study_is_told(project):
    (project / "studies" / "deep.yaml").mkdir()
    with pytest.raises(
        ParameterError,
        match=r"deep\.yaml: can't be read \(Is a directory\); a study is a YAML file",
    ):
        open_workspace("deep", project)


def test_each_workspace_is_mirrored_to_the_address_of_its_own_study(project, monkeypatch, capsys):
    synced = []
    monkeypatch.setattr(
        "lora_replication.tracking.sync", lambda runs, tracking: synced.append((runs, tracking.uri))
    )
    monkeypatch.chdir(project)
    (project / "studies" / "mine.yaml").write_text(
        "study: mine\ntracking: {uri: 'sqlite:///mine.db'}\n"
    )
    folders = [project / "runs", project / "build/gone/runs", project / "build/mine/singles"]
    for folder in folders:
        folder.mkdir(parents=True)
    workspace.sync_all()
    names = ("mlflow.db", "mlflow.db", "mine.db")
    assert synced == [
        (folder, f"sqlite:///{project}/{name}") for folder, name in zip(folders, names, strict=True)
    ]


def test_without_a_home_folder_it_is_told_before_anything_is_written(project, monkeypatch):
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(EnvironmentProblem, match="the home folder is not known here; set HOME"):
        open_workspace("tiny", project)
    assert not (project / "build").exists()
