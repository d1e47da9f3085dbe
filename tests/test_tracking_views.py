"""The saved views of MLflow's page."""

import base64
import json
import zlib

import pytest

from lora_replication.tracking.address import resolved
from lora_replication.tracking.store import Store
from lora_replication.tracking.views import save_views
from tests import tracking_runs
from tests.tracking_runs import a_record, a_run, client, synced, written

empty_database, tracked = tracking_runs.empty_database, tracking_runs.tracked
pytestmark = pytest.mark.usefixtures("tracked")


def test_each_view_reads_back_as_it_was_meant_and_is_written_once(monkeypatch):
    written(a_record(a_run("r8", "cell")))
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
    }
    assert views["By method"]["groupBy"]["groupByKeys"] == [
        {"mode": "tag", "groupByData": "method"}
    ]
    (run,) = client().search_runs(
        [experiment.experiment_id], views["Grid by validation"]["searchFilter"]
    )
    logged = {"metrics": run.data.metrics, "params": run.data.params}
    for view in views.values():
        assert view["orderByAsc"] is False
        for column in view["selectedColumns"]:  # each is of something that runs have
            kind, _, name = column.partition(".")
            assert name.strip("`") in logged[kind]
    store = Store(resolved("sqlite:///mlflow.db"), "mirror")
    monkeypatch.setattr(store, "call", pytest.fail)
    link = f"#/experiments/{experiment.experiment_id}/runs?viewStateShareKey=by-method"
    assert save_views(store, experiment) == f"{link}&workflowType=machine_learning"
