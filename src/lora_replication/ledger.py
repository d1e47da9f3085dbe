"""Which of the records on disk are of the runs that the study asks for now. Needs no torch."""

from pathlib import Path

from lora_replication.data.manifest import Manifest
from lora_replication.grid.space import cell_jobs, winner_jobs
from lora_replication.grid.sweep import winner_by_validation
from lora_replication.jobs import asked_of, method_jobs
from lora_replication.params import Study
from lora_replication.records import Record, read_records


def current_records(study: Study, manifest: Manifest, root: Path = Path("runs")) -> tuple[list[Record], int]:
    """The records of the study's methods, of its grid, and of its grid's winner, with their keys as they are asked now.

    Returns:
        The records in the order of their folders, and how many others were left unread because their parameters, data,
        weights or code are not those of now.
    """
    records = [record for _, record in read_records(study.study, root)]
    cells = cell_jobs(study)
    jobs = method_jobs(study) + cells
    by_key = {record.asked.key: record for record in records if record.asked.role == "cell"}
    done = {job.name: by_key[key] for job in cells if (key := asked_of(study, manifest, job).key) in by_key}
    if len(done) == len(cells) and any(record.happened.val for record in done.values()):
        jobs += winner_jobs(study, winner_by_validation(cells, done))
    wanted = {(job.role, job.name, asked_of(study, manifest, job).key) for job in jobs}
    current = [record for record in records if (record.asked.role, record.asked.name, record.asked.key) in wanted]
    return current, len(records) - len(current)
