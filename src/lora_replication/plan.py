"""What a study asks for, what of it is done and what is missing, worked out once; and told."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lora_replication.data.manifest import MANIFEST
from lora_replication.errors import ParameterError
from lora_replication.files import is_locked, project_root
from lora_replication.grid.choice import fresh_runs, tuned_runs
from lora_replication.grid.space import grid_runs, repeats, trial_runs
from lora_replication.reading import read_study
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
    """Compare what the study asks for with the records on disk. Raises ``DataError`` where a file
    is not a record, or was altered.
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


def show_status(name: str, *, as_json: bool) -> None:
    """Print what is done, failed, missing and under way in the study ``name``.

    Raises:
        ParameterError: there is no such study, or its parameters are wrong.
        DataError: a record is damaged.
    """
    root = project_root()
    workspace = Workspace(read_study(name, root), root)
    if not (workspace.data / MANIFEST).is_file():
        text = f"{name}: nothing is done yet; run: lora-replication run {name}"
        print(json.dumps({"study": name, "prepared": False}) if as_json else text)
        return
    state = progress(workspace)
    content = summary(workspace, state)
    print(json.dumps(content, indent=1) if as_json else _text(content))


def summary(workspace: Workspace, state: Progress) -> dict[str, Any]:
    """Counts and names as plain values; times in seconds."""
    failed = [record for record in state.records.values() if not record.is_done]
    last = max(state.done, key=lambda record: record.where.finished, default=None)
    result = last and last.happened.test
    accuracy = result.fraction if result else None
    return {
        "study": workspace.study.study,
        "prepared": True,
        "asked": len(state.asked),
        "done": len(state.done),
        "failed": [f"{r.asked.label}: {r.happened.status}" for r in failed],
        "missing": [run.label for run in state.missing],
        "running": [run.label for run in state.missing if is_locked(workspace.lock(run.place))],
        "other_records": state.stale + len(state.copies),
        "seconds_left": seconds_left(state),
        "last": last
        and {"run": last.asked.label, "test_accuracy": accuracy, "at": last.where.finished},
    }


def run_line(workspace: Workspace, record: Record) -> str:
    """What a person sees of a run that has just ended, with how far the study is."""
    state, happened = progress(workspace), record.happened
    grid, known = workspace.study.grid, {run.role for run in state.asked}
    asked = len(state.asked) + (len(grid.winner_seeds) if grid and "winner" not in known else 0)
    counts = {"validation": happened.val, "test": happened.test}
    shown = [f"{part} {100 * n.fraction:.1f} %" for part, n in counts.items() if n]
    facts = ", ".join([*(shown or [happened.status]), f"{_seconds(record):.0f} s"])
    left = seconds_left(state)
    rest = f"; {rough_duration(left)} left" if left else ""
    return f"{record.asked.words} ({len(state.done)} of {asked}): {facts}{rest}"


def seconds_left(state: Progress) -> float | None:
    """Of the missing runs, each taken to last as the mean of those done like it, else of all."""
    if not state.done:
        return None
    total = 0.0
    for run in state.missing:
        alike = [
            record
            for record in state.done
            if record.asked.settings.trains == run.settings.trains
            and (run.role != "method" or record.asked.role == "method")
        ]
        total += fmean(_seconds(record) for record in alike or state.done)
    return total


def rough_duration(seconds: float) -> str:
    """``about 9 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"about {seconds:.0f} s"
    if minutes < 120:
        return f"about {minutes} min"
    return (
        f"about {minutes / 60:.0f} h" if minutes < 48 * 60 else f"about {minutes / 1440:.0f} days"
    )


def _seconds(record: Record) -> float:
    return record.happened.seconds or 0.0


def _text(content: dict[str, Any]) -> str:
    lines = [f"{content['study']}: {content['done']} of {content['asked']} runs done"]
    if content["missing"] and content["seconds_left"]:
        lines[0] += f", {rough_duration(content['seconds_left'])} left"
    for part in ("running", "failed", "missing"):
        names = content[part]
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        if names:
            lines.append(f"{part}: {', '.join(names[:8])}{more}")
    if last := content["last"]:
        accuracy = last["test_accuracy"]
        result = "no accuracy" if accuracy is None else f"test {100 * accuracy:.1f} %"
        lines.append(f"last: {last['run']}, {result}, {last['at']}")
    if content["other_records"]:
        lines.append(f"not read: {content['other_records']} records of other parameters or places")
    return "\n".join(lines)
