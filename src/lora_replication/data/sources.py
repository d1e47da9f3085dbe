"""Where IMDb's labelled reviews come from: the hub, the archive, an unpacked folder or a parquet
copy. All give the same reviews.
"""

import os
from pathlib import Path

from lora_replication.data.aclimdb import ADDRESS, read_archive, read_folder
from lora_replication.data.hub import read_hub
from lora_replication.data.parquet import read_parquet_folder
from lora_replication.data.reviews import Loaded
from lora_replication.errors import DataError
from lora_replication.study import DataParams, expanded

ARCHIVE_VARIABLE = "IMDB_ARCHIVE"
"""The environment variable that names the archive where ``data.path`` is null."""


def load_imdb(data: DataParams) -> Loaded:
    """All labelled reviews of IMDb from the study's source, in the source's own order, without what
    the study leaves out.

    Raises:
        DataError: what the source holds is missing, damaged or not IMDb; ``data.path`` is needed
            and null.
        EnvironmentProblem: the hub can't be reached and its cache has no copy.
    """
    if data.source == "hub":
        return read_hub()
    if data.source == "archive":
        return read_archive(archive_path(data))
    return (read_folder if data.source == "folder" else read_parquet_folder)(_named_path(data))


def archive_path(data: DataParams) -> Path:
    """The archive that ``data.path`` names, else the variable ``IMDB_ARCHIVE``. Raises
    ``DataError`` where neither does.
    """
    named = data.path or os.environ.get(ARCHIVE_VARIABLE)
    if not named:
        raise DataError(
            f"data.path is null and the variable {ARCHIVE_VARIABLE} is not set; set one to the path of aclImdb_v1.tar.gz, from {ADDRESS}"
        )
    return expanded(named)


def _named_path(data: DataParams) -> Path:
    if data.path is None:
        raise DataError(f"data.path is null; source {data.source} needs it")
    path = expanded(data.path)
    if not path.is_dir():
        raise DataError(f"{path}: is no folder; source {data.source} needs data.path to name one")
    return path
