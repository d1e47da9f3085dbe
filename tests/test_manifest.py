"""The manifest says what was prepared, and nothing altered is read under its name."""

import os
import shutil
from pathlib import Path

import pytest

from lora_replication.data.manifest import Manifest, read_manifest, read_test_reviews, read_tokens
from lora_replication.data.reviews import PARTS
from lora_replication.errors import DataError
from lora_replication.files import digest


@pytest.fixture
def folder(tiny_data: Path, tmp_path: Path) -> Path:
    """Prepared data to spoil."""
    return Path(shutil.copytree(tiny_data / "data/tiny", tmp_path / "prepared"))


@pytest.mark.parametrize("name", ["tokens-val.safetensors", "test_reviews.parquet"])
@pytest.mark.fault(20)
def test_an_altered_or_missing_file_is_named_each_time_it_is_read(name: str, folder: Path) -> None:
    manifest = read_manifest(folder)

    def read() -> None:
        read_tokens(folder, "val", manifest)
        read_test_reviews(folder, manifest)

    read()
    file = folder / name
    before, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(DataError, match=rf"{name}: has sha256 .* altered: .*dvc repro prepare"):
        read()
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}: can't be read .* prepare the data again"):
        read()


@pytest.mark.parametrize(
    "change",
    [
        lambda _: b"\xff",
        lambda content: content[:200],
        lambda content: content.replace(b'"schema_version": 2', b'"schema_version": 1'),
        lambda content: content.replace(b'"longest": ', b'"longest": 1e400, "shortest": '),
        lambda content: content.replace(b'"val": ', b'"other": '),
    ],
)
def test_a_damaged_manifest_is_refused(change, folder: Path) -> None:
    file = folder / "manifest.json"
    content = change(file.read_bytes())
    assert content != file.read_bytes()
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json: no manifest .* prepare the data again"):
        read_manifest(folder)
    file.unlink()
    with pytest.raises(DataError, match=r"manifest\.json: can't be read \(No such file .*prepare"):
        read_manifest(folder)


def test_the_digest_follows_what_decides_a_result_and_nothing_else(tiny_data: Path) -> None:
    manifest: Manifest = read_manifest(tiny_data / "data/tiny")
    tokens = {part: manifest.parts[part].tokens_sha256 for part in PARTS}
    vocabulary = manifest.vocabulary_sha256
    assert manifest.digest == digest({"tokens": tokens, "vocabulary": vocabulary, "max_tokens": 64})
    altered = manifest.parts["test"].model_copy(update={"tokens_sha256": "t"})
    parts = manifest.parts | {"test": altered}
    for deciding in ({"vocabulary_sha256": "u"}, {"max_tokens": 17}, {"parts": parts}):
        assert manifest.model_copy(update=deciding).digest != manifest.digest
    for other in ({"source": "hub"}, {"revision": "r"}, {"test_reviews_sha256": "t"}):
        assert manifest.model_copy(update=other).digest == manifest.digest
