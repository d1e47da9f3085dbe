"""Publishing replaces a report and its records as one folder, or leaves what was there."""

from pathlib import Path

import pytest
from report_records import make_happened, make_manifest, make_record, make_study

from lora_replication.errors import EnvironmentProblem
from lora_replication.jobs import asked_of, method_jobs
from lora_replication.publishing import publish_study
from lora_replication.record import PREDICTIONS, run_folder, write_record

STUDY, MANIFEST = make_study(), make_manifest()


@pytest.fixture
def root(tmp_path):
    """A project with a workspace in which two runs are recorded and a report is written; an older
    report is published.
    """
    work = tmp_path / "build" / STUDY.study
    (work / "data" / STUDY.study).mkdir(parents=True)
    (work / "data" / STUDY.study / "manifest.json").write_text(MANIFEST.model_dump_json())
    for job in method_jobs(STUDY)[:2]:
        record = make_record(STUDY, job, make_happened(job, 800, 1000))
        folder = run_folder(STUDY.study, job.role, job.name, job.seed, work / "runs")
        write_record(record.model_copy(update={"asked": asked_of(STUDY, MANIFEST, job)}), folder)
        (folder / PREDICTIONS).write_bytes(b"predictions")
        (folder / "adapter.safetensors").write_bytes(b"large")
    for folder, text in ((work, "new"), (tmp_path, "old")):
        (folder / "reports" / STUDY.study).mkdir(parents=True)
        (folder / "reports" / STUDY.study / "report.html").write_text(text)
    (tmp_path / "reports" / STUDY.study / "gone.csv").write_text("old")
    return tmp_path


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_the_report_and_its_records_take_the_place_of_the_old_ones(root):
    publish_study(STUDY, root / "build" / STUDY.study, root)
    published = root / "reports" / STUDY.study
    assert (published / "report.html").read_text() == "new"
    assert files(published) == [
        *(
            f"records/last_layers/seed-{seed}/{name}"
            for seed in (1, 2)
            for name in ("predictions.parquet", "record.json")
        ),
        "report.html",
    ]
    assert [folder.name for folder in (root / "reports").iterdir()] == [STUDY.study]


@pytest.mark.parametrize("broken", ["new", "old"])
def test_what_cannot_be_put_in_place_leaves_the_old_report(root, monkeypatch, broken):
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if (self.name if broken == "new" else Path(target).name) == broken:
            raise OSError("disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(EnvironmentProblem, match="could not be published \\(disk is gone\\)"):
        publish_study(STUDY, root / "build" / STUDY.study, root)
    assert files(root / "reports") == [f"{STUDY.study}/gone.csv", f"{STUDY.study}/report.html"]
    assert (root / "reports" / STUDY.study / "report.html").read_text() == "old"
