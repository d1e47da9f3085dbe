"""From a study's source to the files that training reads: the split, its tokens, the manifest."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_replication.allowed import CLASSES
from lora_replication.data.generated import generate
from lora_replication.data.imdb import load_imdb
from lora_replication.data.manifest import (
    MANIFEST,
    TEST_REVIEWS,
    EncoderNote,
    Lengths,
    Manifest,
    Repeats,
    SplitPart,
    read_manifest,
    reviews_file,
    tokens_file,
)
from lora_replication.data.reviews import NEGATIVE, PARTS, Loaded, PartName, Review, table_to_bytes
from lora_replication.data.split import CSV_DIGESTS, article_split
from lora_replication.data.table import is_of_table, load_table
from lora_replication.data.tokens import Tokens, load_tokenizer, tokenise, tokens_to_bytes
from lora_replication.errors import DataError
from lora_replication.files import file_digest, write_whole
from lora_replication.study import DataParams, Study

if TYPE_CHECKING:
    from lora_replication.encoders import Encoder

Split = Mapping[PartName, Sequence[Review]]


def prepare(study: Study, encoder: "Encoder", folder: Path) -> Manifest:
    """Write ``{train,val,test}.parquet``, ``tokens-{train,val,test}.safetensors``,
    ``test_reviews.parquet`` and, last, ``manifest.json`` into ``folder``; print a summary.

    An IMDb source is first split as a whole and checked against the article's files; then the study
    takes the first reviews of each part. What is in ``folder`` stays until its replacement is
    whole.

    Raises:
        DataError: the source, its content or the vocabulary is missing, damaged or not what it
            should be.
        EnvironmentProblem: the hub can't be reached, or ``folder`` can't be written.
    """
    tokenizer = load_tokenizer(encoder.vocabulary, study.model.max_tokens)
    split, loaded = _reviews(study.data)
    tokens: dict[PartName, Tokens] = {}
    cut = 0
    for part, reviews in split.items():
        texts, labels = zip(*((review.text, review.label) for review in reviews), strict=True)
        tokens[part], cut_of_part = tokenise(texts, labels, tokenizer)
        cut += cut_of_part
    lengths = np.concatenate([part.lengths for part in tokens.values()])
    unseen = unseen_movies(split)
    manifest = Manifest(
        **_asked(study, encoder),
        revision=loaded.revision,
        source_files=loaded.files,
        classes=loaded.classes or CLASSES,
        parts={p: _write_part(folder, p, split[p], tokens[p], loaded.classes) for p in PARTS},
        article_csv_sha256=CSV_DIGESTS if study.data.is_imdb else None,
        lengths=Lengths(
            mean=float(lengths.mean()),
            median=float(np.median(lengths)),
            longest=int(lengths.max()),
            cut_fraction=cut / len(lengths),
        ),
        repeats=measure_repeats(split),
        test_reviews_sha256=_write(folder / TEST_REVIEWS, reviews_without_text(split)),
        test_movies_in_train_fraction=None if None in unseen else unseen.count(False) / len(unseen),
    )
    write_whole(folder / MANIFEST, manifest.model_dump_json(indent=1).encode() + b"\n")
    print(summary(manifest, folder))
    return manifest


def is_prepared(study: Study, encoder: "Encoder", folder: Path) -> bool:
    """Whether ``folder`` holds what ``study`` and ``encoder`` ask for now, by its manifest."""
    try:
        manifest = read_manifest(folder)
    except DataError:
        return False
    same = [getattr(manifest, key) == value for key, value in _asked(study, encoder).items()]
    same.append(study.data.source != "table" or is_of_table(study.data, manifest.source_files))
    return all(same) and not manifest.differences(study)


def _asked(study: Study, encoder: "Encoder") -> dict[str, Any]:
    """What of the manifest is known beforehand."""
    data = study.data
    return {
        "source": data.source,
        "generated_seed": data.generated_seed if data.source == "generated" else None,
        "encoder": EncoderNote(
            name=encoder.name, revision=encoder.revision, weights_sha256=encoder.sha256
        ),
        "vocabulary_sha256": file_digest(encoder.vocabulary),
        "max_tokens": study.model.max_tokens,
        "table": data.table,
    }


def measure_repeats(split: Split) -> Repeats:
    """Count the texts that occur more than once in the ``split``'s parts, in the order given."""
    labels: dict[str, set[int]] = {}
    for reviews in split.values():
        for review in reviews:
            labels.setdefault(review.text, set()).add(review.label)
    train = {review.text for review in split["train"]}
    return Repeats(
        of_earlier=sum(map(len, split.values())) - len(labels),
        test_in_train=sum(review.text in train for review in split["test"]),
        conflicting=sum(len(both) > 1 for both in labels.values()),
    )


def unseen_movies(split: Split) -> list[bool | None]:
    """Of each test review whether no train review is of its movie; None where one is unknown."""
    seen = {review.movie for review in split["train"]}
    movies = [review.movie for review in split["test"]]
    is_known = None not in seen and None not in movies
    return [movie not in seen if is_known else None for movie in movies]


def summary(manifest: Manifest, folder: Path) -> str:
    """A few lines on what is in ``folder``, for people."""
    lengths, repeats = manifest.lengths, manifest.repeats
    parts = ", ".join(
        f"{part.reviews:,} {name} ({part.negative_fraction:.2%} {manifest.classes[0]})"
        for name, part in manifest.parts.items()
    )
    source = "generated reviews, not IMDb"
    if manifest.source == "table":
        source = f"{', '.join(manifest.source_files)}; classes {', '.join(manifest.classes)}"
    if manifest.article_csv_sha256 is not None:
        source = f"IMDb ({manifest.source}); the whole split is the article's, bit for bit"
    movies = "unknown"
    if (shared := manifest.test_movies_in_train_fraction) is not None:
        movies = f"{shared:.1%} of the test reviews are of one that has train reviews"
    return f"""\
reviews: {parts}
source: {source}
tokens per review: mean {lengths.mean:.0f}, median {lengths.median:.0f}, most {lengths.longest}; \
{lengths.cut_fraction:.1%} of the reviews were cut at {manifest.max_tokens}
repeated texts: {repeats.of_earlier:,} reviews repeat an earlier one, {repeats.test_in_train:,} \
test reviews are in train too, {repeats.conflicting:,} texts have both labels
movies: {movies}
written to {folder}"""


def _reviews(data: DataParams) -> tuple[Split, Loaded]:
    sizes = data.reviews.model_dump()
    if data.source == "generated":
        made = generate(sizes, data.generated_seed)
        composed = {part: [Review(*review) for review in made[part]] for part in PARTS}
        return composed, Loaded([], None, {})
    if data.source == "table":
        return load_table(data)
    loaded = load_imdb(data)
    split = article_split(loaded.reviews)
    return {part: split[part][: sizes[part]] for part in PARTS}, loaded


def _write_part(
    folder: Path, part: PartName, reviews: Sequence[Review], tokens: Tokens, classes: Sequence[str]
) -> SplitPart:
    labels = [review.label for review in reviews]
    return SplitPart(
        reviews=len(reviews),
        negative_fraction=labels.count(NEGATIVE) / len(reviews),
        classes={name: labels.count(label) for label, name in enumerate(classes)},
        reviews_sha256=_write(reviews_file(folder, part), reviews_to_bytes(reviews)),
        tokens_sha256=_write(tokens_file(folder, part), tokens_to_bytes(tokens)),
    )


def _write(file: Path, content: bytes) -> str:
    """Write a file; its sha256."""
    write_whole(file, content)
    return hashlib.sha256(content).hexdigest()


def reviews_to_bytes(reviews: Sequence[Review]) -> bytes:
    """The content of a part's parquet file: columns text, label, review and movie."""
    import pyarrow as pa

    kinds = {"text": pa.string(), "label": pa.int64(), "review": pa.string(), "movie": pa.string()}
    columns = zip(kinds.items(), zip(*reviews, strict=True), strict=True)
    return table_to_bytes(
        pa.table({name: pa.array(values, kind) for (name, kind), values in columns})
    )


def reviews_without_text(split: Split) -> bytes:
    """The content of ``test_reviews.parquet``, see ``manifest.read_test_reviews``."""
    import pyarrow as pa

    test = split["test"]
    times = Counter(review.text for reviews in split.values() for review in reviews)
    columns = {
        "review": pa.array([review.name for review in test], pa.string()),
        "movie": pa.array([review.movie for review in test], pa.string()),
        "unseen_movie": pa.array(unseen_movies(split), pa.bool_()),
        "repeated": pa.array([times[review.text] > 1 for review in test], pa.bool_()),
    }
    return table_to_bytes(pa.table(columns))
