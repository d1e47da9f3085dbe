"""Every source gives the same reviews, and says what to do where it has none."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_replication.data.imdb import (
    ARCHIVES,
    HUB,
    load_imdb,
    read_archive,
    read_folder,
    read_parquet_folder,
)
from lora_replication.data.reviews import Review
from lora_replication.errors import DataError
from lora_replication.files import file_digest
from lora_replication.study import DataParams

ODD_TEXTS = [
    "", "NA", "lone \r return", "two\r\nlines\n", "nul \0 inside", " spaces ", "naïve 映画 🎬",
]  # fmt: skip
ADDRESSES = "".join(f"http://www.imdb.com/title/tt{n:07d}/usercomments\n" for n in range(20))


def write_archive(file: Path, members: dict[str, str | bytes]) -> str:
    """Write a ``.tar.gz`` and return its sha256."""
    with tarfile.open(file, "w:gz") as archive:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return file_digest(file)


def write_folder(root: Path, members: dict[str, str | bytes]) -> Path:
    """The same, unpacked; the four folders are there in any case."""
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        (root / "aclImdb" / part).mkdir(parents=True, exist_ok=True)
    for name, content in members.items():
        data = content.encode() if isinstance(content, str) else content
        (root / name).write_bytes(data)
    return root


def write_rows(file: Path, texts: list[Any], labels: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"label": labels, "text": texts}), file)
    return file


def data(source: str, path: Path | str | None = None) -> DataParams:
    sizes = {"train": 2, "val": 1, "test": 1}
    content = {"source": source, "reviews": sizes, "generated_seed": 1}
    return DataParams.model_validate(content | {"path": path and str(path)})


@pytest.mark.fault(18)
def test_archive_and_folder_keep_texts_to_the_byte_with_labels_names_and_movies(
    tmp_path: Path,
) -> None:
    members: dict[str, str | bytes] = {
        f"aclImdb/train/neg/{number}_1.txt": text for number, text in enumerate(ODD_TEXTS)
    }
    members |= {"aclImdb/test/pos/10_7.txt": "good", "aclImdb/test/neg/3_2.txt": "no movie"}
    members |= {"aclImdb/test/urls_pos.txt": ADDRESSES, "aclImdb/train/urls_neg.txt": ADDRESSES}
    members |= {"aclImdb/test/pos/notes.md": b"\xff", "aclImdb/imdb.vocab": b"\xff"}
    expected = {
        Review("good", 1, "test/pos/10_7", "tt0000010"),
        Review("no movie", 0, "test/neg/3_2", None),
        *(
            Review(text, 0, f"train/neg/{number}_1", f"tt{number:07d}")
            for number, text in enumerate(ODD_TEXTS)
        ),
    }
    sha256 = write_archive(tmp_path / "an archive.tar.gz", members)
    archive = read_archive(tmp_path / "an archive.tar.gz", [sha256])
    assert archive.files == {"an archive.tar.gz": sha256}
    root = write_folder(tmp_path / "a folder", members)
    for loaded in (archive, read_folder(root), read_folder(root / "aclImdb")):
        assert len(loaded.reviews) == len(expected)
        assert set(loaded.reviews) == expected


@pytest.mark.parametrize("kind", ["another", "flipped", "cut"])
@pytest.mark.fault(15)
@pytest.mark.fault(17)
def test_another_sha256_is_refused_before_anything_is_unpacked(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "a.tar.gz"
    sha256 = write_archive(file, {"../evil.txt": "out", "aclImdb/test/pos/0_7.txt": "fine"})
    content = bytearray(file.read_bytes())
    if kind == "flipped":
        content[20] ^= 1
    file.write_bytes(bytes(content[:50] if kind == "cut" else content))
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"get it again from https://ai\.stanford\.edu") as caught:
        read_archive(file, ARCHIVES if kind == "another" else [sha256])
    assert f"{file}: has sha256 {hashlib.sha256(before).hexdigest()}" in str(caught.value)
    assert (next(iter(ARCHIVES)) if kind == "another" else sha256) in str(caught.value)
    assert (file.read_bytes(), list(tmp_path.iterdir())) == (before, [file])
    assert not (tmp_path.parent / "evil.txt").exists()


def test_an_archive_that_can_not_be_read_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can't be read .*ai\.stanford\.edu.* data\.source folder"):
        read_archive(tmp_path)


@pytest.mark.fault(18)
def test_a_folder_with_a_file_that_is_not_utf_8_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, {"aclImdb/test/pos/0_7.txt": b"caf\xe9"})
    with pytest.raises(DataError, match=r"test/pos/0_7\.txt is not UTF-8 at byte 3"):
        read_folder(folder)


def test_a_review_beyond_the_list_of_addresses_has_no_movie(tmp_path: Path) -> None:
    members = {"aclImdb/test/pos/20_7.txt": "a", "aclImdb/test/urls_pos.txt": ADDRESSES}
    assert read_folder(write_folder(tmp_path, members)).reviews == [Review("a", 1, "test/pos/20_7")]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.text(), st.integers(0, 1)), min_size=1))
@pytest.mark.fault(18)
def test_parquet_keeps_texts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    write_rows(folder / "a.parquet", [text for text, _ in rows], [label for _, label in rows])
    assert read_parquet_folder(folder).reviews == [Review(text, label) for text, label in rows]


@pytest.mark.parametrize("named", ["", "plain_text"])
def test_the_hubs_folder_is_read_without_its_unlabelled_part(named: str, tmp_path: Path) -> None:
    for file, text, label in zip(HUB.names, "ab", (0, 1), strict=True):
        write_rows(tmp_path / file, [text], [label])
    write_rows(tmp_path / "plain_text/unsupervised-00000-of-00001.parquet", ["c"], [-1])
    loaded = read_parquet_folder(tmp_path / named)
    assert set(loaded.reviews) == {Review("a", 0), Review("b", 1)}
    assert loaded.files == {
        str(Path(name).relative_to(named)): file_digest(tmp_path / name) for name in HUB.names
    }


@pytest.mark.parametrize(
    "content",
    [
        b"<html>404</html>",
        b"PAR1" + b"\0" * 40 + b"PAR1",
        {"text": ["a"]},
        {"text": [["a"]], "label": [1]},
        {"text": ["a"], "label": ["good"]},
        {"text": pa.array([b"ok\xff"]).view(pa.string()), "label": [1]},
    ],
)
@pytest.mark.fault(18)
def test_what_holds_no_reviews_is_named(content: Any, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        pq.write_table(pa.table(content), file)
    with pytest.raises(DataError, match=r"a\.parquet: can't be read as parquet with columns text"):
        read_parquet_folder(tmp_path)


def test_each_source_is_found_where_the_study_or_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_rows(tmp_path / "a.parquet", ["a"], [1])
    assert load_imdb(data("parquet", "~")).reviews == [Review("a", 1)]
    write_folder(tmp_path, {"aclImdb/test/neg/0_2.txt": "b"})
    assert load_imdb(data("folder", tmp_path)).reviews == [Review("b", 0, "test/neg/0_2")]
    monkeypatch.setenv("IMDB_ARCHIVE", str(tmp_path / "a.parquet"))
    for named, file in (("~/from study", "from study: can't"), (None, "a.parquet: has")):
        with pytest.raises(DataError, match=file):
            load_imdb(data("archive", named))


def test_a_source_that_nothing_names_or_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMDB_ARCHIVE", "")
    for params, complaint in (
        (data("archive"), r"data\.path is null and the variable IMDB_ARCHIVE is not set"),
        (data("folder", tmp_path / "nowhere"), "nowhere: is no folder; source folder needs"),
        (data("parquet", tmp_path / "nowhere"), "nowhere: is no folder; source parquet needs"),
        (data("parquet", tmp_path), r"holds no \.parquet files"),
    ):
        with pytest.raises(DataError, match=complaint):
            load_imdb(params)


# In a process of its own: the hub's client reads its addresses and folders when it is imported.
READ = """
import sys
from lora_replication.data.imdb import read_hub
from lora_replication.errors import ReplicationError
try:
    loaded = read_hub()
    print([tuple(review) for review in loaded.reviews], loaded.revision, loaded.files)
except ReplicationError as problem:
    print(problem)
    sys.exit(problem.exit_code)
"""
NO_HUB = [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}]


def read(home: Path, variables: dict[str, str]) -> tuple[int, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", READ], env=inherited | {"HF_HOME": str(home)} | variables,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.returncode, done.stdout.strip() or done.stderr


def fill_cache(home: Path) -> list[Path]:
    """Two small files where the hub's own client would have put the real ones."""
    repository = f"datasets--{HUB.repository.replace('/', '--')}"
    snapshot = home / "hub" / repository / "snapshots" / HUB.revision
    return [
        write_rows(snapshot / name, [f"naïve\r\n\0 {number}", ""], [0, 1])
        for number, name in enumerate(HUB.names)
    ]


@pytest.mark.parametrize("variables", NO_HUB)
@pytest.mark.fault(14)
def test_a_cached_copy_serves_without_the_hub(variables: dict[str, str], tmp_path: Path) -> None:
    files = fill_cache(tmp_path)
    rows = [(text, label, None, None) for text, label in (("naïve\r\n\0 0", 0), ("", 1))]
    rows += [(text, label, None, None) for text, label in (("naïve\r\n\0 1", 0), ("", 1))]
    digests = {name: file_digest(file) for name, file in zip(HUB.names, files, strict=True)}
    assert read(tmp_path, variables) == (0, f"{rows} {HUB.revision} {digests}")
