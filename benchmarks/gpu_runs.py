"""A study's runs by several processes side by side on one GPU: each takes the next that is free."""

import math
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from lora_replication.allowed import TARGETS
from lora_replication.errors import EnvironmentProblem
from lora_replication.files import is_locked, project_root
from lora_replication.grid.ray import SILENT
from lora_replication.grid.space import grid_runs
from lora_replication.plan import method_run
from lora_replication.process import set_up_libraries
from lora_replication.reading import PARAMS, load_study, study_folder
from lora_replication.record import Record, Run
from lora_replication.training.run import perform, record_failure
from lora_replication.workspace import Workspace

STUDY = "minilm-gpu"
PACKAGES, ENCODER = "packages", "encoder"
"""Where inputs hold the encoder: as its package, or for other studies as a folder."""


def open_workspace(inputs: Path | None, work: Path) -> Workspace:
    """The study of joined ``inputs``, or ``minilm-gpu`` of this project; runs go to ``work``."""
    root = inputs or project_root()
    study = load_study((inputs or study_folder(STUDY, root)) / PARAMS)
    if inputs and study.model.path:
        model = study.model.model_copy(update={"path": str(inputs.absolute() / ENCODER)})
        study = study.model_copy(update={"model": model})
    if inputs and (packages := str(inputs.absolute() / PACKAGES)) not in sys.path:
        sys.path.insert(0, packages)  # processes that this one starts get it too
    workspace = Workspace(study, root)
    workspace.runs = work / "runs" / study.study
    workspace.state = work / "state" / study.study
    return workspace


def units(workspace: Workspace, part: str, pack: int) -> list[list[Run]]:
    """What trains together, in order: the methods' runs by seed, or packs of the grid."""
    study = workspace.study
    if part == "grid":
        runs = spread(grid_runs(workspace))
        return [runs[start : start + pack] for start in range(0, len(runs), pack)]
    pairs = [(name, seed) for seed in study.run.seeds for name in study.run.methods]
    return [[method_run(workspace, name, seed)] for name, seed in pairs]


def spread(runs: Sequence[Run]) -> list[Run]:
    """``runs`` in an order whose every beginning fills their space: each the farthest from those
    before it, by logarithms of alpha and rank and by targets, the first being drawn with seed 1.
    """
    points = np.array([_point(run) for run in runs])
    chosen = [int(np.random.default_rng(1).integers(len(runs)))]
    distance = np.full(len(runs), np.inf)
    while len(chosen) < len(runs):
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(1))
        distance[chosen] = -1
        chosen.append(int(distance.argmax()))
    return [runs[place] for place in chosen]


def _point(run: Run) -> list[float]:
    """Coordinates from 0 to 1 over the article's grid, whose largest are 64 and 32."""
    lora = run.settings.lora
    switches = [float(target in lora.targets) for target in TARGETS]
    return [math.log(lora.alpha, 64), math.log(lora.rank, 32), *switches]


def at_work(
    inputs: Path | None, work: Path, part: str, pack: int, until: float, threads: int
) -> None:
    """Train what no other process has, one unit after another, while ``until`` (monotonic seconds)
    is farther than the longest so far took.
    """
    import torch

    set_up_libraries()
    torch.set_num_threads(threads)
    workspace, longest = open_workspace(inputs, work), 0.0
    for runs in units(workspace, part, pack):
        began = time.monotonic()
        if began + longest > until:
            return
        taken = any(is_locked(workspace.lock(run.place)) for run in runs)
        if taken or all(map(workspace.done, runs)):
            continue
        for record in _attempt(workspace, runs):
            print(f"{part}: {outcome(record)}, {time.monotonic() - began:.0f} s", flush=True)
        longest = max(longest, time.monotonic() - began)


def _attempt(workspace: Workspace, runs: Sequence[Run]) -> list[Record]:
    """The records of ``runs``, failures included; none where another process was faster."""
    try:
        return perform(workspace, runs, lambda _run: nullcontext(SILENT))
    except EnvironmentProblem as problem:
        print(problem, flush=True)
        return []
    except (RuntimeError, MemoryError) as problem:  # such as a GPU's memory that ran out
        traceback.print_exc()
        return [record_failure(workspace, run, "failed", str(problem), None) for run in runs]


def outcome(record: Record) -> str:
    """``lora_default seed 1: ok, test 88.12 %``."""
    test = record.happened.test
    shown = f", test {test.fraction:.2%}" if test else ""
    return f"{record.asked.label}: {record.happened.status}{shown}"


def labels(runs: Sequence[Run]) -> str:
    """Of what trains together."""
    return runs[0].label + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")
