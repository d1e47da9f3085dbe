"""Publishing a study: what its report was made from, next to it, so that anybody can rebuild it."""

import shutil
import tempfile
from pathlib import Path

from lora_replication.data.manifest import MANIFEST, TEST_REVIEWS
from lora_replication.errors import EnvironmentProblem
from lora_replication.plan import progress
from lora_replication.record import PREDICTIONS, RECORD
from lora_replication.workspace import Workspace


def publish(workspace: Workspace) -> None:
    """Replace ``reports/<study>/records`` and ``data`` by the study's current ones.

    Adapters stay where they are: they are large and can be trained again. Of the data the manifest
    and the facts about the test reviews are copied, no text.

    Raises:
        DataError: the study's data or a record is not what it claims to be.
        EnvironmentProblem: a file can't be copied; what was published before is as it was.
    """
    records = progress(workspace).records
    temporary: Path | None = None
    try:
        workspace.report.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".publish.", dir=workspace.report))
        for place in records:
            files = [workspace.runs / place / name for name in (RECORD, PREDICTIONS)]
            _copy([file for file in files if file.is_file()], temporary / "records" / place)
        data = [workspace.data / name for name in (MANIFEST, TEST_REVIEWS)]
        _copy(data, temporary / "data")
        for name in ("data", "records"):
            (temporary / name).mkdir(exist_ok=True)
        _replace(workspace.report, temporary)
    except OSError as problem:
        raise EnvironmentProblem(
            f"{workspace.report}: could not be published ({problem}); "
            "mend that, then run again with --publish"
        ) from problem
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)


def _copy(files: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True)
    for file in files:
        shutil.copyfile(file, folder / file.name)


def _replace(report: Path, new: Path) -> None:
    """Put the new folders in the place of the old ones, both or none."""
    names = ("data", "records")
    old = [name for name in names if (report / name).exists()]
    (new / "old").mkdir()
    try:
        for name in old:
            (report / name).rename(new / "old" / name)
        for name in names:
            (new / name).rename(report / name)
    except OSError:
        for name in old:
            if (new / "old" / name).exists():
                shutil.rmtree(report / name, ignore_errors=True)
                (new / "old" / name).rename(report / name)
        raise
