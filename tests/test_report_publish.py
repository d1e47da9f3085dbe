"""Publishing replaces records and data of a report whole, or leaves what was there."""

from pathlib import Path

import pytest

from lora_replication.data.manifest import read_test_reviews
from lora_replication.errors import EnvironmentProblem
from lora_replication.plan import progress
from lora_replication.record import ADAPTER
from lora_replication.report.build import publish_records
from lora_replication.workspace import Workspace
from tests import report_records as made

STUDY = made.make_study(run={"methods": ["last_layers"], "seeds": [1, 2]})
OLD = ["data/manifest.json", "records/gone.json", "report.html"]
KEPT = ("predictions.parquet", "record.json")
RUNS = [f"records/last_layers/seed-{seed}/{name}" for seed in (1, 2) for name in KEPT]
NEW = ["data/manifest.json", "data/test_reviews.parquet", *RUNS, "report.html"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two recorded runs, a report, and what an older one was made from."""
    own = made.make_workspace(STUDY, tmp_path)
    records = made.make_records(own)[:2]
    made.write_study(own, records, made.make_predictions(records))
    (own.data / "test.parquet").write_bytes(b"texts")
    (own.folder(records[0].asked) / ADAPTER).write_bytes(b"large")
    for name in OLD:
        (own.report / name).parent.mkdir(parents=True, exist_ok=True)
        (own.report / name).write_text("old")
    return Workspace(STUDY, tmp_path)


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_what_a_report_is_made_from_is_put_next_to_it_without_texts_and_adapters(
    workspace: Workspace, tmp_path: Path
) -> None:
    publish_records(workspace)
    assert files(workspace.report) == NEW
    published = Workspace.published(STUDY, tmp_path)
    assert read_test_reviews(published.data, published.manifest).num_rows == 1000
    assert len(progress(published).done) == 2


@pytest.mark.parametrize("name", ["data", "records"])
@pytest.mark.parametrize("which", ["old", "new"])
def test_what_cannot_be_put_in_place_leaves_what_was_there(workspace, monkeypatch, name, which):
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        is_old = self.parent == workspace.report
        is_new = target.parent == workspace.report and self.parent.name != "old"
        if self.name == name and (is_old if which == "old" else is_new):
            raise OSError("disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(EnvironmentProblem, match="could not be published \\(disk is gone\\)"):
        publish_records(workspace)
    assert files(workspace.report) == OLD
