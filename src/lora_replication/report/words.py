"""Names and rounded numbers for the reader; what is rounded is rounded here and nowhere else.

Sentences are macros of ``words.j2``; ``say`` renders one of them as plain text.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lora_replication import URL, __version__
from lora_replication.pins import PINS
from lora_replication.record import Settings, method_words
from lora_replication.statistics import Interval
from lora_replication.study import MethodParams, method_in_words

ABSENT = "—"
"""Shown where there is no number."""

MINUS = "\N{MINUS SIGN}"


def percent(fraction: float | None) -> str:
    """A fraction from 0 to 1 as percent with two decimals, as the article prints them."""
    return ABSENT if fraction is None else f"{100 * fraction:.2f}"


def signed(fraction: float | None) -> str:
    """A difference of fractions in points, with its sign and two decimals."""
    return ABSENT if fraction is None else f"{100 * fraction:+.2f}".replace("-", MINUS)


def estimate(interval: Interval | None) -> str:
    """The estimate of an interval in percent."""
    return percent(interval.estimate if interval else None)


def ends(interval: Interval | None, show: Callable[[float], str] = percent) -> str:
    """The two ends of an interval in percent."""
    if interval is None or interval.low is None or interval.high is None:
        return ABSENT
    return f"{show(interval.low)} to {show(interval.high)}"


def signed_ends(interval: Interval | None) -> str:
    """The two ends of an interval of a difference, in points."""
    return ends(interval, signed)


def prose(number: float, interval: Interval, sign: bool) -> str:
    """A number in percent or points within a text: one decimal where its interval is wider than a
    point, otherwise two.
    """
    width = (interval.high or 0.0) - (interval.low or 0.0)
    return f"{number:{'+' if sign else ''}.{1 if width > 1 else 2}f}".replace("-", MINUS)


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


def p_value(p: float | None) -> str:
    """Three decimals, or that it is below them."""
    return ABSENT if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def text(value: Any) -> str:
    """Anything else, as it is."""
    return ABSENT if value is None else str(value)


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


_FORMATS = (percent, signed, estimate, ends, signed_ends, prose, level, count, of, duration,
            gibibytes, p_value, text, listed, method_in_words)  # fmt: skip
FORMATS: dict[str, Callable[..., str]] = {format_.__name__: format_ for format_ in _FORMATS}
"""By name, as templates and columns use them."""


def environment(kind: type[Environment] = Environment, **options: Any) -> Environment:
    """Templates of this package, strict about names, with the formats as filters."""
    made = kind(  # plain text; the page sets autoescape
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )
    made.filters.update(FORMATS)
    made.globals.update(version=__version__, url=URL, pins=PINS)
    return made


@cache
def _sentences() -> Any:
    return environment().get_template("words.j2").module


def say(macro: str, *facts: Any) -> str:
    """What ``macro`` of ``words.j2`` makes of the ``facts``, on one line."""
    return " ".join(str(getattr(_sentences(), macro)(*facts)).split())


def trains_in_words(asked: MethodParams | Settings) -> str:
    """What a method or a run trains."""
    return say("trains", method_words(asked), asked)
