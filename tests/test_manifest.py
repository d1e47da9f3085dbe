"""The manifest tells what was prepared, and nothing altered is read under its name."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_replication.data.manifest import (
    EncoderNote,
    Lengths,
    Manifest,
    Repeats,
    SplitPart,
    measure_lengths,
    measure_repeats,
    read_manifest,
    read_reviews,
    read_tokens,
    reviews_file,
    shared_movies_fraction,
    tokens_file,
)
from lora_replication.data.reviews import PARTS, Review
from lora_replication.data.tokens import Tokens, tokens_to_bytes
from lora_replication.errors import DataError
from lora_replication.files import digest, file_digest


def written(folder: Path) -> Manifest:
    """A folder with one review a part, and its manifest."""
    for part in PARTS:
        pq.write_table(pa.table({"text": [part], "label": [1]}), reviews_file(folder, part))
        tokens = Tokens(np.array([1, 7, 2], np.int32), np.array([0, 3]), np.array([1]))
        tokens_file(folder, part).write_bytes(tokens_to_bytes(tokens))
    manifest = Manifest(
        source="generated",
        generated_seed=1,
        revision=None,
        source_files={},
        parts={
            part: SplitPart(
                reviews=1,
                negative_fraction=0.0,
                reviews_sha256=file_digest(reviews_file(folder, part)),
                tokens_sha256=file_digest(tokens_file(folder, part)),
            )
            for part in PARTS
        },
        article_csv_sha256=None,
        encoder=EncoderNote(name="minilm", revision="0.1.0", weights_sha256="w"),
        vocabulary_sha256="v",
        max_tokens=16,
        lengths=Lengths(mean=3, median=3, longest=3, cut_fraction=0),
        repeats=Repeats(of_earlier=0, test_in_train=0, conflicting=0),
        test_movies_in_train_fraction=None,
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return manifest


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    assert read_manifest(tmp_path) == manifest
    assert read_tokens(tmp_path, "val", manifest).ids.tolist() == [1, 7, 2]
    assert read_reviews(tmp_path, "test", manifest).to_pylist() == [{"text": "test", "label": 1}]


@pytest.mark.parametrize("name", ["val.parquet", "tokens-val.safetensors"])
@pytest.mark.fault(20)
def test_an_altered_or_missing_file_is_named_each_time_it_is_read(
    name: str, tmp_path: Path
) -> None:
    manifest = written(tmp_path)

    def read() -> None:
        read_reviews(tmp_path, "val", manifest)
        read_tokens(tmp_path, "val", manifest)

    read()
    file = tmp_path / name
    before, content = file.stat(), bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(
        DataError,
        match=rf"{name}: has sha256 .* altered: prepare the data again \(dvc repro prepare\)",
    ):
        read()
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}: can't be read .* prepare the data again"):
        read()


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b'{"schema_version": 2}', b"\xff"])
def test_a_damaged_manifest_is_told(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(
        DataError, match=r"manifest\.json: not a manifest .* prepare the data again"
    ):
        read_manifest(tmp_path)


def test_a_manifest_without_a_part_is_told(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    content = manifest.model_dump(mode="json")
    del content["parts"]["val"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="train, val and test are needed, there is train, test"):
        read_manifest(tmp_path)


def test_a_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"manifest\.json: can't be read \(No such file or directory\); prepare the data again",
    ):
        read_manifest(tmp_path)


def test_the_digest_follows_what_decides_a_result_and_nothing_else(tmp_path: Path) -> None:
    manifest = written(tmp_path)
    tokens = {part: manifest.parts[part].tokens_sha256 for part in PARTS}
    assert manifest.digest == digest({"tokens": tokens, "vocabulary": "v", "max_tokens": 16})
    altered = manifest.parts["test"].model_copy(update={"tokens_sha256": "t"})
    deciding: list[dict[str, Any]] = [
        {"vocabulary_sha256": "u"},
        {"max_tokens": 17},
        {"parts": manifest.parts | {"test": altered}},
    ]
    telling: list[dict[str, Any]] = [
        {"source": "hub"},
        {"revision": "r"},
        {"source_files": {"a": "b"}},
        {"test_movies_in_train_fraction": 0.5},
    ]
    assert all(manifest.model_copy(update=update).digest != manifest.digest for update in deciding)
    assert all(manifest.model_copy(update=update).digest == manifest.digest for update in telling)


def test_lengths_by_hand() -> None:
    assert measure_lengths(np.array([2, 3, 7, 8]), cut=1) == Lengths(
        mean=5.0, median=5.0, longest=8, cut_fraction=0.25
    )


@pytest.mark.fault(19)
def test_repeats_by_hand() -> None:
    train = [Review("a", 1), Review("b", 0), Review("a", 1), Review("c", 1)]
    val = [Review("c", 0), Review("d", 0)]
    test = [Review("a", 1), Review("a", 0), Review("d", 0), Review("e", 0)]
    # Earlier texts: a (train), c (val), a, a, d (test). In train: a, a. With both labels: a, c.
    assert measure_repeats({"train": train, "val": val, "test": test}) == Repeats(
        of_earlier=5, test_in_train=2, conflicting=2
    )


def test_shared_movies_by_hand() -> None:
    train = [Review("1", 1, None, "tt1"), Review("2", 1, None, "tt2")]
    test = [
        Review(text, 0, None, movie)
        for text, movie in (("3", "tt2"), ("4", "tt3"), ("5", "tt2"), ("6", "tt4"))
    ]
    assert shared_movies_fraction({"train": train, "val": [], "test": test}) == 0.5
    assert (
        shared_movies_fraction({"train": train, "val": [], "test": [*test, Review("7", 0)]}) is None
    )
    assert (
        shared_movies_fraction({"train": [*train, Review("7", 0)], "val": [], "test": test}) is None
    )
