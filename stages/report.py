"""DVC stage: the records become the article's table with intervals, and a page."""

import sys
from pathlib import Path

from lora_replication.params import load_study
from lora_replication.processes import run_command


def report() -> None:
    """Read params.yaml, data/<study>/manifest.json and runs/<study>; write reports/<study>."""
    study = load_study(Path("params.yaml"))
    from lora_replication.data.manifest import read_manifest
    from lora_replication.ledger import current_records
    from lora_replication.report.build import build_report

    manifest = read_manifest(Path("data") / study.study)
    records, ignored = current_records(study, manifest)
    build_report(study, records, manifest, Path("reports") / study.study, ignored=ignored)


if __name__ == "__main__":
    sys.exit(run_command(report, "report"))
