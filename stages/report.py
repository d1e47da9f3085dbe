"""DVC stage: the records become the article's table with intervals, and a page."""

import sys
from pathlib import Path

from lora_replication.process import run_command
from lora_replication.reading import load_study


def report() -> None:
    """Read params.yaml, data/<study> and runs/<study>; write reports/<study>."""
    study = load_study(Path("params.yaml"))
    from lora_replication.report.build import report_folder

    report_folder(study, Path())


if __name__ == "__main__":
    sys.exit(run_command(report, "report"))
