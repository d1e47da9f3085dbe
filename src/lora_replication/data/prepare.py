"""From a study's source to the files that training reads: the split, its tokens, the manifest."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lora_replication.data.generated import generate
from lora_replication.data.manifest import (
    MANIFEST,
    TEST_REVIEWS,
    EncoderNote,
    Manifest,
    SplitPart,
    measure_lengths,
    measure_repeats,
    read_manifest,
    reviews_file,
    shared_movies_fraction,
    tokens_file,
)
from lora_replication.data.reviews import NEGATIVE, PARTS, Loaded, PartName, Review
from lora_replication.data.sources import load_imdb
from lora_replication.data.split import CSV_DIGESTS, article_split
from lora_replication.data.tokens import Tokens, load_tokenizer, tokenise, tokens_to_bytes
from lora_replication.errors import DataError
from lora_replication.files import file_digest, write_whole
from lora_replication.study import DataParams, Study

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import BertWordPieceTokenizer

    from lora_replication.encoders import Encoder

Split = Mapping[PartName, list[Review]]


def prepare(study: Study, encoder: "Encoder", folder: Path) -> Manifest:
    """Write ``{train,val,test}.parquet``, ``tokens-{train,val,test}.safetensors`` and, last,
    ``manifest.json`` into ``folder``.

    An IMDb source is first split as a whole and checked against the article's files; then the study
    takes the first reviews of each part. Shows progress on stderr where that is a terminal, and
    prints a summary.

    Args:
        study: names source, sizes and ``max_tokens``.
        encoder: its ``vocab.txt`` makes the tokens; the manifest notes its revision and weights.
        folder: made where it is missing; what stood there stays until its replacement is whole.

    Raises:
        DataError: the source, its content or the vocabulary is missing, damaged or not what it
            should be.
        EnvironmentProblem: the hub can't be reached, or ``folder`` can't be written.
    """
    tokenizer = load_tokenizer(encoder.vocabulary, study.model.max_tokens)
    split, loaded = (
        _generated(study.data) if study.data.source == "generated" else _imdb(study.data)
    )
    tokens, cut = _tokens(split, tokenizer)
    manifest = Manifest(
        source=study.data.source,
        generated_seed=_generated_seed(study.data),
        revision=loaded.revision,
        source_files=loaded.files,
        parts={part: _write_part(folder, part, split[part], tokens[part]) for part in PARTS},
        article_csv_sha256=None if study.data.source == "generated" else CSV_DIGESTS,
        encoder=EncoderNote(
            name=encoder.name, revision=encoder.revision, weights_sha256=encoder.weights_sha256
        ),
        vocabulary_sha256=file_digest(encoder.vocabulary),
        max_tokens=study.model.max_tokens,
        lengths=measure_lengths(np.concatenate([part.lengths for part in tokens.values()]), cut),
        repeats=measure_repeats(split),
        test_reviews_sha256=_write_test_reviews(folder, split),
        test_movies_in_train_fraction=shared_movies_fraction(split),
    )
    write_whole(folder / MANIFEST, manifest.model_dump_json(indent=1).encode() + b"\n")
    print(summary(manifest, folder))
    return manifest


def is_prepared(study: Study, encoder: "Encoder", folder: Path) -> bool:
    """Whether ``folder`` holds what ``study`` and ``encoder`` ask for now, by its manifest; one
    that can't be read says no.
    """
    try:
        manifest = read_manifest(folder)
    except DataError:
        return False
    data = study.data
    return (
        manifest.source == data.source
        and manifest.generated_seed == _generated_seed(data)
        and {part: split.reviews for part, split in manifest.parts.items()}
        == data.reviews.model_dump()
        and manifest.max_tokens == study.model.max_tokens
        and manifest.encoder
        == EncoderNote(
            name=encoder.name, revision=encoder.revision, weights_sha256=encoder.weights_sha256
        )
        and manifest.vocabulary_sha256 == file_digest(encoder.vocabulary)
    )


def _generated_seed(data: DataParams) -> int | None:
    return data.generated_seed if data.source == "generated" else None


def summary(manifest: Manifest, folder: Path) -> str:
    """A few lines on what stands in ``folder``, for people."""
    parts, lengths, repeats = manifest.parts.items(), manifest.lengths, manifest.repeats
    lines = [
        "reviews: "
        + ", ".join(
            f"{part.reviews:,} {name} ({part.negative_fraction:.2%} negative)"
            for name, part in parts
        ),
        "source: generated reviews, not IMDb"
        if manifest.article_csv_sha256 is None
        else f"source: IMDb ({manifest.source}); the whole split is the article's, bit for bit",
        f"tokens per review: mean {lengths.mean:.0f}, median {lengths.median:.0f}, most {lengths.longest}; "
        f"{lengths.cut_fraction:.1%} of the reviews were cut at {manifest.max_tokens}",
        f"repeated texts: {repeats.of_earlier:,} reviews repeat an earlier one, {repeats.test_in_train:,} test reviews stand in train too, "
        f"{repeats.conflicting:,} texts have both labels",
    ]
    if manifest.test_movies_in_train_fraction is not None:
        lines.append(
            f"movies: {manifest.test_movies_in_train_fraction:.1%} of the test reviews are of a movie that has train reviews"
        )
    return "\n".join([*lines, f"written to {folder}"])


def _imdb(data: DataParams) -> tuple[Split, Loaded]:
    loaded = load_imdb(data)
    sizes = data.reviews.model_dump()
    return {
        part: reviews[: sizes[part]] for part, reviews in article_split(loaded.reviews).items()
    }, loaded


def _generated(data: DataParams) -> tuple[Split, Loaded]:
    made = generate(data.reviews.model_dump(), data.generated_seed)
    return {part: [Review(text, label) for text, label in made[part]] for part in PARTS}, Loaded(
        [], None, {}
    )


def _tokens(
    split: Split, tokenizer: "BertWordPieceTokenizer"
) -> tuple[dict[PartName, Tokens], int]:
    from tqdm import tqdm

    tokens: dict[PartName, Tokens] = {}
    cut = 0
    # disable=None: no bar where stderr is not a terminal.
    with tqdm(
        total=sum(map(len, split.values())), desc="tokens", unit=" reviews", disable=None
    ) as bar:
        for part in PARTS:
            texts, labels = (
                [review.text for review in split[part]],
                [review.label for review in split[part]],
            )
            tokens[part], cut_of_part = tokenise(texts, labels, tokenizer, bar.update)
            cut += cut_of_part
    return tokens, cut


def _write_part(folder: Path, part: PartName, reviews: list[Review], tokens: Tokens) -> SplitPart:
    contents = {
        reviews_file(folder, part): reviews_to_bytes(reviews),
        tokens_file(folder, part): tokens_to_bytes(tokens),
    }
    for file, content in contents.items():
        write_whole(file, content)
    of_reviews, of_tokens = (hashlib.sha256(content).hexdigest() for content in contents.values())
    negative = sum(review.label == NEGATIVE for review in reviews)
    return SplitPart(
        reviews=len(reviews),
        negative_fraction=negative / len(reviews),
        reviews_sha256=of_reviews,
        tokens_sha256=of_tokens,
    )


def _write_test_reviews(folder: Path, split: Split) -> str:
    """Write ``test_reviews.parquet``, see ``manifest.read_test_reviews``; its sha256."""
    import pyarrow as pa

    test = split["test"]
    seen = {review.movie for review in split["train"]}
    times = Counter(review.text for reviews in split.values() for review in reviews)
    is_known = None not in seen and all(review.movie for review in test)
    table = pa.table(
        {
            "review": pa.array([review.name for review in test], pa.string()),
            "movie": pa.array([review.movie for review in test], pa.string()),
            "unseen_movie": pa.array(
                [review.movie not in seen if is_known else None for review in test], pa.bool_()
            ),
            "repeated": pa.array([times[review.text] > 1 for review in test], pa.bool_()),
        }
    )
    content = _parquet(table)
    write_whole(folder / TEST_REVIEWS, content)
    return hashlib.sha256(content).hexdigest()


def reviews_to_bytes(reviews: list[Review]) -> bytes:
    """The content of a part's parquet file: columns text, label, review and movie, compressed with
    zstd.
    """
    import pyarrow as pa

    texts, labels, names, movies = map(list, zip(*reviews, strict=True))
    columns = {"text": pa.array(texts, pa.string()), "label": pa.array(labels, pa.int64())}
    columns |= {"review": pa.array(names, pa.string()), "movie": pa.array(movies, pa.string())}
    return _parquet(pa.table(columns))


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue().to_pybytes())
