"""Which of the records on disk are of the runs that the study asks for now. Needs no torch."""

from dataclasses import dataclass
from pathlib import Path

from lora_replication.data.manifest import Manifest
from lora_replication.errors import DataError
from lora_replication.grid.choice import runners_up, winner_by_validation
from lora_replication.grid.space import cell_jobs, runner_up_jobs, winner_jobs
from lora_replication.jobs import asked_of, method_jobs
from lora_replication.params import Study
from lora_replication.records import RECORD, Asked, Record, read_records, run_folder


@dataclass(frozen=True)
class Current:
    """What a folder of runs holds.

    Attributes:
        records: those of the runs asked for now, in the order of their folders.
        stale: how many others were left unread because their parameters, data, weights or code are not those of now.
        copies: folders, relative to the study's, of records that name another place than the one they lie in; left unread too.
    """

    records: list[Record]
    stale: int = 0
    copies: tuple[str, ...] = ()


def current_records(study: Study, manifest: Manifest, root: Path = Path("runs")) -> Current:
    """The records of the study's methods, of its grid, and of what the grid chose, with their keys as they are asked now.

    Raises:
        DataError: a file is not a record, or one of the records was altered.
    """
    found = read_records(study.study, root)
    copies = tuple(str(folder.relative_to(root / study.study)) for folder, record in found if folder != _place(record, study, root))
    records = [record for folder, record in found if folder == _place(record, study, root)]
    cells = cell_jobs(study)
    jobs = method_jobs(study) + cells
    by_key = {record.asked.key: record for record in records if record.asked.role == "cell" and record.is_done}
    done = {job.name: by_key[key] for job in cells if (key := asked_of(study, manifest, job).key) in by_key}
    if len(done) == len(cells) and any(record.happened.val for record in done.values()):
        jobs += winner_jobs(study, winner_by_validation(cells, done)) + runner_up_jobs(study, runners_up(study, cells, done))
    wanted = {_identity(asked): asked for asked in (asked_of(study, manifest, job) for job in jobs)}
    current = [record for record in records if _identity(record.asked) in wanted]
    for record in current:
        if record.asked.settings != wanted[_identity(record.asked)].settings:
            raise DataError(
                f"{_place(record, study, root) / RECORD}: its settings do not make its key, so it was altered; restore or delete it"
            )
    return Current(current, len(records) - len(current), copies)


def unread_cells(study: Study, manifest: Manifest, root: Path = Path("runs")) -> int:
    """How many finished configurations on disk no sweep reads: their parameters, data, weights or code are not those of now."""
    wanted = {asked_of(study, manifest, job).key for job in cell_jobs(study)}
    records = [record for _, record in read_records(study.study, root) if record.asked.role == "cell" and record.is_done]
    return sum(record.asked.key not in wanted for record in records)


def _identity(asked: Asked) -> tuple[str, str, int, str]:
    return asked.role, asked.name, asked.seed, asked.key


def _place(record: Record, study: Study, root: Path) -> Path:
    """Where ``record`` would have been written."""
    return run_folder(study.study, record.asked.role, record.asked.name, record.asked.seed, root)
