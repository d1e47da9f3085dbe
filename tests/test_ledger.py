import shutil

import pytest
from report_records import altered, make_happened, make_manifest, make_record, make_study

from lora_replication.errors import DataError
from lora_replication.grid.space import cell_jobs, winner_jobs
from lora_replication.jobs import asked_of, method_jobs
from lora_replication.ledger import Current, current_records, unread_cells
from lora_replication.record import run_folder, write_record

STUDY, MANIFEST = make_study(), make_manifest()


def write(root, job, study=STUDY, correct=800, **happened):
    record = make_record(study, job, make_happened(job, correct, 1000))
    record = altered(
        record.model_copy(update={"asked": asked_of(study, MANIFEST, job)}), **happened
    )
    write_record(record, run_folder(study.study, job.role, job.name, job.seed, root))
    return record


def test_records_of_what_is_asked_now_are_current_and_the_winner_with_them(tmp_path):
    cells = cell_jobs(STUDY)
    for job in (*method_jobs(STUDY), *cells):
        write(tmp_path, job, correct=900 if job == cells[3] else 800)
    for job in winner_jobs(STUDY, cells[3]):
        write(tmp_path, job)
    current = current_records(STUDY, MANIFEST, tmp_path)
    assert (len(current.records), current.stale, current.copies) == (12 + 8 + 3, 0, ())


def test_fresh_seeds_of_a_former_winner_are_left_unread(tmp_path):
    cells = cell_jobs(STUDY)
    for job in cells:
        write(tmp_path, job, correct=900 if job == cells[3] else 800)
    for job in winner_jobs(STUDY, cells[2]):
        write(tmp_path, job)
    current = current_records(STUDY, MANIFEST, tmp_path)
    assert (len(current.records), current.stale) == (8, 3)


@pytest.mark.fault(30)
def test_changed_parameters_leave_that_methods_records_unread(tmp_path):
    for job in method_jobs(STUDY):
        write(tmp_path, job)
    methods = STUDY.model_dump(mode="json")["methods"]
    methods["full"]["learning_rate"] = 1e-3
    current = current_records(make_study(methods=methods), MANIFEST, tmp_path)
    assert current.stale == 3
    assert {record.asked.name for record in current.records} == {
        "last_layers",
        "lora_default",
        "lora_tuned",
    }


@pytest.mark.fault(30)
def test_changed_data_leave_everything_unread(tmp_path):
    for job in method_jobs(STUDY):
        write(tmp_path, job)
    other = MANIFEST.model_copy(update={"max_tokens": 128})
    assert current_records(STUDY, other, tmp_path) == Current([], 12)


def test_a_failed_configuration_is_not_done_so_there_is_no_winner_yet(tmp_path):
    cells = cell_jobs(STUDY)
    for job in cells[1:]:
        write(tmp_path, job, correct=900 if job == cells[3] else 800)
    write(tmp_path, cells[0], status="failed", error="out of memory", val=None, test=None)
    for job in winner_jobs(STUDY, cells[3]):
        write(tmp_path, job)
    current = current_records(STUDY, MANIFEST, tmp_path)
    assert (len(current.records), current.stale) == (8, 3)


@pytest.mark.fault(29)
def test_a_copied_folder_is_named_and_not_counted(tmp_path):
    for job in method_jobs(STUDY)[:2]:
        write(tmp_path, job)
    runs = tmp_path / STUDY.study
    shutil.copytree(runs / "last_layers" / "seed-1", runs / "last_layers" / "seed-1 copy")
    shutil.copytree(runs / "last_layers" / "seed-2", runs / "full" / "seed-2")
    current = current_records(STUDY, MANIFEST, tmp_path)
    assert sorted(record.asked.seed for record in current.records) == [1, 2]
    assert (current.stale, current.copies) == (0, ("full/seed-2", "last_layers/seed-1 copy"))
    shutil.move(tmp_path / STUDY.study, tmp_path / "another")
    other = make_study(study="another")
    assert len(current_records(other, MANIFEST, tmp_path).records) == 2


def test_a_record_whose_settings_were_altered_is_named(tmp_path):
    record = write(tmp_path, method_jobs(STUDY)[0])
    spoiled = record.model_copy(update={"asked": record.asked.model_copy(update={"settings": {}})})
    folder = run_folder(STUDY.study, "method", record.asked.name, record.asked.seed, tmp_path)
    write_record(spoiled, folder)
    with pytest.raises(
        DataError,
        match=rf"{record.asked.name}/seed-1/record\.json: its settings do not make its key",
    ):
        current_records(STUDY, MANIFEST, tmp_path)


@pytest.mark.fault(30)
def test_finished_configurations_of_other_parameters_or_data_are_counted_as_unread(tmp_path):
    cells = cell_jobs(STUDY)
    for job in cells[:5]:
        write(tmp_path, job)
    write(tmp_path, cells[5], status="failed", error="out of memory")
    write(tmp_path, method_jobs(STUDY)[0])
    assert unread_cells(STUDY, MANIFEST, tmp_path) == 0
    assert unread_cells(STUDY, MANIFEST.model_copy(update={"max_tokens": 128}), tmp_path) == 5
    grid = STUDY.grid.model_dump()
    assert unread_cells(make_study(grid=grid | {"alpha": [1]}), MANIFEST, tmp_path) == 1
    train = STUDY.train.model_dump()
    assert unread_cells(make_study(train=train | {"learning_rate": 1e-3}), MANIFEST, tmp_path) == 5
