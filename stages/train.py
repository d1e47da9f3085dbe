"""DVC stage: one method becomes one record for each seed."""

import argparse
import sys
from functools import partial
from pathlib import Path

from lora_replication.process import run_command
from lora_replication.reading import load_study


def train() -> None:
    """Read params.yaml and data/<study>, write runs/<study>/<method>/seed-<k>."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    method = parser.parse_args().method
    study = load_study(Path("params.yaml"))
    from lora_replication.estimate import announce
    from lora_replication.grid.attempts import run_alone
    from lora_replication.plan import method_runs, run_line
    from lora_replication.tracking.mirror import open_mirror
    from lora_replication.workspace import Workspace

    workspace = Workspace(study, Path(study.root).resolve())
    announce(workspace)
    missing = [run for run in method_runs(workspace, method) if workspace.done(run) is None]
    for record in run_alone(workspace, partial(open_mirror, workspace), missing):
        print(run_line(workspace, record), flush=True)


if __name__ == "__main__":
    sys.exit(run_command(train, "train"))
