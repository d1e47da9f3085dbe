"""The report's data card: what the reviews are, from the manifest that was written when they were
prepared.
"""

from lora_replication.data.manifest import Manifest
from lora_replication.report.tables import Cell, Table
from lora_replication.report.wording import GENERATED, count, percent, remark
from lora_replication.study import Study

PART_NAMES = {"train": "Training", "val": "Validation", "test": "Test"}


def data_tables(manifest: Manifest, study: Study) -> tuple[Table, ...]:
    """The parts of the split, and facts about all reviews."""
    parts = Table(
        name="split",
        caption=f"The parts of the split. {remark(study)}".strip(),
        columns=("Part", "Reviews", "Negative, %", "sha256 of the reviews", "sha256 of the tokens"),
        rows=tuple(
            (
                Cell(PART_NAMES[name]),
                Cell(count(part.reviews)),
                Cell(percent(part.negative_fraction)),
                Cell(part.reviews_sha256[:16]),
                Cell(part.tokens_sha256[:16]),
            )
            for name, part in manifest.parts.items()
        ),
        left=frozenset({0, 3, 4}),
    )
    facts = Table(
        name="facts",
        caption="What is known of the reviews, over all parts where no part is named. Digests are cut to their start.",
        columns=("Fact", "Value"),
        rows=tuple((Cell(fact), Cell(value)) for fact, value in _facts(manifest)),
        left=frozenset({0, 1}),
    )
    return parts, facts


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    lengths, repeats, movies = (
        manifest.lengths,
        manifest.repeats,
        manifest.test_movies_in_train_fraction,
    )
    return [
        (
            "Source",
            GENERATED
            if manifest.source == "generated"
            else f"IMDb, read from source \u201c{manifest.source}\u201d",
        ),
        ("Revision", manifest.revision or "none"),
        *(
            (f"Source file {name}", f"sha256 {sha256[:16]}")
            for name, sha256 in manifest.source_files.items()
        ),
        ("The article's split", _split_fact(manifest)),
        (
            "Tokens per review",
            f"mean {lengths.mean:.1f}, median {lengths.median:g}, longest {lengths.longest:,}",
        ),
        (f"Reviews cut at {manifest.max_tokens} tokens", f"{percent(lengths.cut_fraction)} %"),
        ("Reviews that repeat an earlier text", count(repeats.of_earlier)),
        ("Test reviews whose text also stands in train", count(repeats.test_in_train)),
        ("Texts with both labels", count(repeats.conflicting)),
        (
            "Test reviews of a movie that also has training reviews",
            "unknown" if movies is None else f"{percent(movies)} %",
        ),
        ("Encoder", f"{manifest.encoder.name}, revision {manifest.encoder.revision or 'none'}"),
        ("Weights of the encoder", f"sha256 {manifest.encoder.weights_sha256[:16]}"),
        ("Vocabulary", f"sha256 {manifest.vocabulary_sha256[:16]}"),
    ]


def _split_fact(manifest: Manifest) -> str:
    if manifest.article_csv_sha256 is None:
        return "not used: these reviews were generated"
    digests = ", ".join(
        f"{name} {sha256[:16]}" for name, sha256 in manifest.article_csv_sha256.items()
    )
    return f"checked bit for bit; sha256 of the article's files: {digests}"
