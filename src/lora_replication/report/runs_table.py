"""``runs.parquet``: one row a run, with its settings, curve, counts, cost, machine and answers.

``COLUMNS`` says what each column is; the same words are in the file, as metadata of its fields.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lora_replication.data.reviews import read_table, table_to_bytes
from lora_replication.errors import DataError
from lora_replication.files import project_root
from lora_replication.reading import study_names
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Results

if TYPE_CHECKING:
    import pandas as pd

RUNS = "runs.parquet"

TEXT, WHOLE, NUMBER, YES = pa.string(), pa.int64(), pa.float64(), pa.bool_()

COLUMNS: dict[str, tuple[pa.DataType, str, str]] = {
    "study": (TEXT, "", "name of the study"),
    "role": (TEXT, "role", "method, cell (of the grid), winner, runner_up, trial or tuned"),
    "name": (TEXT, "name", "of the method or configuration"),
    "seed": (WHOLE, "seed", "random seed"),
    "nudge": (WHOLE, "nudge", "0, or the number of a repeat from almost the same weights"),
    "key": (TEXT, "key", "sha256 of what decides the result"),
    "place": (WHOLE, "place", "in the grid by validation accuracy, from 1"),
    "settings": (TEXT, "", "JSON of all settings that are not at their defaults"),
    "learning_rate": (NUMBER, "settings.learning_rate", "of Adam"),
    "trains": (TEXT, "settings.trains", "what trains: head, lora or all"),
    "lora_rank": (WHOLE, "settings.lora.rank", "rank r of LoRA"),
    "lora_alpha": (NUMBER, "settings.lora.alpha", "factor alpha of LoRA"),
    "lora_targets": (pa.list_(TEXT), "settings.lora.targets", "where LoRA sits"),
    "status": (TEXT, "status", "ok, diverged, failed, killed or timeout"),
    "error": (TEXT, "error", "why it failed, was killed or timed out"),
    "first_bad_step": (WHOLE, "first_bad_step", "first step whose loss is not finite, from 1"),
    "one_class": (YES, "one_class", "whether a single class is predicted"),
    "best_epoch": (WHOLE, "best_epoch", "by validation accuracy, from 1"),
    "stopped_after": (WHOLE, "stopped_after", "epoch after which one class ended the training"),
    "train_correct": (WHOLE, "train.correct", "training reviews right at the best epoch"),
    "train_reviews": (WHOLE, "train.reviews", "training reviews"),
    "val_correct": (WHOLE, "val.correct", "validation reviews right at the best epoch"),
    "val_reviews": (WHOLE, "val.reviews", "validation reviews"),
    "test_correct": (WHOLE, "test.correct", "test reviews right at the best epoch"),
    "test_reviews": (WHOLE, "test.reviews", "test reviews"),
    "test_ones": (WHOLE, "test.ones", "test reviews that are predicted positive"),
    "epoch_train_loss": (pa.list_(NUMBER), "epochs.train_loss", "nats, with dropout, one an epoch"),
    "epoch_train_accuracy": (pa.list_(NUMBER), "epochs.train_accuracy", "fraction, an epoch"),
    "epoch_val_loss": (pa.list_(NUMBER), "epochs.val_loss", "nats, one an epoch"),
    "epoch_val_accuracy": (pa.list_(NUMBER), "epochs.val_accuracy", "fraction, one an epoch"),
    "epoch_seconds": (pa.list_(NUMBER), "epochs.seconds", "seconds, one an epoch"),
    "trainable_parameters": (WHOLE, "trainable_parameters", "numbers that train"),
    "total_parameters": (WHOLE, "total_parameters", "numbers of the whole classifier"),
    "pack": (WHOLE, "pack", "configurations that trained together"),
    "training_seconds": (NUMBER, "training_seconds", "wall time; in a pack an equal share"),
    "evaluation_seconds": (NUMBER, "evaluation_seconds", "wall time; in a pack equal shares"),
    "tokens_per_second": (NUMBER, "tokens_per_second", "real tokens trained per second"),
    "peak_memory_bytes": (WHOLE, "peak_memory_bytes", "bytes of the run or its pack"),
    "commit": (TEXT, "commit", "of the code"),
    "cpu": (TEXT, "cpu", "model of the processor"),
    "cores": (WHOLE, "cores", "of the machine"),
    "load": (NUMBER, "load", "mean number of processes that wanted a core"),
    "gpu": (TEXT, "gpu", "model of the GPU"),
    "threads": (WHOLE, "threads", "of torch"),
    "right": (pa.list_(YES), "", "whether each test review is right, in the order of the split"),
}  # fmt: skip
"""By name: type, where it is in a ``RunRow``, and what it is with its unit. Null where unknown."""


def runs_file(results: Results, tested: Predictions) -> bytes:
    """The content of ``runs.parquet``: the runs of ``results`` with their answers in ``tested``."""
    known: dict[str, list[Any]] = {
        "study": [results.study["study"] for _ in results.runs],
        "settings": [run.settings.model_dump_json(exclude_defaults=True) for run in results.runs],
        "right": [tested.tests.get(run.key) for run in results.runs],
    }
    arrays, fields = [], []
    for name, (kind, path, about) in COLUMNS.items():
        values = known.get(name) or [_value(run, path.split(".")) for run in results.runs]
        arrays.append(pa.array(values, kind))
        fields.append(pa.field(name, kind, metadata={"about": about}))
    words = {"title": results.title, "remark": results.remark}  # the file may travel alone
    return table_to_bytes(pa.table(arrays, schema=pa.schema(fields, metadata=words)))


def _value(row: Any, path: Iterable[str]) -> Any:
    """What is at ``path``, of each part of a list; None where something on the way is."""
    for name in path:
        if isinstance(row, list):
            row = [getattr(part, name) for part in row]
        elif row is not None:
            row = getattr(row, name)
    return row


def read_runs(study: str | Path) -> "pd.DataFrame":
    """See ``lora_replication.load_runs``."""
    source = Path(study)
    if str(study) in study_names(root := project_root()):
        source = root / "reports" / str(study)
    file = source / RUNS if source.is_dir() else source
    try:
        found = read_table(file, list(COLUMNS))
    except (OSError, KeyError, pa.ArrowException) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise DataError(
            f"{file}: can't be read ({reason}); allowed: a study with a report, a report's folder "
            f"or its {RUNS}, which lora-replication report STUDY writes"
        ) from None
    return found.to_pandas(use_threads=False)
