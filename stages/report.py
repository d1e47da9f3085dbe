"""DVC stage: the records become the article's table with intervals, and a page."""

import sys
from pathlib import Path

from lora_replication.params import load_study
from lora_replication.processes import run_command


def report() -> None:
    """Read params.yaml, data/<study> and runs/<study>; write reports/<study>."""
    study = load_study(Path("params.yaml"))
    from lora_replication.data.manifest import read_manifest
    from lora_replication.ledger import current_records
    from lora_replication.report.answers import read_answers
    from lora_replication.report.build import build_report

    data = Path("data") / study.study
    manifest = read_manifest(data)
    records, ignored = current_records(study, manifest)
    answers = read_answers(study, records, manifest, data, Path("runs"))
    build_report(study, records, manifest, Path("reports") / study.study, ignored=ignored, answers=answers)


if __name__ == "__main__":
    sys.exit(run_command(report, "report"))
