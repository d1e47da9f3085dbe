"""Faults 15, 16 and 17 through the stage that prepares the data, and the shapes of archive that
have fooled tarfile.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from test_aclimdb import regular, special, write_archive
from test_pipeline import ROOT, environment

from lora_replication.data.aclimdb import read_archive, read_folder
from lora_replication.data.split import build_order, canonical_order
from lora_replication.errors import DataError
from lora_replication.reading import merge_files
from lora_replication.workspace import _write_params


def prepare(folder: Path, data: dict[str, object]) -> subprocess.CompletedProcess:
    """Run the stage in ``folder``, for the tiny study with another source."""
    content = merge_files(ROOT / "params.yaml", ROOT / "studies" / "tiny.yaml")
    content["data"] |= data
    _write_params(folder / "params.yaml", content)
    command = [sys.executable, str(ROOT / "stages" / "prepare.py")]
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.fault(15)
def test_a_wrong_archive_ends_the_stage_with_3_and_harms_neither_it_nor_earlier_data(tmp_path):
    assert prepare(tmp_path, {}).returncode == 0
    page = tmp_path / "aclImdb_v1.tar.gz"
    page.write_text("<html>404</html>")
    before = {file: file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file()}
    done = prepare(tmp_path, {"source": "archive", "path": str(page)})
    assert done.returncode == 3, done.stderr
    assert f"{page}: has sha256 {hashlib.sha256(b'<html>404</html>').hexdigest()}" in done.stderr
    assert page.read_text() == "<html>404</html>"
    assert {
        file: file.read_bytes() for file in (tmp_path / "data").rglob("*") if file.is_file()
    } == before


def unpack(root: Path, count: int) -> list[Path]:
    """A folder as an unpacked archive, with ``count`` reviews."""
    files = []
    for number in range(count):
        half, kind = (("train", "pos"), ("train", "neg"), ("test", "pos"), ("test", "neg"))[
            number % 4
        ]
        files.append(
            root / "aclImdb" / half / kind / f"{number // 4}_{8 if kind == 'pos' else 2}.txt"
        )
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        files[-1].write_text(f"review {number}")
    return files


@pytest.mark.fault(16)
def test_a_hundred_reviews_missing_in_a_folder_are_counted(tmp_path):
    files = unpack(tmp_path, 1000)
    order = build_order(read_folder(tmp_path).reviews)
    for file in files[::10]:
        file.unlink()
    with pytest.raises(
        DataError, match=r"the source holds 900 labelled reviews, .* lacks 100 of IMDb's 1,000"
    ) as told:
        canonical_order(read_folder(tmp_path).reviews, order)
    assert told.value.exit_code == 3


@pytest.mark.fault(16)
def test_a_folder_left_half_unpacked_ends_the_stage_with_3(tmp_path):
    unpack(tmp_path, 40)
    done = prepare(tmp_path, {"source": "folder", "path": str(tmp_path)})
    assert done.returncode == 3, done.stderr
    assert "lacks 50,000 of IMDb's 50,000" in done.stderr
    assert not (tmp_path / "data").exists()


def hostile(shape: str) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Members that have led tarfile's own extraction out of its folder."""
    good, evil = regular("aclImdb/test/pos/0_7.txt"), regular("aclImdb/escape/canary", b"out")
    if shape == "a chain of links longer than a path may be":  # CVE-2025-4517
        deep = "d" * 247
        steps = [
            special("/".join(["aclImdb", *[deep] * depth, letter]), tarfile.SYMTYPE, deep)
            for depth, letter in enumerate("abcdefghijklmnop")
        ]
        return [
            good,
            *steps,
            special("aclImdb/escape", tarfile.SYMTYPE, "/".join("abcdefghijklmnop") + "/.." * 20),
            evil,
        ]
    if shape == "a hard link to a link":
        return [
            good,
            special("aclImdb/a", tarfile.SYMTYPE, "../../canary"),
            special("aclImdb/b", tarfile.LNKTYPE, "aclImdb/a"),
            evil,
        ]
    if shape == "a link in place of a folder":
        return [special("aclImdb/test/pos", tarfile.SYMTYPE, "../../.."), good]
    if shape == "a sparse file":
        return [good, special("aclImdb/test/pos/1_7.txt", tarfile.GNUTYPE_SPARSE)]
    odd = tarfile.TarInfo("aclImdb/test/pos/1_7.txt")
    odd.pax_headers = {"path": "../../canary"}
    return [good, (odd, b"")]


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    "shape",
    [
        "a chain of links longer than a path may be",
        "a hard link to a link",
        "a link in place of a folder",
        "a sparse file",
        "a name in a pax header",
    ],
)
def test_shapes_that_have_fooled_tarfile_are_refused_and_write_nothing(
    shape, tmp_path, monkeypatch
):
    file = tmp_path / "inner" / "a.tar.gz"
    file.parent.mkdir()
    monkeypatch.chdir(file.parent)
    with tarfile.open(file, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member, content in hostile(shape):
            archive.addfile(member, io.BytesIO(content))
    with pytest.raises(DataError, match=r"member .*(leads out|is a link|breaks off)|breaks off"):
        read_archive(file, [hashlib.sha256(file.read_bytes()).hexdigest()], count=1)
    assert list(tmp_path.rglob("*")) == [file.parent, file]


@pytest.mark.fault(17)
@pytest.mark.parametrize("name", ["aclImdb/test/pos/1_7.txt", "aclImdb/train/unsup/1_0.txt"])
def test_a_bomb_takes_no_memory(name, tmp_path):
    """200 MB of zeros in a file of 200 kB: refused where a review stands, passed over unread where
    nothing is taken.
    """
    bomb = regular(name, bytes(200_000_000))
    sha256 = write_archive(tmp_path / "a.tar.gz", regular("aclImdb/test/pos/0_7.txt"), bomb)
    del bomb
    code = (
        "import sys; from pathlib import Path; from lora_replication.data.aclimdb import read_archive; import resource\n"
        "from lora_replication.errors import DataError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: print(len(read_archive(Path(sys.argv[1]), [sys.argv[2]], 1).reviews))\n"
        "except DataError as problem: print(problem)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.tar.gz"), sha256],
        capture_output=True,
        text=True,
        check=True,
    )
    told, kilobytes = done.stdout.splitlines()
    assert told == "1" if "unsup" in name else "200,000,000 bytes" in told
    assert int(kilobytes) < 20_000
