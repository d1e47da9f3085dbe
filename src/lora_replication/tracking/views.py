"""Saved views of a study's runs in MLflow's page, kept as tags of the experiment."""

import base64
import json
import zlib
from typing import Any

from lora_replication.tracking.store import Store

TAG = "mlflow.sharedViewState."

BY_METHOD = "by-method"
"""The view that the link opens."""

TEST, VALIDATION = "metrics.`accuracy/test`", "metrics.`accuracy/validation`"
COST = [
    "metrics.`cost/training_minutes`",
    "metrics.`cost/evaluation_minutes`",
    "metrics.`cost/peak_memory_gib`",
    "metrics.`cost/tokens_per_second`",
]
GROUPS = {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": "method"}]}

VIEWS: dict[str, tuple[str, dict[str, Any]]] = {
    BY_METHOD: (
        "By method",
        {
            "selectedColumns": [TEST, VALIDATION, "metrics.`parameters/trainable`"],
            "orderByKey": TEST,
            "groupBy": GROUPS,
        },
    ),
    "grid-by-validation": (
        "Grid by validation",
        {
            "searchFilter": "tags.role = 'cell'",
            "selectedColumns": [VALIDATION, TEST, "params.`lora.rank`", "params.`lora.alpha`"],
            "orderByKey": VALIDATION,
        },
    ),
    "cost": ("Cost", {"selectedColumns": [*COST, TEST], "orderByKey": COST[0]}),
}
"""By key: a view's name, and what differs from MLflow's own."""


def save_views(store: Store, experiment: Any) -> str:
    """Give ``experiment`` its views; returns the link of the first, from MLflow's page on."""
    for key, (name, state) in VIEWS.items():
        packed = zlib.compress(json.dumps(state | {"orderByAsc": False}).encode())
        made = {"createdAt": experiment.creation_time, "updatedAt": experiment.creation_time}
        value = {"name": name, **made, "state": "deflate;" + base64.b64encode(packed).decode()}
        if experiment.tags.get(TAG + key) != json.dumps(value):
            store.call("set_experiment_tag", experiment.experiment_id, TAG + key, json.dumps(value))
    query = f"viewStateShareKey={BY_METHOD}&workflowType=machine_learning"
    return f"#/experiments/{experiment.experiment_id}/runs?{query}"
