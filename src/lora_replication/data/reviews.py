"""A labelled review, and what a source holds."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

PartName = Literal["train", "val", "test"]

PARTS: tuple[PartName, ...] = ("train", "val", "test")
"""The parts of a split, in the order in which the article cuts them."""

NEGATIVE, POSITIVE = 0, 1


class Review(NamedTuple):
    """One review.

    Attributes:
        text: as its author wrote it, ``<br />`` included.
        label: 0 (negative) or 1 (positive).
        name: where IMDb's archive keeps it, such as ``test/pos/10_7``; None where the source
            doesn't say.
        movie: the movie's number at IMDb, such as ``tt0453418``; None where the source doesn't say.
    """

    text: str
    label: int
    name: str | None = None
    movie: str | None = None


@dataclass(frozen=True)
class Loaded:
    """All labelled reviews of a source, in the source's own order.

    Attributes:
        reviews: both of IMDb's halves.
        revision: the commit of the source, where it has one.
        files: sha256 of each file that was read, by file name; empty for a folder of 50,000 files.
    """

    reviews: list[Review]
    revision: str | None
    files: dict[str, str]
