"""A replication of "Code LoRA from Scratch" that people can run, compare and cite."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__version__ = "0.2.0"

URL = ""
"""Where the project is published; citations name it once it is set."""


def load_runs(study: str | Path) -> "pd.DataFrame":
    """The runs of a report, one row each; docs/usage.md has the columns and their units.

    Args:
        study: a study's name, the folder of a report, or a ``runs.parquet``.

    Raises:
        DataError: there is no such report, or it was made by another version.
    """
    from lora_replication.report.runs_table import read_runs  # pandas takes a second

    return read_runs(study)
