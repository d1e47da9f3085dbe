"""The space of configurations in the article's loop order: alpha, rank, then the switches."""

from itertools import product

from lora_replication.record import Run, Settings
from lora_replication.study import TARGETS, LoraParams, MethodParams
from lora_replication.workspace import Workspace


def grid_runs(workspace: Workspace) -> list[Run]:
    """One run for each combination of the grid's lists, all with the grid's seed."""
    study = workspace.study
    grid = study.grid
    switches = [getattr(grid, name) for name in TARGETS]
    runs = []
    for alpha, rank, *chosen in product(grid.alpha, grid.rank, *switches):
        targets = tuple(name for name, on in zip(TARGETS, chosen, strict=True) if on)
        lora = LoraParams(
            rank=rank, alpha=alpha, targets=targets, scaling=grid.scaling, dropout=grid.dropout
        )
        settings = Settings.of(
            study,
            MethodParams(trains="lora", lora=lora),
            evaluate_train=grid.evaluate_train,
            stop_one_class=grid.stop_one_class,
        )
        runs.append(workspace.run("cell", cell_name(lora), settings, grid.seed))
    return runs


def cell_name(lora: LoraParams) -> str:
    """``r8-a16-query-value-mlp``: unique within a grid, and fit to be a folder."""
    # Six digits; where they are not all, the shortest text that is this alpha's alone.
    short = f"{lora.alpha:g}"
    alpha = short if float(short) == lora.alpha else repr(lora.alpha)
    return f"r{lora.rank}-a{alpha}-{'-'.join(lora.targets)}"
