"""Publishing a study: its report with the records and predictions that it was made from, as one
folder that is replaced whole.
"""

import shutil
import tempfile
from pathlib import Path

from lora_replication.data.manifest import read_manifest
from lora_replication.errors import EnvironmentProblem
from lora_replication.ledger import current_records
from lora_replication.record import PREDICTIONS, RECORD, run_folder
from lora_replication.study import Study


def publish_study(study: Study, folder: Path, root: Path) -> None:
    """Replace ``reports/<study>`` of the project by the report in the workspace ``folder`` and the
    current records behind it.

    In the project's own folder the report is in its place already, and ``records`` beside it is
    replaced. Adapters stay where they are: they are large and can be trained again.

    Raises:
        DataError: the study's data or a record is not what it claims to be.
        EnvironmentProblem: a file can't be copied; what was published before is as it was.
    """
    published = root / "reports" / study.study
    target = published / "records" if folder == root else published
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{study.study}.", dir=target.parent))
        new = temporary / "new"
        if folder != root:
            shutil.copytree(folder / "reports" / study.study, new)
        _copy_records(study, folder, new if folder == root else new / "records")
        if target.exists():
            target.rename(temporary / "old")
        new.rename(target)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{target}: could not be published ({problem}); mend that, then run again with --publish"
        ) from problem
    finally:
        if temporary:
            if not target.exists() and (temporary / "old").exists():
                (temporary / "old").rename(target)
            shutil.rmtree(temporary, ignore_errors=True)


def _copy_records(study: Study, folder: Path, target: Path) -> None:
    records = current_records(
        study, read_manifest(folder / "data" / study.study), folder / "runs"
    ).records
    for asked in (record.asked for record in records):
        place = (asked.role, asked.name, asked.seed)
        source, copy = (
            run_folder(study.study, *place, folder / "runs"),
            run_folder("", *place, target),
        )
        copy.mkdir(parents=True)
        for file in (RECORD, PREDICTIONS):
            if (source / file).is_file():
                shutil.copy(source / file, copy / file)
