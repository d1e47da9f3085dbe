"""How far a study is, by the records and locks on disk; from any terminal, changing nothing."""

import json
from statistics import fmean
from typing import Any

from lora_replication.data.manifest import MANIFEST
from lora_replication.files import is_locked
from lora_replication.plan import Progress, progress
from lora_replication.reading import project_root, read_study
from lora_replication.record import Record
from lora_replication.workspace import Workspace


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
    return f"about {minutes} min" if minutes < 120 else f"about {minutes / 60:.0f} h"


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
