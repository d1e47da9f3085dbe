"""The archive is checked before it is read, and read to the byte."""

import hashlib
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from lora_replication.data.aclimdb import read_archive, read_folder
from lora_replication.data.reviews import Review
from lora_replication.errors import DataError

ODD_TEXTS = [
    "",
    "NA",
    "lone \r return",
    "two\r\nlines\n",
    "nul \0 inside",
    " spaces ",
    "naïve 映画 🎬",
    "x" * 1_000_000,
]
ADDRESSES = "".join(
    f"http://www.imdb.com/title/tt{number:07d}/usercomments\n" for number in range(20)
).encode()


def regular(name: str, content: bytes = b"fine") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    return member, content


def special(name: str, kind: bytes, target: str = "") -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def write_archive(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> str:
    """Write the members and give the file's sha256."""
    with tarfile.open(file, "w:gz") as archive:
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.fault(18)
def test_texts_survive_to_the_byte_with_labels_names_and_movies(tmp_path: Path) -> None:
    file = tmp_path / "an archive.tar.gz"
    members = [
        regular(f"aclImdb/train/neg/{number}_1.txt", text.encode())
        for number, text in enumerate(ODD_TEXTS)
    ]
    addresses = [
        regular(f"aclImdb/{half}/urls_{kind}.txt", ADDRESSES)
        for half in ("train", "test")
        for kind in ("pos", "neg")
    ]
    sha256 = write_archive(
        file, *members, regular("aclImdb/test/pos/10_7.txt", b"good"), *addresses
    )
    loaded = read_archive(file, [sha256], count=9)
    expected = [
        Review(text, 0, f"train/neg/{number}_1", f"tt{number:07d}")
        for number, text in enumerate(ODD_TEXTS)
    ]
    assert loaded.reviews == [*expected, Review("good", 1, "test/pos/10_7", "tt0000010")]
    assert loaded.files == {"an archive.tar.gz": sha256}


def test_what_else_the_published_archive_holds_is_passed_over(tmp_path: Path) -> None:
    names = [
        "README",
        "imdb.vocab",
        "imdbEr.txt",
        "test/labeledBow.feat",
        "train/unsupBow.feat",
        "train/urls_unsup.txt",
        "train/unsup/0_0.txt",
    ]
    others = [regular(f"aclImdb/{name}", b"\xff" * 2_000_000) for name in names]
    sha256 = write_archive(
        tmp_path / "a.tar.gz",
        special("aclImdb", tarfile.DIRTYPE),
        *others,
        regular("aclImdb/test/pos/0_7.txt"),
    )
    assert [
        review.name for review in read_archive(tmp_path / "a.tar.gz", [sha256], count=1).reviews
    ] == ["test/pos/0_7"]


def damaged(kind: str, file: Path) -> None:
    write_archive(file, regular("aclImdb/test/pos/0_7.txt"))
    content = file.read_bytes()
    if kind == "flipped":
        file.write_bytes(content[:20] + bytes([content[20] ^ 1]) + content[21:])
    elif kind == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("aclImdb/test/pos/0_7.txt", "fine")
    else:
        file.write_bytes(b"<html>404</html>" if kind == "page" else b"")


@pytest.mark.parametrize("kind", ["flipped", "cut", "zip", "page", "empty"])
@pytest.mark.fault(15)
def test_another_file_is_refused_by_its_sha256_and_left_alone(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    damaged(kind, file)
    before = file.read_bytes()
    with pytest.raises(DataError) as caught:
        read_archive(file)
    assert str(file) in str(caught.value)
    assert hashlib.sha256(before).hexdigest() in str(caught.value)
    assert "c40f74a18d3b61f90feba1e17730e0d38e8b97c05fde7008942e91923d1658fe" in str(caught.value)
    assert "6b729a5dad21cc03e095ea68744e66826c4f89c659746b242fa783cf667f79a9" in str(caught.value)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("kind", ["flipped", "cut", "zip", "page", "empty"])
@pytest.mark.fault(15)
def test_damage_that_the_sha256_would_not_show_is_told_as_such(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "a.tar.gz"
    damaged(kind, file)
    with pytest.raises(DataError, match=r"a\.tar\.gz: (breaks off|holds 0)"):
        read_archive(file, [hashlib.sha256(file.read_bytes()).hexdigest()], count=1)


@pytest.mark.parametrize(
    ("member", "complaint"),
    [
        (regular("../evil.txt"), "leads out"),
        (regular("aclImdb/test/pos/../../../evil.txt"), "leads out"),
        (regular("/evil.txt"), "leads out"),
        (special("aclImdb/test/pos/1_7.txt", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (special("aclImdb/test/pos/1_7.txt", tarfile.LNKTYPE, "aclImdb/test/pos/0_7.txt"), "link"),
        (special("aclImdb/README", tarfile.SYMTYPE, "/etc/passwd"), "link"),
        (special("aclImdb/test/pos/1_7.txt", tarfile.CHRTYPE), "device"),
        (special("aclImdb/test/pos/1_7.txt", tarfile.BLKTYPE), "device"),
        (special("aclImdb/test/pos/1_7.txt", tarfile.FIFOTYPE), "special file"),
        (regular("aclImdb/test/pos/1_7.txt.exe"), "no place"),
        (regular("aclImdb/test/pos/1_\u0667.txt"), "no place"),
        (regular("elsewhere.txt"), "no place"),
        (regular("aclImdb/test/pos/1_7.txt", b" " * 1_000_001), "1,000,001 bytes"),
        (regular("aclImdb/test/urls_pos.txt", b" " * 1_000_001), "1,000,001 bytes"),
    ],
)
@pytest.mark.fault(17)
def test_a_member_that_has_no_place_is_refused_by_name(
    member: tuple[tarfile.TarInfo, bytes],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "inner" / "a.tar.gz"
    file.parent.mkdir()
    monkeypatch.chdir(file.parent)
    sha256 = write_archive(file, regular("aclImdb/test/pos/0_7.txt"), member)
    with pytest.raises(DataError, match=complaint) as caught:
        read_archive(file, [sha256], count=2)
    assert repr(member[0].name) in str(caught.value)
    assert list(tmp_path.rglob("*")) == [file.parent, file]


@pytest.mark.fault(16)
def test_reviews_that_are_missing_are_counted(tmp_path: Path) -> None:
    sha256 = write_archive(tmp_path / "a.tar.gz", regular("aclImdb/test/pos/0_7.txt"))
    with pytest.raises(DataError, match="holds 1 labelled reviews, 50,000 are expected"):
        read_archive(tmp_path / "a.tar.gz", [sha256])


@pytest.mark.fault(18)
def test_a_text_that_is_not_utf8_is_named_with_its_place(tmp_path: Path) -> None:
    sha256 = write_archive(tmp_path / "a.tar.gz", regular("aclImdb/test/pos/0_7.txt", b"caf\xe9"))
    with pytest.raises(DataError, match=r"aclImdb/test/pos/0_7\.txt is not UTF-8 at byte 3"):
        read_archive(tmp_path / "a.tar.gz", [sha256], count=1)


@pytest.mark.parametrize(
    ("addresses", "complaint"),
    [
        (ADDRESSES, "review 20, but the list of addresses of test/pos has 20 lines"),
        (b"nowhere\n", "urls_pos.txt, line 1 is 'nowhere'"),
    ],
)
def test_addresses_that_do_not_fit_are_told(
    addresses: bytes, complaint: str, tmp_path: Path
) -> None:
    members = regular("aclImdb/test/pos/20_7.txt"), regular("aclImdb/test/urls_pos.txt", addresses)
    sha256 = write_archive(tmp_path / "a.tar.gz", *members)
    with pytest.raises(DataError, match=complaint):
        read_archive(tmp_path / "a.tar.gz", [sha256], count=1)


def test_a_missing_archive_is_told_with_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"none\.tar\.gz: the archive can't be read .*ai\.stanford\.edu"
    ):
        read_archive(tmp_path / "none.tar.gz")


def unpacked(root: Path) -> Path:
    for part in ("train/pos", "train/neg", "test/pos", "test/neg"):
        folder = root / "aclImdb" / part
        folder.mkdir(parents=True)
        (folder / "3_8.txt").write_bytes(f"{part}\r\n".encode())
        (folder / "notes.md").write_bytes(b"\xff")
    return root


def test_a_folder_gives_what_the_archive_gives_from_inside_and_from_above(tmp_path: Path) -> None:
    root = unpacked(tmp_path / "a folder")
    (root / "aclImdb/test/urls_pos.txt").write_bytes(ADDRESSES)
    expected = {
        Review("test/pos\r\n", 1, "test/pos/3_8", "tt0000003"),
        Review("test/neg\r\n", 0, "test/neg/3_8", None),
        Review("train/pos\r\n", 1, "train/pos/3_8", None),
        Review("train/neg\r\n", 0, "train/neg/3_8", None),
    }
    assert set(read_folder(root).reviews) == set(read_folder(root / "aclImdb").reviews) == expected
    assert len(read_folder(root).reviews) == 4


def test_a_folder_that_lacks_a_part_or_holds_too_long_a_review_is_refused(tmp_path: Path) -> None:
    root = unpacked(tmp_path)
    (root / "aclImdb/train/neg/4_1.txt").write_bytes(b" " * 1_000_001)
    with pytest.raises(DataError, match=r"train/neg/4_1\.txt: has 1,000,001 bytes"):
        read_folder(root)
    for file in (root / "aclImdb/test/neg").iterdir():
        file.unlink()
    (root / "aclImdb/test/neg").rmdir()
    with pytest.raises(DataError, match="test/neg: can't be read"):
        read_folder(root)
