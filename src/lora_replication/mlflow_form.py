"""A merged classifier as a model that MLflow loads, serves and registers."""

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from lora_replication.errors import EnvironmentProblem
from lora_replication.machine import versions
from lora_replication.record import Run
from lora_replication.tracking.store import Store, failures, load_mlflow

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


def register_model(folder: Path, name: str, run: Run, store: Store) -> str:
    """Keep the model in ``folder`` in the experiment of ``run``'s study, as a version of ``name``.

    Returns its address, ``models:/name/1``. Raises ``EnvironmentProblem`` where MLflow fails.
    """
    try:
        model = store.call("create_logged_model", store.experiment_id(run), name)
        store.call("log_model_artifacts", model.model_id, str(folder))
        store.call("finalize_logged_model", model.model_id, "READY")
        from mlflow.exceptions import MlflowException

        with suppress(MlflowException):  # there is one
            store.call("create_registered_model", name)
        version = store.call("create_model_version", name, model.model_uri)
    except failures() as problem:
        raise EnvironmentProblem(store.give_up(problem)) from None
    return f"models:/{name}/{version.version}"
