"""DVC stage: one method with one seed becomes one record."""

import argparse
import sys
from pathlib import Path

from lora_replication.process import run_command
from lora_replication.reading import load_study


def train() -> None:
    """Read params.yaml, write runs/<study>/<method>/seed-<k>."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", required=True)
    parser.add_argument("--seed", required=True, type=int)
    asked = parser.parse_args()
    study = load_study(Path("params.yaml"))
    from lora_replication.jobs import method_job
    from lora_replication.single import perform_one
    from lora_replication.tracking import live_run
    from lora_replication.training.run import Bench

    perform_one(
        Bench(study),
        method_job(study, asked.method, asked.seed),
        lambda run: live_run(study.tracking, run),
    )


if __name__ == "__main__":
    sys.exit(run_command(train, "train"))
