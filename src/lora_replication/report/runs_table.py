"""``runs.parquet``: one row a run, with its settings, curve, counts, cost, machine and answers.

``columns.yaml`` says what each is; the same words are in the file, as metadata of its fields.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from lora_replication.data.reviews import read_table, table_to_bytes
from lora_replication.files import project_root, readable
from lora_replication.reading import study_names
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import Results
from lora_replication.report.tables import columns

if TYPE_CHECKING:
    import pandas as pd

RUNS = "runs.parquet"


def fields() -> list[str]:
    """The names of the columns."""
    return [column.field for column in columns(None, "runs.csv") if column.field]


def runs_file(results: Results, tested: Predictions) -> bytes:
    """The content of ``runs.parquet``: the runs of ``results`` with their answers in ``tested``."""
    arrays, schema = [], []
    for column in (one for one in columns(results, "runs.csv") if one.field):
        is_list, inner = column.kind.startswith("list of "), column.kind.removeprefix("list of ")
        kind = pa.list_(pa.type_for_alias(inner)) if is_list else pa.type_for_alias(inner)
        if column.field == "right":
            values = [tested.tests.get(run.key) for run in results.runs]
        else:
            values = [column.of(run) for run in results.runs]
        arrays.append(pa.array(values, kind))
        schema.append(pa.field(column.field, kind, metadata={"about": column.about}))
    words = {"title": results.title, "remark": results.remark}  # the file may travel alone
    return table_to_bytes(pa.table(arrays, schema=pa.schema(schema, metadata=words)))


def read_runs(study: str | Path) -> "pd.DataFrame":
    """See ``lora_replication.load_runs``."""
    source = Path(study)
    if str(study) in study_names(root := project_root()):
        source = root / "reports" / str(study)
    file = source / RUNS if source.is_dir() else source
    allowed = f"a study with a report, a report's folder or its {RUNS}"
    remedy = f"allowed: {allowed}, which lora-replication report STUDY writes"
    with readable(file, remedy, KeyError, pa.ArrowException):
        return read_table(file, fields()).to_pandas(use_threads=False)
