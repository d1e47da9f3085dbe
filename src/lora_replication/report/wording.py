"""Words and rounded numbers for the reader; whatever is rounded is rounded here and nowhere
else.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lora_replication.article import SETTING
from lora_replication.statistics import Interval
from lora_replication.study import Study

GENERATED = "generated reviews, not IMDb"
"""Stands in every output of a study on generated reviews, its title included."""

ABSENT = "—"
"""Stands where there is no number."""

ENCODERS = {
    "distilbert-base-uncased": "DistilBERT",
    "minilm": "MiniLM",
    "folder": "an encoder from a local folder",
    "tiny-distilbert": "a tiny random DistilBERT",
    "tiny-bert": "a tiny random BERT",
}

TRAINS = {"head": "the two layers after the encoder", "all": "all layers"}


def title(study: Study) -> str:
    """The study's title; one on generated reviews always says so."""
    needs_saying = study.data.source == "generated" and GENERATED not in study.title
    return f"{study.title} ({GENERATED})" if needs_saying else study.title


def subject(study: Study) -> str:
    """Which encoder on which reviews, in one line."""
    reviews = study.data.reviews
    what = (
        "generated reviews"
        if study.data.source == "generated"
        else "reviews of the article's split of IMDb"
    )
    return (
        f"{ENCODERS[study.model.encoder]} on {reviews.train:,} training, {reviews.val:,} validation and {reviews.test:,} test "
        f"{what}, at most {study.model.max_tokens} tokens each"
    )


def reservation(study: Study) -> str | None:
    """What a study other than the article's must say first; null for the article's own."""
    if study.is_the_articles:
        return None
    generated = "Generated reviews, not IMDb. " if study.data.source == "generated" else ""
    return (
        f"{generated}This study is not {SETTING}: it is {subject(study)}. It cannot confirm or refute the article's numbers, "
        "which stand here for orientation only."
    )


def remark(study: Study) -> str:
    """The reservation in a few words, for captions; empty for the article's own study."""
    if study.is_the_articles:
        return ""
    generated = f"{stamp(study)}. " if study.data.source == "generated" else ""
    return f"{generated}Not {SETTING}; cannot confirm or refute the article's numbers."


def stamp(study: Study) -> str:
    """What stands inside every figure; empty for the article's own study."""
    if study.is_the_articles:
        return ""
    return (
        f"{GENERATED[0].upper()}{GENERATED[1:]}"
        if study.data.source == "generated"
        else f"Not {SETTING}"
    )


def what_trains(trains: str, lora: Mapping[str, Any] | None) -> str:
    """What a run trains, in words, from ``trains`` and the plain values of its LoRA settings."""
    if lora is None:
        return TRAINS[trains]
    scale = " / rank" if lora["scaling"] == "paper" else ""
    dropout = f", dropout {lora['dropout']:g}" if lora["dropout"] else ""
    return f"LoRA, rank {lora['rank']}, alpha {lora['alpha']:g}{scale}, on {listed(lora['targets'])}{dropout}"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def percent(fraction: float | None) -> str:
    """A fraction from 0 to 1 as percent with two decimals, as the article prints them."""
    return ABSENT if fraction is None else f"{100 * fraction:.2f}"


def points(number: float) -> str:
    """A percentage or a difference in points that is already times 100, with two decimals."""
    return f"{number:.2f}"


def ends(interval: Interval | None) -> str:
    """The two ends of an interval in percent."""
    if interval is None or interval.low is None or interval.high is None:
        return ABSENT
    return f"{percent(interval.low)} to {percent(interval.high)}"


def signed(fraction: float | None) -> str:
    """A difference of fractions in points, with its sign and two decimals."""
    return ABSENT if fraction is None else f"{100 * fraction:+.2f}"


def signed_ends(interval: Interval | None) -> str:
    """The two ends of an interval of a difference, in points."""
    if interval is None or interval.low is None or interval.high is None:
        return ABSENT
    return f"{signed(interval.low)} to {signed(interval.high)}"


def level(confidence: float) -> str:
    """A confidence level, such as ``95 %``."""
    return f"{100 * confidence:g} %"


def count(number: float | None) -> str:
    """A whole number with thousands separated."""
    return ABSENT if number is None else f"{number:,.0f}"


def of(done: int, asked: int) -> str:
    """``3`` where all that was asked for is done, otherwise ``2 of 3``."""
    return f"{done:,}" if done == asked else f"{done:,} of {asked:,}"


def duration(seconds: float | None) -> str:
    """Seconds as ``12.3 s``, ``4 min 05 s`` or ``2 h 07 min``."""
    if seconds is None:
        return ABSENT
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,} h {minutes:02d} min"


def gibibytes(number: int | None) -> str:
    """Bytes as GiB with two decimals."""
    return ABSENT if number is None else f"{number / 2**30:.2f} GiB"
