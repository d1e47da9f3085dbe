"""The layout of ``aclImdb``: the archive as Stanford publishes it, streamed and never unpacked, or
a folder that it was unpacked to.

Source: Maas et al. 2011, "Learning Word Vectors for Sentiment Analysis";
https://ai.stanford.edu/~amaas/data/sentiment/.
"""

import re
import tarfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from lora_replication.data.reviews import MOST_BYTES, NEGATIVE, POSITIVE, Loaded, Review
from lora_replication.errors import DataError
from lora_replication.files import file_digest

ADDRESS = "https://ai.stanford.edu/~amaas/data/sentiment/"

ARCHIVE_DIGESTS = {
    "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe": "aclImdb_v1.tar.gz as published",
    "6b729a5dad21cc03e095ea68744e66826c4f89c659746b242fa783cf667f79a9": "the same without the unlabelled reviews",
}
"""sha256 of the archives that may be read, with what they are."""

LABELLED_REVIEWS = 50_000

_REVIEW = re.compile(r"aclImdb/((?:train|test)/(?:pos|neg)/[0-9]+_[0-9]+)\.txt")
_ADDRESSES = re.compile(r"aclImdb/(train|test)/urls_(pos|neg)\.txt")
_PASSED_OVER = re.compile(
    r"aclImdb/(?:README|imdb\.vocab|imdbEr\.txt|(?:train|test)/labeledBow\.feat|train/unsupBow\.feat|train/urls_unsup\.txt|train/unsup/[0-9]+_[0-9]+\.txt)"
)
_MOVIE = re.compile(r"/title/(tt[0-9]+)/")
_FOLDERS = ("test/pos", "test/neg", "train/pos", "train/neg")


def read_archive(
    file: Path, digests: Collection[str] = tuple(ARCHIVE_DIGESTS), count: int = LABELLED_REVIEWS
) -> Loaded:
    """Read the labelled reviews of a ``.tar.gz`` as a stream; nothing is unpacked to disk.

    Args:
        file: the archive.
        digests: the sha256 that it may have, checked before its first member is read.
        count: how many labelled reviews it must hold.

    Raises:
        DataError: the file is missing or none of the known archives, or a member is not what the
            layout allows: a link or device, a path that leaves the archive, an unknown name, more
            than 1 MB, not UTF-8.
    """
    try:
        sha256 = file_digest(file)
    except OSError as problem:
        raise DataError(
            f"{file}: the archive can't be read ({problem.strerror}); it can be had from {ADDRESS}"
        ) from None
    if sha256 not in digests:
        allowed = " or ".join(
            f"{digest} ({ARCHIVE_DIGESTS.get(digest, 'expected')})" for digest in digests
        )
        raise DataError(
            f"{file}: has sha256 {sha256}, allowed is {allowed}; the file is damaged or another one, get it again from {ADDRESS}"
        )
    files = dict(_members(file))
    reviews = _reviews(files, str(file))
    if len(reviews) != count:
        raise DataError(
            f"{file}: holds {len(reviews):,} labelled reviews, {count:,} are expected; get it again from {ADDRESS}"
        )
    return Loaded(reviews, None, {file.name: sha256})


def read_folder(folder: Path) -> Loaded:
    """Read the labelled reviews of an unpacked archive; ``folder`` is ``aclImdb`` or the folder
    that holds it.

    Files whose names are not those of reviews are passed over. Without ``urls_pos.txt`` and
    ``urls_neg.txt`` the movies are unknown.

    Raises:
        DataError: a folder is missing, or a review can't be read, is longer than 1 MB or is not
            UTF-8.
    """
    root = folder / "aclImdb" if (folder / "aclImdb").is_dir() else folder
    return Loaded(_reviews(dict(_folder_files(root)), str(root)), None, {})


def _members(file: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the members that are needed: reviews and lists of addresses."""
    try:
        with tarfile.open(file, "r|gz") as archive:
            for member in archive:
                if _is_wanted(member, file):
                    content = archive.extractfile(member)
                    if content is not None:
                        yield member.name, content.read()
    except (tarfile.TarError, EOFError, zlib.error, OSError) as problem:
        raise DataError(
            f"{file}: breaks off or is no .tar.gz ({problem}); get it again from {ADDRESS}"
        ) from None


def _is_wanted(member: tarfile.TarInfo, file: Path) -> bool:
    """Whether to read the member; refuses what has no place in the archive, by name."""
    where = f"{file}: member {member.name!r}"
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise DataError(f"{where} has a path that leads out of the archive; don't use this file")
    if member.isdir():
        return False
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise DataError(
            f"{where} is a link, a device or another special file, only regular files are allowed; don't use this file"
        )
    if _PASSED_OVER.fullmatch(member.name):
        return False
    if not (_REVIEW.fullmatch(member.name) or _ADDRESSES.fullmatch(member.name)):
        raise DataError(
            f"{where} has no place in IMDb's archive; allowed are names such as aclImdb/test/pos/10_7.txt"
        )
    if member.size > MOST_BYTES:
        raise DataError(
            f"{where} has {member.size:,} bytes, at most {MOST_BYTES:,} are allowed; don't use this file"
        )
    return True


def _folder_files(root: Path) -> Iterator[tuple[str, bytes]]:
    for part in _FOLDERS:
        half, kind = part.split("/")
        addresses = root / half / f"urls_{kind}.txt"
        try:
            files = [
                file
                for file in sorted((root / part).iterdir())
                if _REVIEW.fullmatch(f"aclImdb/{part}/{file.name}")
            ]
            if addresses.is_file():
                files.append(addresses)
            for file in files:
                if file.stat().st_size > MOST_BYTES:
                    raise DataError(
                        f"{file}: has {file.stat().st_size:,} bytes, at most {MOST_BYTES:,} are allowed"
                    )
                yield f"aclImdb/{file.relative_to(root).as_posix()}", file.read_bytes()
        except OSError as problem:
            raise DataError(
                f"{problem.filename}: can't be read ({problem.strerror}); data.path names the folder aclImdb or the one around it"
            ) from None


def _reviews(files: dict[str, bytes], origin: str) -> list[Review]:
    movies = {
        f"{match[1]}/{match[2]}": _movies(_decoded(content, name, origin), name, origin)
        for name, content in files.items()
        if (match := _ADDRESSES.fullmatch(name))
    }
    reviews = []
    for member, content in files.items():
        if match := _REVIEW.fullmatch(member):
            part, number = match[1].rsplit("_", 1)[0].rsplit("/", 1)
            known = movies.get(part)
            if known is not None and int(number) >= len(known):
                raise DataError(
                    f"{origin}: {member} is review {number}, but the list of addresses of {part} has {len(known):,} lines"
                )
            label = POSITIVE if part.endswith("pos") else NEGATIVE
            reviews.append(
                Review(
                    _decoded(content, member, origin),
                    label,
                    match[1],
                    known[int(number)] if known is not None else None,
                )
            )
    return reviews


def _movies(addresses: str, name: str, origin: str) -> list[str]:
    """The movie of review N, from line N + 1."""
    movies = []
    for number, line in enumerate(addresses.splitlines(), start=1):
        match = _MOVIE.search(line)
        if match is None:
            raise DataError(
                f"{origin}: {name}, line {number} is {line[:80]!r}, expected is an address such as http://www.imdb.com/title/tt0453418/usercomments"
            )
        movies.append(match[1])
    return movies


def _decoded(content: bytes, name: str, origin: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(
            f"{origin}: {name} is not UTF-8 at byte {problem.start}; reviews are taken as they are or not at all"
        ) from None
