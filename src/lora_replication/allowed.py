"""The values that parameters may have, and the base of every mapping of them."""

from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Target = Literal["query", "key", "value", "projection", "mlp", "head"]

TARGETS: tuple[Target, ...] = ("query", "key", "value", "projection", "mlp", "head")
"""Where LoRA can sit, under the article's names; a target is one or two linears of the encoder."""

TARGET_RULE = f"at least one of {', '.join(TARGETS)}, none twice"

LARGEST_RANK = 768
"""The width of DistilBERT: a larger rank could not add anything to any of its layers."""

NAME_RULE = "1 to 64 of the characters A-Z a-z 0-9 . _ -, not starting with . or -"
"""Names of studies become folders and arguments of commands."""

METHOD_RULE = "1 to 64 of the characters A-Z a-z 0-9 _ -, not starting with -"
"""Names of methods become items of a DVC stage too, which can't hold a dot."""


CLASSES, MOST_CLASSES, MOST_NAME = ("negative", "positive"), 150, 200
"""Of reviews, by number; how many a table may have; characters of the name of one, or a column."""


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        raise ValueError("no value twice")
    return values


def _in_standard_order(targets: tuple[Target, ...]) -> tuple[Target, ...]:
    if not targets or len(set(targets)) < len(targets):
        raise ValueError("at least one, none twice")
    return tuple(sorted(targets, key=TARGETS.index))


def whole(low: int, high: int, what: str = "") -> Any:
    """The limits of a whole number, and their words; ``what`` follows "a whole number"."""
    return Field(ge=low, le=high, description=f"a whole number{what} from {low} to {high}")


def _number(range_: str, **limits: Any) -> Any:
    return Field(**limits, description=f"a number {range_}")


T = TypeVar("T")
Several = Annotated[list[T], Field(min_length=1), AfterValidator(_distinct)]
LINE = r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$"
Scaling = Literal["article", "paper", "rslora"]
Targets = Annotated[
    tuple[Target, ...],
    Field(strict=False, description=TARGET_RULE),
    AfterValidator(_in_standard_order),
]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", description=NAME_RULE)]
MethodName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$", description=METHOD_RULE)
]
ByMethod = Annotated[
    dict[MethodName, T], Field(min_length=1, description="method names, each with its keys")
]
Column = Annotated[str, Field(pattern=LINE, max_length=MOST_NAME, description="a column's name")]
Classes = Annotated[tuple[Column, ...], Field(strict=False, min_length=2, max_length=MOST_CLASSES)]
Line = Annotated[
    str, Field(pattern=LINE, max_length=200, description="a line of at most 200 characters")
]
File = Annotated[str, Field(pattern=LINE, description="a path")]
Seed = Annotated[int, whole(0, 2**32 - 1)]
Rank = Annotated[int, whole(1, LARGEST_RANK)]
Alpha = Annotated[float, _number("above 0, at most 1000000", gt=0, le=1e6)]
LearningRate = Annotated[float, _number("above 0, at most 1, written without quotes", gt=0, le=1)]
Points = Annotated[float, _number("of points above 0, at most 100", gt=0, le=100)]
Dropout = Annotated[float, _number("from 0 to below 1", ge=0, lt=1)]
Share = Annotated[float, _number("from 0.5 to below 1", ge=0.5, lt=1)]
Seconds = Annotated[float, _number("of seconds above 0", gt=0)]
Address = Annotated[
    str,
    Field(
        pattern=r"^(auto|[A-Za-z0-9_.-]+:[0-9]{1,5})$",
        description="auto, or the head's host:port without ray://",
    ),
]
GpuShare = Annotated[float, _number("above 0, at most 1: a share of one GPU", gt=0, le=1)]
Reviewed = Annotated[int, whole(1, 1_000_000, " of reviews")]
Nudges = Annotated[int, whole(0, 100, " of repeats")]


def _time(text: str) -> str:
    datetime.fromisoformat(text)  # raises ValueError
    return text


Whole = Annotated[int, Field(ge=0, lt=2**53)]
Positive = Annotated[int, Field(ge=1, lt=2**53)]
Measured = Annotated[float, Field(ge=0, lt=2**53)]
Time = Annotated[str, AfterValidator(_time)]


class Facts(BaseModel):
    """Facts that know their keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Part(Facts):
    """A mapping of known keys whose values are of exactly their types."""

    model_config = ConfigDict(strict=True)
