"""Preparing writes what the manifest says, whole or not at all."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_replication.data.generated import generate, words
from lora_replication.data.manifest import (
    MANIFEST,
    Manifest,
    read_manifest,
    read_reviews,
    read_tokens,
)
from lora_replication.data.prepare import is_prepared, prepare, reviews_to_bytes, summary
from lora_replication.data.reviews import PARTS, Review
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.reading import check_study, merge_files
from lora_replication.files import file_digest
from lora_replication.study import ModelParams, Study
from lora_replication.tables import read_table
from lora_replication.training.layouts import LAYOUTS

PARAMS = Path(__file__).parents[1] / "params.yaml"
SIZES: dict[str, int] = {"train": 12, "val": 5, "test": 8}


def study(
    source: str = "generated", path: str | None = None, sizes: dict[str, int] = SIZES, **data: Any
) -> Study:
    content = merge_files(PARAMS)
    content["data"] |= {"source": source, "path": path, "reviews": dict(sizes)} | data
    content["model"]["max_tokens"] = 40
    return check_study(content)


@pytest.fixture
def encoder(tmp_path: Path) -> Encoder:
    folder = tmp_path / "an encoder"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words()]))
    return Encoder("folder", folder, "revision 7", LAYOUTS["bert"], "weights' sha256")


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
    assert sorted(contents(folder)) == sorted(
        [
            MANIFEST,
            *(f"{part}.parquet" for part in PARTS),
            *(f"tokens-{part}.safetensors" for part in PARTS),
        ]
    )
    made = generate(SIZES, 1)
    for part in PARTS:
        table = read_reviews(folder, part, manifest)
        assert table.column_names == ["text", "label", "review", "movie"]
        assert (
            list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
            == made[part]
        )
        assert table["review"].null_count == table["movie"].null_count == SIZES[part]
        tokens = read_tokens(folder, part, manifest)
        assert tokens.labels.tolist() == [label for _, label in made[part]]
        assert tokens.lengths.max() <= 40
        assert manifest.parts[part].reviews == len(tokens) == SIZES[part]
        assert (
            manifest.parts[part].negative_fraction
            == sum(label == 0 for _, label in made[part]) / SIZES[part]
        )
    assert (
        manifest.source,
        manifest.revision,
        manifest.article_csv_sha256,
        manifest.max_tokens,
    ) == ("generated", None, None, 40)
    assert manifest.test_movies_in_train_fraction is None
    assert manifest.encoder.model_dump() == {
        "name": "folder",
        "revision": "revision 7",
        "weights_sha256": "weights' sha256",
    }
    assert manifest.vocabulary_sha256 == file_digest(encoder.vocabulary)
    told = capfd.readouterr()
    assert "generated reviews, not IMDb" in told.out
    assert "12 train" in told.out
    assert told.err == ""  # no terminal, no bar


def test_preparing_twice_gives_the_same_bytes_and_another_seed_others(
    encoder: Encoder, folder: Path
) -> None:
    first = prepare(study(), encoder, folder)
    before = contents(folder)
    prepare(study(), encoder, folder)
    assert contents(folder) == before
    assert prepare(study(generated_seed=2), encoder, folder).digest != first.digest


@pytest.mark.parametrize("fault", ["source", "vocabulary"])
def test_bad_input_leaves_what_was_there(
    fault: str, encoder: Encoder, folder: Path, tmp_path: Path
) -> None:
    prepare(study(), encoder, folder)
    before = contents(folder)
    if fault == "vocabulary":
        encoder.vocabulary.unlink()
    (tmp_path / "a.tar.gz").write_bytes(b"<html>404</html>")
    with pytest.raises(
        DataError, match=r"a\.tar\.gz: has sha256" if fault == "source" else r"vocab\.txt"
    ):
        prepare(study("archive", str(tmp_path / "a.tar.gz")), encoder, folder)
    assert contents(folder) == before


def test_prepared_data_are_known_by_everything_that_decides_them(
    encoder: Encoder, folder: Path
) -> None:
    assert not is_prepared(study(), encoder, folder)
    prepare(study(), encoder, folder)
    asked = study()
    assert is_prepared(asked, encoder, folder)
    changes = [
        asked.model_copy(
            update={
                "data": asked.data.model_copy(
                    update={"generated_seed": asked.data.generated_seed + 1}
                )
            }
        ),
        asked.model_copy(update={"data": asked.data.model_copy(update={"source": "hub"})}),
        asked.model_copy(
            update={
                "data": asked.data.model_copy(
                    update={"reviews": asked.data.reviews.model_copy(update={"test": 1})}
                )
            }
        ),
        asked.model_copy(
            update={
                "model": asked.model.model_copy(update={"max_tokens": asked.model.max_tokens - 1})
            }
        ),
    ]
    assert not any(is_prepared(changed, encoder, folder) for changed in changes)
    assert not is_prepared(asked, replace(encoder, weights_sha256="other"), folder)


def test_a_manifest_of_earlier_files_does_not_vouch_for_later_ones(
    encoder: Encoder, folder: Path
) -> None:
    earlier = prepare(study(), encoder, folder)
    written = (folder / MANIFEST).read_bytes()
    prepare(study(generated_seed=2), encoder, folder)
    (folder / MANIFEST).write_bytes(written)  # as if it had been killed before its last file
    with pytest.raises(DataError, match=r"tokens-train\.safetensors: has sha256"):
        read_tokens(folder, "train", earlier)


def test_a_folder_that_can_not_be_written_is_told(encoder: Encoder, folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="could not be written"):
        prepare(study(), encoder, folder)


@given(
    st.lists(
        st.builds(
            Review, st.text(), st.integers(0, 1), st.none() | st.text(), st.none() | st.text()
        ),
        min_size=1,
    )
)
@pytest.mark.fault(18)
@pytest.mark.goal("property", "texts survive")
def test_reviews_survive_their_file(reviews: list[Review]) -> None:
    table = read_table(reviews_to_bytes(reviews))
    assert [Review(*row.values()) for row in table.to_pylist()] == reviews


def test_importing_loads_nothing_heavy() -> None:
    check = (
        "import sys, lora_replication.data.prepare\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'mlflow', 'matplotlib', 'tokenizers', 'huggingface_hub'} & set(sys.modules)))"
    )
    told = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def archive() -> str:
    named = os.environ.get("IMDB_ARCHIVE")
    if not named:
        pytest.skip("IMDB_ARCHIVE names no archive of IMDb reviews")
    return named


def minilm() -> Encoder:
    return locate_encoder(ModelParams(encoder="minilm", max_tokens=512))


@pytest.mark.reviews
def test_all_of_imdb_gives_the_known_numbers(
    archive: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = merge_files(PARAMS)
    content["data"] |= {"source": "archive", "path": archive}
    manifest = prepare(check_study(content), minilm(), folder)
    assert manifest.source_files == {Path(archive).name: file_digest(Path(archive))}
    assert {
        name: (part.reviews, round(100 * part.negative_fraction, 2))
        for name, part in manifest.parts.items()
    } == {
        "train": (35_000, 49.86),
        "val": (5_000, 50.84),
        "test": (10_000, 50.06),
    }
    lengths = manifest.lengths
    assert (round(lengths.mean), lengths.median, lengths.longest) == (273, 231, 512)
    full = sum(int((read_tokens(folder, part, manifest).lengths == 512).sum()) for part in PARTS)
    assert round(100 * full / 50_000, 1) == 14.5
    # Of those that fill all 512 places, 38 fit exactly.
    assert round(lengths.cut_fraction * 50_000) == full - 38
    assert (manifest.repeats.of_earlier, manifest.repeats.test_in_train) == (418, 116)
    assert round(100 * (manifest.test_movies_in_train_fraction or 0), 1) == 95.2
    assert manifest.article_csv_sha256 is not None
    assert "the whole split is the article's, bit for bit" in capsys.readouterr().out


@pytest.mark.reviews
def test_a_smaller_study_takes_the_first_of_each_part(
    archive: str, encoder: Encoder, folder: Path
) -> None:
    small = prepare(study("archive", archive), encoder, folder)
    first = {part: read_reviews(folder, part, small) for part in PARTS}
    larger = prepare(
        study("archive", archive, {"train": 20, "val": 9, "test": 30}), encoder, folder
    )
    assert small.article_csv_sha256 == larger.article_csv_sha256
    assert "movies: " in summary(small, folder)
    for part in PARTS:
        assert first[part].num_rows == SIZES[part]
        assert read_reviews(folder, part, larger).slice(0, SIZES[part]).equals(first[part])
        assert all(
            name.startswith(("train/", "test/")) for name in first[part]["review"].to_pylist()
        )
        assert all(movie.startswith("tt") for movie in first[part]["movie"].to_pylist())


@pytest.mark.fault(19)
def test_the_summary_tells_repeats(encoder: Encoder, folder: Path) -> None:
    manifest: Manifest = prepare(study(), encoder, folder)
    told = summary(
        manifest.model_copy(
            update={"repeats": manifest.repeats.model_copy(update={"of_earlier": 1234})}
        ),
        folder,
    )
    assert "1,234 reviews repeat an earlier one" in told
    assert str(folder) in told
