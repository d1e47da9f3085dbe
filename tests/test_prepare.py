"""Preparing writes what the manifest says, whole or not at all."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_replication.data.generated import generate
from lora_replication.data.manifest import (
    MANIFEST,
    Repeats,
    read_manifest,
    read_test_reviews,
    read_tokens,
    reviews_file,
)
from lora_replication.data.prepare import (
    is_prepared,
    measure_repeats,
    prepare,
    reviews_to_bytes,
    reviews_without_text,
)
from lora_replication.data.reviews import PARTS, Review, read_table
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError
from lora_replication.files import file_digest
from lora_replication.study import ModelParams, Study
from tests.study_files import read_params, study_params
from tests.tiny_encoders import tiny_encoder

SIZES: dict[str, int] = {"train": 12, "val": 5, "test": 8}


def study(max_tokens: int = 40, sizes: dict[str, int] = SIZES, **data: Any) -> Study:
    changes = {"data": {"reviews": sizes} | data, "model": {"max_tokens": max_tokens}}
    return Study.model_validate(study_params(**changes))


@pytest.fixture
def encoder() -> Encoder:
    path = str(tiny_encoder("bert"))
    return locate_encoder(ModelParams(encoder="folder", path=path, max_tokens=40))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "a study"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_generated_reviews_are_written_and_read_back(
    encoder: Encoder, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    manifest = prepare(study(), encoder, folder)
    assert read_manifest(folder) == manifest
    assert set(contents(folder)) == {
        MANIFEST, "test_reviews.parquet", *(f"{part}.parquet" for part in PARTS),
        *(f"tokens-{part}.safetensors" for part in PARTS),
    }  # fmt: skip
    made = generate(SIZES, 1)
    for part in PARTS:
        table = read_table(reviews_file(folder, part))
        assert file_digest(reviews_file(folder, part)) == manifest.parts[part].reviews_sha256
        assert table.column_names == ["text", "label", "review", "movie"]
        columns = (table[name].to_pylist() for name in ("text", "label"))
        assert list(zip(*columns, strict=True)) == made[part]
        tokens = read_tokens(folder, part, manifest)
        assert tokens.labels.tolist() == [label for _, label in made[part]]
        assert tokens.lengths.max() <= 40
        negative = sum(label == 0 for _, label in made[part])
        assert manifest.parts[part].reviews == len(tokens) == SIZES[part]
        assert manifest.parts[part].negative_fraction == negative / SIZES[part]
    lengths = [read_tokens(folder, part, manifest).lengths for part in PARTS]
    assert manifest.lengths.mean == sum(map(sum, lengths)) / sum(SIZES.values())
    assert manifest.vocabulary_sha256 == file_digest(encoder.vocabulary)
    assert manifest.article_csv_sha256 is manifest.test_movies_in_train_fraction is None
    tests = read_test_reviews(folder, manifest)
    assert [tests[name].null_count for name in ("review", "movie", "unseen_movie")] == [8] * 3
    assert tests["repeated"].to_pylist() == [False] * 8
    printed = capfd.readouterr()
    assert "generated reviews, not IMDb" in printed.out
    assert "12 train" in printed.out
    assert str(folder) in printed.out
    assert printed.err == ""  # no terminal, no bar


def test_preparing_twice_gives_the_same_bytes_and_another_seed_others(
    encoder: Encoder, folder: Path
) -> None:
    first = prepare(study(), encoder, folder)
    before = contents(folder)
    prepare(study(), encoder, folder)
    assert contents(folder) == before
    assert prepare(study(generated_seed=2), encoder, folder).digest != first.digest
    (folder / MANIFEST).write_bytes(before[MANIFEST])  # as if killed before its last file
    with pytest.raises(DataError, match=r"tokens-train\.safetensors: has sha256"):
        read_tokens(folder, "train", first)


def test_bad_input_leaves_what_was_there(encoder: Encoder, folder: Path, tmp_path: Path) -> None:
    prepare(study(), encoder, folder)
    before = contents(folder)
    (tmp_path / "a.tar.gz").write_bytes(b"<html>404</html>")
    with pytest.raises(DataError, match=r"a\.tar\.gz: has sha256"):
        prepare(study(source="archive", path=str(tmp_path / "a.tar.gz")), encoder, folder)
    assert contents(folder) == before


def test_prepared_data_are_known_by_everything_that_decides_them(
    encoder: Encoder, folder: Path
) -> None:
    assert not is_prepared(study(), encoder, folder)
    prepare(study(), encoder, folder)
    assert is_prepared(study(), encoder, folder)
    changed = [
        study(generated_seed=2), study(source="hub"), study(39), study(sizes=SIZES | {"test": 1}),
    ]  # fmt: skip
    assert not any(is_prepared(other, encoder, folder) for other in changed)
    assert not is_prepared(study(), replace(encoder, weights_sha256="other"), folder)


REVIEWS = st.builds(
    Review, st.text(), st.integers(0, 1), st.none() | st.text(), st.none() | st.text()
)


@settings(deadline=None)
@given(st.lists(REVIEWS, min_size=1))
@pytest.mark.fault(18)
@pytest.mark.goal("property", "texts survive")
def test_reviews_survive_their_file(reviews: list[Review]) -> None:
    table = read_table(reviews_to_bytes(reviews))
    assert [Review(*row.values()) for row in table.to_pylist()] == reviews


@pytest.mark.fault(19)
def test_repeats_by_hand() -> None:
    train = [Review("a", 1), Review("b", 0), Review("a", 1), Review("c", 1)]
    val = [Review("c", 0), Review("d", 0)]
    test = [Review("a", 1), Review("a", 0), Review("d", 0), Review("e", 0)]
    split = {"train": train, "val": val, "test": test}
    # Earlier texts: a (train), c (val), a, a, d (test). In train: a, a. With both labels: a, c.
    assert measure_repeats(split) == Repeats(of_earlier=5, test_in_train=2, conflicting=2)
    repeated = read_table(reviews_without_text(split))["repeated"].to_pylist()
    assert repeated == [True, True, True, False]


def test_movies_that_train_lacks_by_hand() -> None:
    train = [Review("1", 1, "train/pos/1_8", "tt1"), Review("2", 1, "train/pos/2_8", "tt2")]
    test = [Review("3", 0, "test/neg/3_1", "tt2"), Review("4", 0, "test/neg/4_1", "tt3")]
    table = read_table(reviews_without_text({"train": train, "val": [], "test": test}))
    assert table.to_pydict() == {
        "review": ["test/neg/3_1", "test/neg/4_1"],
        "movie": ["tt2", "tt3"],
        "unseen_movie": [False, True],
        "repeated": [False, False],
    }
    for unknown in ({"train": [*train, Review("5", 0)]}, {"test": [*test, Review("5", 0)]}):
        split = {"train": train, "val": [], "test": test} | unknown
        unseen = read_table(reviews_without_text(split))["unseen_movie"]
        assert unseen.null_count == len(split["test"])


@pytest.fixture(scope="module")
def archive() -> str:
    named = os.environ.get("IMDB_ARCHIVE")
    if not named:
        pytest.skip("IMDB_ARCHIVE names no archive of IMDb reviews")
    return named


@pytest.mark.reviews
def test_all_of_imdb_gives_the_known_numbers(
    archive: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = read_params()
    content["data"] |= {"source": "archive", "path": archive}
    minilm = locate_encoder(ModelParams(encoder="minilm", max_tokens=512))
    manifest = prepare(Study.model_validate(content), minilm, folder)
    assert manifest.source_files == {Path(archive).name: file_digest(Path(archive))}
    parts = manifest.parts.items()
    assert {name: (p.reviews, round(100 * p.negative_fraction, 2)) for name, p in parts} == {
        "train": (35_000, 49.86), "val": (5_000, 50.84), "test": (10_000, 50.06),
    }  # fmt: skip
    lengths = manifest.lengths
    assert (round(lengths.mean), lengths.median, lengths.longest) == (273, 231, 512)
    full = sum(int((read_tokens(folder, part, manifest).lengths == 512).sum()) for part in PARTS)
    assert round(100 * full / 50_000, 1) == 14.5
    # Of those that fill all 512 places, 38 fit exactly.
    assert round(lengths.cut_fraction * 50_000) == full - 38
    assert (manifest.repeats.of_earlier, manifest.repeats.test_in_train) == (418, 116)
    assert round(100 * (manifest.test_movies_in_train_fraction or 0), 1) == 95.2
    unseen = read_test_reviews(folder, manifest)["unseen_movie"].to_pylist()
    assert unseen.count(False) / 10_000 == manifest.test_movies_in_train_fraction
    printed = capsys.readouterr().out
    assert "the whole split is the article's, bit for bit" in printed
    assert "418 reviews repeat an earlier one, 116 test reviews are in train too" in printed
    assert "movies: 95.2% of the test reviews" in printed


@pytest.mark.reviews
def test_a_smaller_study_takes_the_first_of_each_part(
    archive: str, encoder: Encoder, folder: Path
) -> None:
    small = prepare(study(source="archive", path=archive), encoder, folder)
    first = {part: read_table(reviews_file(folder, part)) for part in PARTS}
    sizes = {"train": 20, "val": 9, "test": 30}
    larger = prepare(study(sizes=sizes, source="archive", path=archive), encoder, folder)
    assert small.article_csv_sha256 == larger.article_csv_sha256
    for part in PARTS:
        assert first[part].num_rows == SIZES[part]
        assert read_table(reviews_file(folder, part)).slice(0, SIZES[part]).equals(first[part])
