"""IMDb's labelled reviews from the hub, the archive, an unpacked folder or a parquet copy.

All hold the same reviews; which ones they must be, ``split`` knows.

Source: Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis";
https://ai.stanford.edu/~amaas/data/sentiment/.
"""

import os
import re
import tarfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

from lora_replication.data.reviews import NEGATIVE, POSITIVE, Loaded, Review, read_table
from lora_replication.errors import DataError
from lora_replication.files import expanded, file_digest, readable
from lora_replication.pins import HubFiles
from lora_replication.study import DataParams

ADDRESS = "https://ai.stanford.edu/~amaas/data/sentiment/"

ARCHIVE_VARIABLE = "IMDB_ARCHIVE"
"""The environment variable that names the archive where ``data.path`` is null."""

ARCHIVES = {
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe": "aclImdb_v1.tar.gz",
    "6b729a5dad21cc03e095ea68744e66826c4f89c659746b242fa783cf667f79a9": "its labelled part",
}
"""sha256 of the archives that may be read, with what they are."""

HUB = HubFiles(
    "stanfordnlp/imdb",
    "e6281661ce1c48d982bc483cf8a173c1bbeb5d31",
    ("plain_text/train-00000-of-00001.parquet", "plain_text/test-00000-of-00001.parquet"),
    "dataset",
)
"""The labelled reviews in the hub's copy; a third file there has reviews without labels."""

_REVIEW = re.compile(r"((?:train|test)/(?:pos|neg))/([0-9]+)_[0-9]+\.txt")
_ADDRESSES = re.compile(r"(train|test)/urls_(pos|neg)\.txt")
_MOVIE = re.compile(r"/title/(tt[0-9]+)/")


def load_imdb(data: DataParams) -> Loaded:
    """All labelled reviews of the study's source, in the source's own order.

    Raises:
        DataError: what the source holds is missing or damaged; ``data.path`` is needed and null.
        EnvironmentProblem: the hub can't be reached and its cache has no copy.
    """
    if data.source == "hub":
        return read_hub()
    path = expanded(data.path or os.environ.get(ARCHIVE_VARIABLE, ""))
    if data.source == "archive":
        if path == Path():
            raise DataError(
                f"data.path is null and the variable {ARCHIVE_VARIABLE} is not set; "
                f"set one to the path of aclImdb_v1.tar.gz, from {ADDRESS}"
            )
        return read_archive(path)
    if not path.is_dir():
        raise DataError(f"{path}: is no folder; source {data.source} needs data.path to name one")
    return read_folder(path) if data.source == "folder" else read_parquet_folder(path)


def read_hub() -> Loaded:
    """From the hub's cache where they are there, else from the hub; see ``HubFiles.fetched``."""
    files = HUB.fetched("set data.source to archive, folder or parquet with data.path")
    return _read_parquet(dict(zip(HUB.names, files, strict=True)), HUB.revision)


def read_parquet_folder(folder: Path) -> Loaded:
    """From every ``*.parquet`` file in ``folder`` or below it, such as a copy of the hub's; rows
    without a label, which the hub has too, are left out.

    Raises ``DataError`` where there is no such file, or one lacks columns text and label.
    """
    files = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*.parquet"))}
    if not files:
        raise DataError(f"{folder}: holds no .parquet files; data.path names a folder with some")
    return _read_parquet(files, None)


def _read_parquet(files: dict[str, Path], revision: str | None) -> Loaded:
    rows = {name: _rows(file) for name, file in files.items()}
    digests = {name: file_digest(files[name]) for name, reviews in rows.items() if reviews}
    return Loaded([review for reviews in rows.values() for review in reviews], revision, digests)


def read_archive(file: Path, digests: Collection[str] = tuple(ARCHIVES)) -> Loaded:
    """From a ``.tar.gz``, as a stream: nothing is unpacked to disk.

    ``digests`` are the sha256 that it may have, checked before anything in it is read. Raises
    ``DataError`` where it is missing or another file.
    """
    with readable(file, f"get it from {ADDRESS}, or name an unpacked one with data.source folder"):
        sha256 = file_digest(file)
    if sha256 not in digests:
        known = " or ".join(f"{digest} ({ARCHIVES.get(digest)})" for digest in digests)
        raise DataError(
            f"{file}: has sha256 {sha256}; allowed: {known}; get it again from {ADDRESS}, or if a "
            "browser unzipped it on its way, unpack it (tar -xf), and set data.source folder and "
            "data.path to the folder aclImdb"
        )
    with tarfile.open(file, "r|gz") as archive:
        reviews = _reviews(_members(archive), str(file))
    return Loaded(reviews, None, {file.name: sha256})


def read_folder(folder: Path) -> Loaded:
    """From an unpacked archive; ``folder`` is ``aclImdb`` or the folder that holds it.

    Without ``urls_pos.txt`` and ``urls_neg.txt`` the movies are unknown. Raises ``DataError`` where
    a file can't be read.
    """
    root = folder / "aclImdb" if (folder / "aclImdb").is_dir() else folder
    files = ((file.relative_to(root).as_posix(), file) for file in sorted(root.rglob("*.txt")))
    try:
        reviews = _reviews(((name, file.read_bytes) for name, file in files), str(root))
        return Loaded(reviews, None, {})
    except OSError as problem:
        raise DataError(
            f"{problem.filename}: can't be read ({problem.strerror}); "
            "data.path names the folder aclImdb or the one around it"
        ) from None


def _members(archive: tarfile.TarFile) -> Iterator[tuple[str, Callable[[], bytes]]]:
    for member in archive:
        if content := archive.extractfile(member):
            yield member.name.removeprefix("aclImdb/"), content.read


def _reviews(files: Iterable[tuple[str, Callable[[], bytes]]], origin: str) -> list[Review]:
    """Reviews with their movies, where known: that of review N is in line N + 1 of the list.

    ``files`` are names below ``aclImdb``, of which others are passed over, and how each is read.
    """
    texts: dict[tuple[str, int, str], str] = {}
    movies: dict[str, dict[int, str]] = {}
    for name, read in files:
        review, addresses = _REVIEW.fullmatch(name), _ADDRESSES.fullmatch(name)
        try:
            text = read().decode("utf-8") if review or addresses else ""
        except UnicodeDecodeError as problem:
            raise DataError(f"{origin}: {name} is not UTF-8 at byte {problem.start}") from None
        if review:
            texts[review[1], int(review[2]), name.removesuffix(".txt")] = text
        elif addresses:
            found = {n: _MOVIE.search(line) for n, line in enumerate(text.split("\n"))}
            numbered = {number: match[1] for number, match in found.items() if match}
            movies[f"{addresses[1]}/{addresses[2]}"] = numbered
    labels = {"pos": POSITIVE, "neg": NEGATIVE}
    return [
        Review(text, labels[part[-3:]], name, movies.get(part, {}).get(number))
        for (part, number, name), text in texts.items()
    ]


def _rows(file: Path) -> list[Review]:
    """The labelled rows of a parquet file."""
    import pyarrow as pa
    from datasets import ClassLabel, Features, Value
    from datasets.table import table_cast

    # The hub's own schema, by which its readers take 0 and 1, neg and pos. ``datasets`` casts to
    # it; it does not read the file, because its reader's threads can abort the process at its end.
    schema = Features({"text": Value("string"), "label": ClassLabel(names=["neg", "pos"])})
    try:
        table = table_cast(read_table(file, list(schema)), schema.arrow_schema)
        rows = zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True)
        return [
            Review(text, label)
            for text, label in rows
            if text is not None and label in (NEGATIVE, POSITIVE)
        ]
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as problem:
        reason = str(problem).strip().split("\n", maxsplit=1)[0]
        raise DataError(
            f"{file}: can't be read as parquet with columns text and label (0 negative, "
            f"1 positive): {reason}; delete {file.resolve()} and get it again"
        ) from None
