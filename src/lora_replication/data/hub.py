"""The reviews as the Hugging Face hub keeps them, at a pinned revision."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from lora_replication.data.parquet import HUB_FILES, rows_of_table
from lora_replication.data.reviews import Loaded, Review
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import file_digest

REPOSITORY = "stanfordnlp/imdb"
REVISION = "e6281661ce1c48d982bc483cf8a173c1bbeb5d31"

ANSWER_SECONDS = 10.0
"""How long the hub may take to answer a first question. Left to themselves, the hub's clients try a
dead address for up to 90 s.
"""


def read_hub() -> Loaded:
    """Read the labelled reviews with ``datasets``, from the hub's cache where they are there, else
    from the hub.

    The pinned files of the cache serve without a question to the hub; ``HF_HOME``, ``HF_ENDPOINT``
    and ``HF_HUB_OFFLINE`` mean what they mean to ``datasets``. No use is reported to anyone.

    Raises:
        EnvironmentProblem: the files are not in the cache, and the hub is switched off, does not
            answer or has no such files.
        DataError: the files in the cache are damaged.
    """
    # The libraries read these when they are imported.
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["HF_UPDATE_DOWNLOAD_COUNTS"] = "0"
    files = _cached() or _downloaded()
    reviews = [review for file in files for review in _rows(file)]
    return Loaded(
        reviews,
        REVISION,
        {name: file_digest(file) for name, file in zip(HUB_FILES, files, strict=True)},
    )


def _cached() -> list[Path] | None:
    """Both files in the hub's cache, or null where one is missing."""
    from huggingface_hub import try_to_load_from_cache

    files = [
        try_to_load_from_cache(REPOSITORY, name, revision=REVISION, repo_type="dataset")
        for name in HUB_FILES
    ]
    found = [Path(file) for file in files if isinstance(file, str)]
    return found if len(found) == len(files) else None


def _downloaded() -> list[Path]:
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # of httpx or httpx2, whichever it uses

    try:
        HfApi().dataset_info(REPOSITORY, revision=REVISION, timeout=ANSWER_SECONDS)
        return [
            Path(hf_hub_download(REPOSITORY, name, revision=REVISION, repo_type="dataset"))
            for name in HUB_FILES
        ]
    except (HTTPError, OSError) as problem:
        raise EnvironmentProblem(
            f"{REPOSITORY}, revision {REVISION}: can't be had from the hub at {constants.ENDPOINT} "
            f"({type(problem).__name__}: {_line(problem)}), and {constants.HF_HUB_CACHE} holds no copy; "
            "set data.source to archive, folder or parquet with data.path, "
            "or bring a copy of the cache from another machine and set HF_HUB_OFFLINE=1"
        ) from None


def _line(problem: Exception) -> str:
    return str(problem).strip().split("\n", maxsplit=1)[0]


def _rows(file: Path) -> list[Review]:
    import pyarrow as pa
    from datasets import load_dataset

    try:
        # No second copy of the reviews is left in the cache of ``datasets``. Streamed, its threads
        # can abort at exit.
        with TemporaryDirectory() as cache:
            rows = load_dataset(
                "parquet",
                data_files={"reviews": str(file)},
                split="reviews",
                cache_dir=cache,
                keep_in_memory=True,
            )
            table = rows.with_format("arrow")[:]
    except (pa.ArrowException, OSError) as problem:
        raise DataError(
            f"{file}: can't be read as parquet ({_line(problem)}); delete this copy of {REPOSITORY} and run again"
        ) from None
    return rows_of_table(table, str(file))
