"""MLflow rebuilt from records: nothing is lost, nothing doubled, nobody's run is ended."""

import base64
import json
import shutil
import zlib
from pathlib import Path
from statistics import fmean

import pytest

from lora_replication.errors import EnvironmentProblem, ParameterError, Stopped
from lora_replication.files import only_writer
from lora_replication.record import write_record
from lora_replication.report.build import build_report
from lora_replication.tracking import sync
from lora_replication.tracking.mirror import open_mirror
from lora_replication.tracking.store import Store, resolved
from tests import report_records as made
from tests import tracking_runs
from tests.tracking_runs import (
    NOON,
    TRACKING,
    a_record,
    a_run,
    client,
    curve,
    listener,
    mirrored,
    prepared,
    runs,
    synced,
    written,
)

empty_database, tracked = tracking_runs.empty_database, tracking_runs.tracked
pytestmark = pytest.mark.usefixtures("tracked")
CURVE = [(1, 2.0), (2, 1.0), (3, 2 / 3)]


def cut_off(record) -> None:
    """Log a run that is stopped after its first epoch, while MLflow can't be told the end."""
    with pytest.raises(Stopped), open_mirror(prepared(), record.asked) as mirror:
        mirror.epoch(record.happened.epochs[0])
        raise Stopped(15)


def set_running(run) -> None:
    client().set_terminated(run.info.run_id, "RUNNING")


def lock(run) -> Path:
    return Path("build/state/toy") / f"{run.place}.lock"


def test_what_is_missing_is_added_as_it_would_have_been_mirrored_and_nothing_twice():
    mirrored(a_record(a_run(seed=1)))
    written(a_record(a_run(seed=2)))
    assert synced() == {"added": 1, "already there": 1}
    assert synced() == {"already there": 2}
    live, rebuilt = sorted(runs(), key=lambda run: run.data.params["seed"])
    assert live.data.metrics == rebuilt.data.metrics
    assert live.data.params == rebuilt.data.params | {"seed": "1"}
    assert live.data.tags.keys() == rebuilt.data.tags.keys()
    assert curve(live, "validation_loss") == curve(rebuilt, "validation_loss") == CURVE
    assert (rebuilt.info.start_time, rebuilt.info.end_time) == (NOON, NOON + 65_000)
    assert len(client().list_artifacts(rebuilt.info.run_id)) == 3


@pytest.mark.fault(1, 5, 10)
def test_a_run_that_was_cut_off_is_completed():
    record = a_record(a_run())
    cut_off(record)
    written(record)
    assert synced() == {"completed": 1}
    assert synced() == {"already there": 1}
    (found,) = runs()
    assert found.info.status == "FINISHED"
    assert curve(found, "validation_loss") == CURVE
    assert len(client().get_metric_history(found.info.run_id, "accuracy/test")) == 1


def test_an_earlier_attempt_stays():
    mirrored(a_record(a_run(), status="failed", error="memory"))
    written(a_record(a_run(), attempt=2))
    assert synced() == {"added": 1}
    assert sorted(run.info.status for run in runs()) == ["FAILED", "FINISHED"]
    assert synced() == {"already there": 1}


@pytest.mark.fault(1, 5)
def test_running_runs_are_killed_unless_their_lock_is_held():
    for seed in (1, 2):
        cut_off(a_record(a_run(seed=seed)))
    written(a_record(a_run(seed=2)))
    for run in runs():
        set_running(run)
    with only_writer(lock(a_run(seed=1))), only_writer(lock(a_run(seed=2))):
        assert synced() == {sync.RUNNING: 1}
        assert [run.info.status for run in runs()] == ["RUNNING", "RUNNING"]
    assert synced() == {"completed": 1, sync.KILLED: 1}
    assert sorted(run.info.status for run in runs()) == ["FINISHED", "KILLED"]


def test_configurations_share_a_parent_however_they_come():
    mirrored(a_record(a_run("r1", "cell", rank=1)))
    tracking_runs._store.cache_clear()
    mirrored(a_record(a_run("r2", "cell", rank=2)))
    written(a_record(a_run("r4", "cell", rank=4)))
    mirrored(a_record(a_run("r1", "cell", seed=2, rank=1)))
    assert synced() == {"added": 1, "already there": 3}
    parents = {run.info.run_id: run.info.run_name for run in runs("tags.role = 'parent'")}
    assert sorted(parents.values()) == ["Grid, seed 1", "Grid, seed 2"]
    for run in runs("tags.role = 'cell'"):
        parent = parents[run.data.tags["mlflow.parentRunId"]]
        assert parent == f"Grid, seed {run.data.params['seed']}"


def test_records_of_one_key_are_runs_of_their_own_and_do_not_fight_over_a_partial_one():
    cut_off(a_record(a_run()))
    written(a_record(a_run()))
    written(a_record(a_run("r8", "cell")))
    written(a_record(a_run(), finished="2024-01-31T13:00:00+00:00"), "singles")
    assert synced() == {"added": 2, "completed": 1}
    assert synced() == {"already there": 3}


def test_published_records_count_where_there_is_no_other_and_copies_elsewhere_do_not():
    published = Path("reports/toy/records")
    for seed in (1, 2):
        run = a_run(seed=seed)
        write_record(a_record(run), published / run.place)
    written(a_record(a_run(seed=1), finished="2024-01-31T13:00:00+00:00"))
    shutil.copytree("runs/toy/lora_default", "runs/toy/copy")
    foreign = a_run(study="other")
    write_record(a_record(foreign), Path("runs/toy") / foreign.place.with_name("seed-9"))
    assert synced() == {"added": 2}
    assert {run.data.params["seed"]: run.info.end_time - NOON for run in runs()} == {
        "1": 3_600_000,
        "2": 65_000,
    }


def test_parents_and_a_run_tell_what_the_report_says_and_are_in_no_mean_of_runs():
    workspace = made.make_workspace(made.make_study(), Path())
    records = made.make_records(workspace)
    made.write_study(workspace, records, made.make_predictions(records))
    results = build_report(workspace, workspace.report)
    store, study = Store(resolved(TRACKING.uri), "mirror"), workspace.study.study

    def all_runs():
        sync.sync(workspace.study, Path(), store)
        return {run.info.run_id: run for run in runs("", study)}

    found = all_runs()
    counted = runs(sync.views()["by-method"]["searchFilter"], study)
    assert len(counted) == 5 * 3
    for row in results.rows:
        below = [run for run in counted if run.data.params["method"] == row.name]
        (parent,) = {run.data.tags["mlflow.parentRunId"] for run in below}
        assert {run.data.tags["method"] for run in below} == {found[parent].info.run_name}
        told = found[parent].data.metrics
        mean = fmean(run.data.metrics["accuracy/test"] for run in below)
        assert told["mean/test"] == pytest.approx(mean)
        ends = (row.interval.low, row.interval.high)
        assert (told["mean/test_low"], told["mean/test_high"]) == ends
        assert told["seeds"] == len(below) == 3
    (grid,) = (run for run in found.values() if run.info.run_name == "Grid, seed 1")
    tags, counts = grid.data.tags, grid.data.metrics
    assert (tags["axis_alpha"], tags["axis_rank"]) == ("1, 16", "2, 8")
    assert tags["winner"] == results.grid.winner_by_validation
    assert (counts["configurations/asked"], counts["configurations/done"]) == (8, 8)
    (report,) = (run for run in found.values() if run.data.tags["role"] == "report")
    artifacts = [client().list_artifacts(report.info.run_id, at) for at in (None, "figures")]
    names = {file.path for each in artifacts for file in each}
    assert {"report.html", "card.md", "table.csv", "figures/accuracy_by_method.png"} <= names
    assert [run.to_dictionary() for run in all_runs().values()] == [
        run.to_dictionary() for run in found.values()
    ]
    (workspace.report / "card.md").write_text("another")
    again = all_runs()
    assert found.keys() - again.keys() == {report.info.run_id} and len(again) == len(found)


@pytest.fixture
def project(tracked) -> Path:
    """With the studies ``article``, ``one`` and ``two``, all in mlflow.db."""
    text = (Path(__file__).parents[1] / "params.yaml").read_text("utf-8")
    text = text.replace("experiment: lora-replication", "experiment: mirror")
    (tracked / "params.yaml").write_text(text)
    for name in ("one", "two"):
        folder = tracked / "studies" / name
        folder.mkdir(parents=True)
        own = text.replace("study: article", f"study: {name}").replace("root: . ", "root: ../.. ")
        (folder / "params.yaml").write_text(own)
    return tracked


def test_all_studies_are_told_in_words_and_one_that_fails_stops_no_other(project, capsys):
    for study in ("one", "two"):
        written(a_record(a_run(study=study)))
    sync.sync_all(project, "http://here")
    article, one, link, *_ = capsys.readouterr().out.splitlines()
    assert article == "article: no runs yet"
    assert one == "one: 1 run added, 0 completed, 0 already there"
    assert link.startswith("  http://here/#/experiments/")
    assert runs(study="two")[0].info.status == "FINISHED"
    client().delete_experiment(client().get_experiment_by_name("mirror/two").experiment_id)
    written(a_record(a_run(study="two", seed=2)))
    (project / "studies" / "one" / "params.yaml").write_text("no: study")
    with pytest.raises(ParameterError, match=r"^one: .*params\.yaml"):
        sync.sync_all(project, "http://here")
    assert "two: 1 run added, 0 completed, 1 already there" in capsys.readouterr().out


@pytest.mark.fault(9, 42)
def test_a_server_that_fails_is_asked_once_for_all_studies(project, monkeypatch):
    (project / "studies" / "two" / "params.yaml").write_text("no: study")
    with listener(b"hello") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.replace("//", "//me:s3cret@"))
        asked = []
        call = sync.Store.call
        monkeypatch.setattr(sync.Store, "call", lambda *given: asked.append(1) or call(*given))
        with pytest.raises(EnvironmentProblem) as problem:
            sync.sync_all(project, "http://here")
    assert len(asked) == 1
    first, *rest = str(problem.value).splitlines()
    assert first.startswith("article, one: MLflow at http://***@127.0.0.1") and rest
    assert "s3cret" not in str(problem.value)


def test_nothing_to_copy_makes_no_database(tracked):
    Path("mlflow.db").unlink()
    assert synced() == {}
    assert not list(tracked.iterdir())


def test_of_two_parents_made_at_once_the_oldest_is_taken(monkeypatch):
    cells = [a_run(f"r{rank}", "cell", rank=rank) for rank in (1, 2)]
    mirrored(a_record(cells[0]))
    (oldest,) = runs("tags.role = 'parent'")
    tracking_runs._store.cache_clear()
    found, looks = Store.runs, []

    def unseen_at_first(store, experiment_id, condition):
        looks.append(condition)
        first = looks.count(condition) == 1 and "group" in condition
        return [] if first else found(store, experiment_id, condition)

    monkeypatch.setattr(Store, "runs", unseen_at_first)
    mirrored(a_record(cells[1]))
    assert [run.info.run_id for run in runs("tags.role = 'parent'")] == [oldest.info.run_id]


def test_each_view_reads_back_as_it_was_meant_and_is_written_once(monkeypatch):
    written(a_record(a_run("r8", "cell")))
    written(a_record(a_run("lora_default", "trial")))
    synced()
    experiment = client().get_experiment_by_name("mirror/toy")
    views = {}
    for tag, value in experiment.tags.items():
        if tag.startswith("mlflow.sharedViewState."):
            view = json.loads(value)
            packed = view["state"].removeprefix("deflate;")
            assert packed != view["state"] and isinstance(view["createdAt"], int)
            views[view["name"]] = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert {name: view["orderByKey"] for name, view in views.items()} == {
        "By method": "metrics.`accuracy/test`",
        "Grid by validation": "metrics.`accuracy/validation`",
        "Cost": "metrics.`cost/training_minutes`",
        "Means and intervals": "metrics.`mean/test`",
    }
    (run,) = client().search_runs(
        [experiment.experiment_id], views["Grid by validation"]["searchFilter"]
    )
    method_filter = views["By method"]["searchFilter"]
    assert client().search_runs([experiment.experiment_id], method_filter) == []
    logged = {"metrics": run.data.metrics, "params": run.data.params}
    del views["Means and intervals"]  # of parents, which have them from a report
    for view in views.values():
        for column in view["selectedColumns"]:  # each is of something that runs have
            kind, _, name = column.partition(".")
            assert name.strip("`") in logged[kind]
    store = Store(resolved("sqlite:///mlflow.db"), "mirror")
    monkeypatch.setattr(store, "call", pytest.fail)
    link = f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=by-method"
    about = experiment.tags["mlflow.note.content"]
    assert about == "DistilBERT on IMDb, the article's own study"  # no report yet
    assert sync.describe(store, experiment, about) == f"{link}&workflowType=machine_learning"
