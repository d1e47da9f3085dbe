"""What is searched: the grid in the article's loop order (alpha, rank, then the switches), and the
settings that the sweeps try.
"""

from collections.abc import Sequence
from itertools import product

from lora_replication.allowed import TARGETS
from lora_replication.record import Run, Settings
from lora_replication.study import Axes, LoraParams, MethodParams, shortest
from lora_replication.workspace import Workspace


def grid_runs(workspace: Workspace) -> list[Run]:
    """One run for each combination of the grid's lists, all with the grid's seed."""
    study, grid = workspace.study, workspace.study.grid
    if grid is None:
        return []
    switches = [getattr(grid, name) for name in TARGETS]
    rates: Sequence[float | None] = grid.learning_rate or [None]
    runs = []
    for rate, alpha, rank, *chosen in product(rates, grid.alpha, grid.rank, *switches):
        targets = tuple(name for name, on in zip(TARGETS, chosen, strict=True) if on)
        lora = LoraParams(
            rank=rank, alpha=alpha, targets=targets, scaling=grid.scaling, dropout=grid.dropout
        )
        settings = Settings.of(
            study,
            MethodParams(trains="lora", lora=lora, learning_rate=rate),
            evaluate_train=grid.evaluate_train,
            stop_one_class=grid.stop_one_class,
        )
        name = cell_name(lora) + (f"-lr{shortest(rate)}" if rate else "")
        runs.append(workspace.run("cell", name, settings, grid.seed))
    return runs


def cell_name(lora: LoraParams) -> str:
    """``r8-a16-query-value-mlp``: unique within a grid, and fit to be a folder."""
    return f"r{lora.rank}-a{shortest(lora.alpha)}-{'-'.join(lora.targets)}"


def trial_runs(workspace: Workspace) -> list[Run]:
    """What the sweeps try: each setting of each method on each seed, then nudged on the first.

    The test reviews are left alone.
    """
    study, sweeps = workspace.study, workspace.study.sweeps
    if sweeps is None:
        return []
    off = {"evaluate_train": False, "evaluate_test": False}
    return [
        workspace.run("trial", name, Settings.of(study, method, **off), *repeat)
        for name, axes in sweeps.methods.items()
        for method in _tried(study.methods[name], axes)
        for repeat in repeats(sweeps.seeds, sweeps.nudges)
    ]


def repeats(seeds: Sequence[int], nudges: int) -> list[tuple[int, int]]:
    """(seed, nudge) of the runs of one method or setting: each seed, then the first one nudged."""
    return [(seed, 0) for seed in seeds] + [(seeds[0], nudge + 1) for nudge in range(nudges)]


def _tried(method: MethodParams, axes: Axes) -> list[MethodParams]:
    """``method`` at every combination of ``axes``."""
    tried = []
    for rate in axes.learning_rate:
        at_rate = method.model_copy(update={"learning_rate": rate})
        if method.lora is None:
            tried.append(at_rate)
            continue
        alphas, ranks = axes.alpha or [method.lora.alpha], axes.rank or [method.lora.rank]
        for alpha, rank in product(alphas, ranks):
            lora = method.lora.model_copy(update={"alpha": alpha, "rank": rank})
            tried.append(at_rate.model_copy(update={"lora": lora}))
    return tried
