"""A merged classifier as a model that MLflow loads, serves and registers."""

import json
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_replication.errors import EnvironmentProblem
from lora_replication.files import file_digest
from lora_replication.machine import versions
from lora_replication.record import RECORD, Record
from lora_replication.tracking import content
from lora_replication.tracking.store import RECORD_DIGEST, Store, failures, load_mlflow

SERVED = Path(__file__).with_name("served_model.py")


def save_model(folder: Path, merged: Path) -> None:
    """Write an MLflow model of the ``merged`` folder; nothing in it is pickled."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    load_mlflow()
    import mlflow
    from mlflow.models import Model

    found = versions()
    needed = [
        f"{name}=={found[name].split('+')[0]}" for name in ("mlflow", "torch", "transformers")
    ]
    with warnings.catch_warnings(action="ignore"):
        mlflow.pyfunc.save_model(
            folder,
            python_model=str(SERVED),
            artifacts={"classifier": str(merged)},
            pip_requirements=needed,
        )
        model = Model.load(folder)
        flavour: dict[str, Any] = model.flavors["python_function"]
        flavour["model_code_path"] = SERVED.name  # else paths of this machine
        flavour["artifacts"]["classifier"]["uri"] = flavour["artifacts"]["classifier"]["path"]
        model.save(str(folder / "MLmodel"))


def register_model(folder: Path, name: str, run_folder: Path, record: Record, store: Store) -> str:
    """Keep the model in ``folder`` as logged by the run of ``record``, as a version of ``name``.

    Where MLflow has no whole copy of the record in ``run_folder``, it is made. Returns the model's
    address, ``models:/name/1``. Raises ``EnvironmentProblem`` where MLflow fails.
    """
    tags, settings = content.run_tags(record.asked), content.parameters(record.asked)
    accuracies = [p for p in content.record_points(record) if p.name.startswith("accuracy/")]
    try:
        experiment_id = store.experiment_id(record.asked)
        whole = f"tags.{RECORD_DIGEST} = '{file_digest(run_folder / RECORD)}'"
        found = store.runs(experiment_id, whole)
        run_id = found[0].info.run_id if found else store.copy(run_folder, record)
        model = store.call("create_logged_model", experiment_id, name, run_id, tags, settings)
        store.call("log_model_artifacts", model.model_id, str(folder))
        store.call("finalize_logged_model", model.model_id, "READY")
        from mlflow.entities import LoggedModelOutput, Metric
        from mlflow.exceptions import MlflowException

        store.call("log_outputs", run_id, [LoggedModelOutput(model.model_id, step=0)])
        store.call("log_batch", run_id, [Metric(*point, model.model_id) for point in accuracies])
        with suppress(MlflowException):  # there is one
            store.call("create_registered_model", name)
        about = {"description": tags["mlflow.note.content"], "model_id": model.model_id}
        version = store.call("create_model_version", name, model.model_uri, run_id, **about)
        which = {"mlflow.modelVersions": json.dumps([{"name": name, "version": version.version}])}
        store.call("set_logged_model_tags", model.model_id, which)
    except failures() as problem:
        raise EnvironmentProblem(store.give_up(problem)) from None
    return f"models:/{name}/{version.version}"
