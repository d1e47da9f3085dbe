"""What a study asks for, what of it is done and what is missing: worked out here, once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_replication.errors import ParameterError
from lora_replication.grid.choice import fresh_runs
from lora_replication.grid.space import grid_runs, repeats, trial_runs
from lora_replication.grid.trials import tuned_runs
from lora_replication.record import Record, Run, Settings, read_records
from lora_replication.study import MethodParams, Study
from lora_replication.workspace import Workspace


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        asked: the runs of its methods, of its grid and sweeps, and of what these chose once they
            were finished.
        records: of exactly these runs, failed ones included, by ``Run.place``.
        stale: how many other records are of other parameters, data, weights or results.
        copies: folders of records that name another place than the one where they are.
    """

    asked: tuple[Run, ...]
    records: Mapping[Path, Record]
    stale: int
    copies: tuple[str, ...]

    @property
    def done(self) -> list[Record]:
        """The records with a result, in the order of ``asked``."""
        records = [self.records[run.place] for run in self.asked if run.place in self.records]
        return [record for record in records if record.is_done]

    @property
    def missing(self) -> list[Run]:
        """The runs without a result."""
        done = {record.asked.place for record in self.done}
        return [run for run in self.asked if run.place not in done]


def method_runs(workspace: Workspace, method: str | None = None) -> list[Run]:
    """Every method of ``run.methods``, or just ``method``, with every seed and nudge."""
    study = workspace.study
    names = study.run.methods if method is None else [method]
    each = repeats(study.run.seeds, study.run.nudges)
    return [method_run(workspace, name, *repeat) for name in names for repeat in each]


def method_run(workspace: Workspace, method: str, seed: int, nudge: int = 0) -> Run:
    """One run of one method. Raises ``ParameterError`` for an unknown method or a wrong seed."""
    settings = Settings.of(workspace.study, checked_method(workspace.study, method))
    return workspace.run("method", method, settings, checked_seed(seed), nudge)


def checked_method(study: Study, method: str) -> MethodParams:
    """The method of this name. Raises ``ParameterError`` where the study has none."""
    if method not in study.methods:
        raise ParameterError(f"--method is {method!r}; allowed: {', '.join(study.methods)}")
    return study.methods[method]


def checked_seed(seed: int) -> int:
    """``seed``. Raises ``ParameterError`` where it is out of range."""
    if not 0 <= seed < 2**32:
        raise ParameterError(f"--seed is {seed}; allowed: a whole number from 0 to 4294967295")
    return seed


def progress(workspace: Workspace) -> Progress:
    """Compare what the study asks for with the records on disk.

    Raises:
        DataError: a file is not a record, or was altered.
    """
    records = read_records(workspace.runs)
    found = [folder.relative_to(workspace.runs) for folder, _ in records]
    own = {
        folder.relative_to(workspace.runs): record
        for folder, record in records
        if workspace.holds(folder, record)
    }
    searched = {"cell": grid_runs(workspace), "trial": trial_runs(workspace)}
    asked = method_runs(workspace) + searched["cell"] + searched["trial"]
    current = _of(asked, own)
    for role, runs in searched.items():
        finished = [r for run in runs if (r := current.get(run.place)) and r.is_done]
        if len(finished) == len(runs) and any(record.happened.val for record in finished):
            choose = fresh_runs if role == "cell" else tuned_runs
            again = choose(workspace, finished)
            asked, current = asked + again, current | _of(again, own)
    return Progress(
        asked=tuple(asked),
        records=current,
        stale=len(own) - len(current),
        copies=tuple(str(place) for place in found if place not in own),
    )


def _of(asked: list[Run], found: Mapping[Path, Record]) -> dict[Path, Record]:
    """The records of exactly the runs ``asked``."""
    pairs = ((run, found.get(run.place)) for run in asked)
    return {run.place: record for run, record in pairs if record and record.asked.key == run.key}
