"""Reviews composed from the project's own phrases, for a study that needs no download; they are not
IMDb reviews.

``phrases.json`` holds the phrases. In one, ``{name}`` is replaced by a phrase of that name with the
same sentiment, ``{-name}`` with the opposite one, ``{?name}`` with either. ``patterns`` serve both
sentiments; ``polar`` are the words that carry one. Capitals at the start of sentences and "an" are
put in last.

Sentiment is mostly in how a review is put together, because a sentiment word occurs in reviews of
both labels: stated, negated ("hardly dull"), conceded ("the acting is dull, but ..."), reported
("my aunt called it a triumph"), or ironic ("what a triumph, if you enjoy watching paint dry"). Word
counts alone bring a linear classifier to about 77 % after 300 reviews and 84 % after 1,000. In a
share ``AMBIGUOUS_FRACTION`` of the reviews the opinions are drawn without regard to the label and
no verdict follows, so that the best possible accuracy is near 98 %.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import TypeVar

from lora_replication.data.reviews import PARTS

PHRASES_FILE = Path(__file__).with_name("phrases.json")
AMBIGUOUS_FRACTION = 0.04
FEWEST_WORDS, MOST_WORDS = 30, 80

_PLACE = re.compile(r"\{([-?]?)(\w+)\}")

T = TypeVar("T")


def generate(reviews: dict[str, int], seed: int) -> dict[str, list[tuple[str, int]]]:
    """Compose labelled reviews of 30 to 80 words for each part (of train, val and test).

    The draws of review i of a part are named by (seed, part, i) alone: a part stays the same when
    the size of another changes, and a larger part begins with the smaller one. The same on every
    platform and Python version. No text occurs twice, in one part or in two.

    Returns:
        For each part, pairs of text and label, 0 negative or 1 positive; the two labels' counts
        differ by at most 1.
    """
    return {part: _compose_part(part, size, seed) for part, size in reviews.items()}


@cache
def phrases() -> dict[str, tuple[list[str], list[str]]]:
    """Phrases by name: the negative and the positive ones, which are the same for a pattern."""
    content = json.loads(PHRASES_FILE.read_text("utf-8"))
    patterns = {name: (options, options) for name, options in content["patterns"].items()}
    polar = {name: (both["negative"], both["positive"]) for name, both in content["polar"].items()}
    return patterns | polar


def _compose_part(part: str, size: int, seed: int) -> list[tuple[str, int]]:
    composed: dict[str, int] = {}
    for index in range(size):
        rng = Random(f"{seed}/{part}/{index}")  # noqa: S311 -- reviews, not secrets
        # Each pair of neighbours holds both labels, in an order drawn for the pair.
        first = int(Random(f"{seed}/{part}/pair {index // 2}").random() < 0.5)  # noqa: S311
        label = first if index % 2 == 0 else 1 - first
        text = _compose(label, rng)
        while text in composed or not _belongs(text, part):
            text = _compose(label, rng)
        composed[text] = label
    return list(composed.items())


def _belongs(text: str, part: str) -> bool:
    """Whether the length is right, and ``text`` is of this part: each is of one alone."""
    owner = PARTS[hashlib.sha256(text.encode()).digest()[0] % len(PARTS)]
    return owner == part and FEWEST_WORDS <= len(text.split()) <= MOST_WORDS


def _compose(label: int, rng: Random) -> str:
    kind = "ambiguous_review" if rng.random() < AMBIGUOUS_FRACTION else "review"
    text = _expand(kind, label, rng, set())
    text = re.sub(r"\ba (?=[aeiou])", "an ", text)
    return re.sub(r"(^|[.?!] )([a-z])", lambda start: start[1] + start[2].upper(), text)


def _expand(name: str, sentiment: int, rng: Random, used: set[str]) -> str:
    """A phrase called ``name``, its places filled; none of ``used`` while others are left."""
    options = phrases()[name][sentiment]
    phrase = _draw([option for option in options if option not in used] or options, rng)
    used.add(phrase)

    def fill(place: re.Match[str]) -> str:
        sign, inner = place.groups()
        wanted = _draw((0, 1), rng) if sign == "?" else sentiment
        return _expand(inner, 1 - wanted if sign == "-" else wanted, rng, used)

    return _PLACE.sub(fill, phrase)


def _draw(options: Sequence[T], rng: Random) -> T:
    # Only ``random()`` is promised to give the same numbers in every Python version.
    return options[int(rng.random() * len(options))]
