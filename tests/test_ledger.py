from report_records import altered, make_happened, make_manifest, make_record, make_study

from lora_replication.grid.space import cell_jobs, winner_jobs
from lora_replication.jobs import asked_of, method_jobs
from lora_replication.ledger import current_records
from lora_replication.records import run_folder, write_record

STUDY, MANIFEST = make_study(), make_manifest()


def write(root, job, study=STUDY, correct=800, **happened):
    record = make_record(study, job, make_happened(job, correct, 1000))
    record = altered(record.model_copy(update={"asked": asked_of(study, MANIFEST, job)}), **happened)
    write_record(record, run_folder(study.study, job.role, job.name, job.seed, root))
    return record


def test_records_of_what_is_asked_now_are_current_and_the_winner_with_them(tmp_path):
    cells = cell_jobs(STUDY)
    for job in (*method_jobs(STUDY), *cells):
        write(tmp_path, job, correct=900 if job == cells[3] else 800)
    for job in winner_jobs(STUDY, cells[3]):
        write(tmp_path, job)
    records, ignored = current_records(STUDY, MANIFEST, tmp_path)
    assert (len(records), ignored) == (12 + 8 + 3, 0)


def test_fresh_seeds_of_a_former_winner_are_left_unread(tmp_path):
    cells = cell_jobs(STUDY)
    for job in cells:
        write(tmp_path, job, correct=900 if job == cells[3] else 800)
    for job in winner_jobs(STUDY, cells[2]):
        write(tmp_path, job)
    records, ignored = current_records(STUDY, MANIFEST, tmp_path)
    assert (len(records), ignored) == (8, 3)


def test_changed_parameters_leave_that_methods_records_unread(tmp_path):
    for job in method_jobs(STUDY):
        write(tmp_path, job)
    methods = STUDY.model_dump(mode="json")["methods"]
    methods["full"]["learning_rate"] = 1e-3
    records, ignored = current_records(make_study(methods=methods), MANIFEST, tmp_path)
    assert ignored == 3
    assert {record.asked.name for record in records} == {"last_layers", "lora_default", "lora_tuned"}


def test_changed_data_leave_everything_unread(tmp_path):
    for job in method_jobs(STUDY):
        write(tmp_path, job)
    other = MANIFEST.model_copy(update={"max_tokens": 128})
    assert current_records(STUDY, other, tmp_path) == ([], 12)
