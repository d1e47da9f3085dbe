"""What a comparison is about: where a side's runs are, and which test reviews each has right."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lora_replication.data.manifest import MANIFEST
from lora_replication.errors import DataError, ParameterError
from lora_replication.grid.space import trial_runs
from lora_replication.plan import progress
from lora_replication.reading import read_study, study_names
from lora_replication.record import FOLDERS, Record, read_records
from lora_replication.report.predictions import read_predictions
from lora_replication.study import Study, method_in_words
from lora_replication.workspace import Workspace

FORMS = (
    "allowed: METHOD of --study, STUDY:METHOD, FOLDER:METHOD with the folder of a published "
    "report, or a folder of foreign predictions"
)


@dataclass(frozen=True)
class Side:
    """The runs of one side.

    Attributes:
        name: for people.
        study: whose test reviews they are on; ``workspace``: where they are.
        answers: by seed (reviews,) of 0 and 1, whether right; None for a diverged run.
        movies: (reviews,), None where unknown.
    """

    name: str
    workspace: Workspace
    answers: Mapping[int, NDArray[np.float64] | None]
    movies: NDArray[np.str_] | None

    @property
    def study(self) -> Study:
        """Whose test reviews they are on."""
        return self.workspace.study

    @property
    def reviews(self) -> tuple[Any, int]:
        """What is equal where the test reviews are the same ones."""
        manifest = self.workspace.manifest
        test = manifest.parts["test"]
        return manifest.article_csv_sha256 or test.reviews_sha256, test.reviews

    @property
    def accuracy(self) -> float | None:
        """Mean over the runs that did not diverge, 0 to 1; None without any."""
        known = [float(one.mean()) for one in self.answers.values() if one is not None]
        return float(np.mean(known)) if known else None


def read_side(words: str, study: str, root: Path) -> Side:
    """The side that ``words`` name, of ``study`` where they name no other.

    A method is named by its folder of runs: ``full``, ``grid_winner``, ``tuned/full``; a single run
    by its own: ``full/seed-3``. ``tuned/full`` is ``full`` where its sweep chose its own setting.

    Raises:
        ParameterError: nothing is named so.
        DataError: records or predictions are not what they claim to be, or have no answers.
    """
    where, _, method = words.rpartition(":")
    workspace, records = find_records(where or study, root)
    own = runs_of(method, workspace, records)
    if not own:
        final = {str(r.asked.place.parent) for r in records if r.happened.test}
        known = ", ".join(sorted(n for n in final if not n.startswith(FOLDERS["cell"] + "/")))
        raise ParameterError(
            f"{words!r}: {workspace.study.study} has no recorded run of {method!r}; "
            f"it has {known or 'none'}; {FORMS}"
        )
    side = side_of(method_name(method), workspace, own)
    if side.accuracy is None:
        raise DataError(
            f"{workspace.runs}: {method} has no run with predictions of the test reviews; "
            "take another method, or train it again"
        )
    return side


def runs_of(method: str, workspace: Workspace, records: Sequence[Record]) -> list[Record]:
    """Those that ``method`` names, see ``read_side``."""
    own = [r for r in records if method in (str(r.asked.place), str(r.asked.place.parent))]
    role, _, name = method.rpartition("/")
    sweeps = workspace.study.sweeps
    if own or role != FOLDERS["tuned"] or not sweeps or name not in sweeps.methods:
        return own
    tried = sum(record.asked.role == "trial" for record in records)
    return runs_of(name, workspace, records) if tried == len(trial_runs(workspace)) else []


def method_name(method: str) -> str:
    """The name for people of a folder of runs."""
    return method_in_words(method.replace("/", "_"))


def side_of(name: str, workspace: Workspace, records: Sequence[Record]) -> Side:
    """The side of these ``records``, nudged ones and those without predictions aside."""
    own = [record for record in records if not record.asked.nudge]
    tested = read_predictions(workspace, own)
    answers = {
        record.asked.seed: None
        if record.happened.status == "diverged"
        else tested.tests[record.asked.key].astype(np.float64)
        for record in own
        if record.happened.status == "diverged" or record.asked.key in tested.tests
    }
    return Side(name, workspace, answers, tested.movies)


def find_records(where: str, root: Path) -> tuple[Workspace, list[Record]]:
    """The finished runs of a study, from its workspace or else from its published report; or of the
    folder of any published report.

    Raises:
        ParameterError: it is neither, or nothing is recorded.
    """
    if where in study_names(root):
        workspace, done = recorded(read_study(where, root), root)
        if done:
            return workspace, done
        raise ParameterError(
            f"{where}: no run is recorded; run it first (lora-replication run {where}); {FORMS}"
        )
    folder = Path(where)
    found = read_records(folder / "records")
    if not found:
        raise ParameterError(
            f"{where!r} is neither a study ({', '.join(study_names(root))}) nor the folder of a "
            f"report with records; {FORMS}"
        )
    workspace = Workspace(read_study(found[0][1].asked.study, root), root)
    workspace.data, workspace.runs = folder / "data", folder / "records"
    own = [record for place, record in found if workspace.holds(place, record)]
    return workspace, [record for record in own if record.is_done]


def recorded(study: Study, root: Path) -> tuple[Workspace, list[Record]]:
    """The finished runs of ``study``: in its workspace, or else next to its report, if any."""
    own, published = Workspace(study, root), Workspace.published(study, root)
    for workspace in (own, published):
        if (workspace.data / MANIFEST).is_file() and (done := progress(workspace).done):
            return workspace, done
    return own, []
