"""DVC stage: the records become the article's table with intervals, and a page."""

import sys
from pathlib import Path

from lora_replication.process import run_command
from lora_replication.reading import unchanged


def report() -> None:
    """Read params.yaml, data/<study> and runs/<study>; write reports/<study>."""
    with unchanged(Path("params.yaml")) as study:
        from lora_replication.report.build import build_report
        from lora_replication.workspace import Workspace

        workspace = Workspace(study, Path(study.root).resolve())
        workspace.check_data()
        build_report(workspace, workspace.report)


if __name__ == "__main__":
    sys.exit(run_command(report, "report"))
