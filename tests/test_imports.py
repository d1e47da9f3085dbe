"""What should be quick loads nothing that takes long to import; each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HELP = """
from lora_replication import cli
sys.argv[1:] = ["--help"]
try:
    cli.main()
except SystemExit:
    pass
"""
STUDY = """
from lora_replication.reading import load_study
load_study(Path("params.yaml"))
"""
REPORT = """
from lora_replication.reading import read_study
from lora_replication.report.build import build_report
from lora_replication.workspace import Workspace
build_report(Workspace.published(read_study("minilm-small", Path()), Path()), Path(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import lora_replication", "torch pandas pyarrow scipy numpy pydantic click"),
        (HELP, "torch transformers mlflow scipy pandas dvc"),
        (STUDY, "torch transformers mlflow scipy pyarrow"),
        (REPORT, "torch transformers mlflow datasets"),
    ],
    ids=["package", "help", "study", "report"],
)
def test_nothing_heavy_is_imported(code: str, heavy: str, tmp_path: Path) -> None:
    ended = f"print('loaded', sorted({set(heavy.split())} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nfrom pathlib import Path\n{code}\n{ended}", tmp_path],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("loaded []\n")
