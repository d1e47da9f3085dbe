"""The studies of the project: each is a folder with ``params.yaml``; the article's is the root."""

from pathlib import Path

from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.reading import load_study
from lora_replication.study import Study

ARTICLE = "article"
PARAMS = "params.yaml"


def project_root() -> Path:
    """The project's folder: the nearest one upwards with ``dvc.yaml`` and ``studies``.

    Where there is none, the one that this code was installed from.

    Raises:
        EnvironmentProblem: there is none at all.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[2]):
        if (folder / "dvc.yaml").is_file() and (folder / "studies").is_dir():
            return folder
    raise EnvironmentProblem(
        f"{here} is not in a checkout of the project (no dvc.yaml and studies/ here or above); "
        "change into one"
    )


def study_names(root: Path) -> list[str]:
    """All studies of the project, the article's first."""
    return [ARTICLE, *sorted(file.parent.name for file in root.glob(f"studies/*/{PARAMS}"))]


def study_folder(name: str, root: Path) -> Path:
    """The folder of the study ``name``. Raises ``ParameterError`` for an unknown name."""
    if name not in study_names(root):
        raise ParameterError(f"study is {name!r}; allowed: {', '.join(study_names(root))}")
    return root if name == ARTICLE else root / "studies" / name


def read_study(name: str, root: Path) -> Study:
    """The study ``name``, checked. Raises ``ParameterError``."""
    folder = study_folder(name, root)
    study = load_study(folder / PARAMS)
    if study.study != name:
        raise ParameterError(
            f"{folder / PARAMS}: study is {study.study!r}; allowed: {name!r}, the folder's name"
        )
    return study
