"""DVC stage: every run of grid and sweeps becomes a record, then what they choose, on new seeds."""

import sys
from functools import partial
from pathlib import Path

from lora_replication.files import only_writer
from lora_replication.process import run_command
from lora_replication.reading import load_study
from lora_replication.study import RESERVED


def gridsearch() -> None:
    """Read params.yaml, write the ``RESERVED`` folders of the study's runs."""
    study = load_study(Path("params.yaml"))
    from lora_replication.grid.attempts import open_executor
    from lora_replication.grid.packing import pack_size
    from lora_replication.grid.sweep import sweep
    from lora_replication.tracking.mirror import open_mirror
    from lora_replication.workspace import Workspace

    workspace = Workspace(study, Path(study.root).resolve())
    mirror = partial(open_mirror, workspace)
    with only_writer(workspace.state / "grid.lock"), open_executor(workspace, mirror) as executor:
        for name in RESERVED:  # DVC wants each of them, and some may stay empty
            (workspace.runs / name).mkdir(parents=True, exist_ok=True)
        sweep(workspace, partial(pack_size, workspace), executor, partial(print, flush=True))


if __name__ == "__main__":
    sys.exit(run_command(gridsearch, "gridsearch"))
