"""DVC stage: every configuration of the grid becomes a record, then the winner on fresh seeds."""

import sys
from functools import partial
from pathlib import Path

from lora_replication.files import only_writer
from lora_replication.process import run_command
from lora_replication.reading import load_study


def gridsearch() -> None:
    """Read params.yaml, write runs/<study>/grid, runs/<study>/grid_winner and
    runs/<study>/grid_runners_up.
    """
    study = load_study(Path("params.yaml"))
    from lora_replication.grid.executors import open_executor
    from lora_replication.grid.packs import pack_size
    from lora_replication.grid.sweep import sweep
    from lora_replication.ledger import unread_cells
    from lora_replication.tracking import live_run
    from lora_replication.training.run import Bench

    bench = Bench(study)
    with only_writer(bench.state / "grid.lock"):
        (bench.runs / study.study / "grid_runners_up").mkdir(
            parents=True, exist_ok=True
        )  # may stay empty
        if unread := unread_cells(study, bench.manifest):
            print(
                f"grid: {unread} records are left unread: they are of other parameters, data, weights or code"
            )
        with open_executor(bench, partial(live_run, study.tracking)) as executor:
            sweep(
                study,
                bench.recorded,
                partial(pack_size, bench),
                executor,
                partial(print, flush=True),
            )


if __name__ == "__main__":
    sys.exit(run_command(gridsearch, "gridsearch"))
