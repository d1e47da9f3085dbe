"""DVC stage: the records become the article's table with intervals, and a page."""

import sys
from pathlib import Path

import lora_replication
from lora_replication.errors import IncompleteError
from lora_replication.process import run_command
from lora_replication.reading import load_study


def report() -> None:
    """Read params.yaml, data/<study> and runs/<study>; write reports/<study>."""
    study, code = load_study(Path("params.yaml")), _code()
    from lora_replication.report.build import build_report
    from lora_replication.workspace import Workspace

    workspace = Workspace(study, Path(study.root).resolve())
    workspace.check_data()
    build_report(workspace, workspace.report)
    # DVC writes down what it finds afterwards; the other stages' records say what they read.
    if (load_study(Path("params.yaml")), _code()) != (study, code):
        raise IncompleteError("params.yaml or the code was changed meanwhile; run again")


def _code() -> list[int]:
    """When each file of the package was last changed."""
    files = sorted(Path(lora_replication.__file__).parent.rglob("*.*"))
    return [file.stat().st_mtime_ns for file in files if file.suffix != ".pyc"]


if __name__ == "__main__":
    sys.exit(run_command(report, "report"))
