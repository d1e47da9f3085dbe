"""A study's workspace without prepared data, and records that its runs could have left."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lora_replication.allowed import CLASSES
from lora_replication.record import Count, Happened, Record, Run, Where, write_record
from lora_replication.study import Study
from lora_replication.workspace import Workspace
from tests.study_files import study_params

WHERE = Where(
    git_commit="0123456789abcdef0123456789abcdef01234567", git_dirty=False,
    versions={"python": "3.11.7", "torch": "2.13.0"}, cpu="Example CPU @ 2.50GHz", cores=2,
    memory_bytes=2**33, gpu=None, threads=2, platform="Linux 6.1 x86_64",
    started="2026-01-02T03:04:05+00:00", finished="2026-01-02T03:05:05+00:00",
    data_source="archive", data_revision=None, encoder_revision=None,
)  # fmt: skip


def make_workspace(root: Path = Path(), digest: str = "d" * 64, **changes: Any) -> Workspace:
    """Of the tiny study with ``changes``; ``digest`` is the manifest's."""
    workspace = Workspace(Study.model_validate(study_params(**changes)), root)
    encoder = SimpleNamespace(weights_sha256="e" * 64)
    workspace.manifest = SimpleNamespace(digest=digest, encoder=encoder, classes=CLASSES)
    return workspace


def make_record(run: Run, correct: int = 400, parameters: int = 1000, **happened: Any) -> Record:
    """Of a run with so many of 500 validation reviews right, and as many of 500 test reviews."""
    count = Count(correct=correct, reviews=500, ones=250)
    values = {"status": "ok", "val": count, "test": count, "trainable_parameters": parameters}
    return Record(asked=run, happened=Happened(**values | happened), where=WHERE)


WITHOUT_RESULT = {"val": None, "test": None}
FAILED = {"status": "failed", "error": "out of memory"} | WITHOUT_RESULT
DIVERGED = {"status": "diverged", "first_bad_step": 3} | WITHOUT_RESULT


def write(workspace: Workspace, run: Run, correct: int = 400, **happened: Any) -> Record:
    """Put the record where it belongs."""
    record = make_record(run, correct, **happened)
    write_record(record, workspace.folder(run))
    return record
