"""The grid that was published with the article: its results file, read strictly.

The file has one block per configuration: a line of 48 dashes, eleven ``key: value`` lines in a
fixed order, three accuracies in percent with two decimals, and a line of dashes. Windows line ends
and a byte-order mark are accepted; anything else that the author's script would not have written is
refused with its line, and then nothing is imported.
"""

import hashlib
import re
from collections.abc import Container
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from lora_replication.errors import DataError
from lora_replication.grid.space import cell_name
from lora_replication.study import ARTICLE_REVIEWS, TARGETS, LoraParams, Target

ALPHAS = (1, 4, 8, 16, 32, 64)
RANKS = (1, 2, 4, 8, 16, 32)
LARGEST_BYTES = 4_000_000
"""A whole file has about 180,000 bytes."""

RULE = "-" * 48
SWITCH = r"True|False"
NUMBER = r"0|[1-9]\d{0,3}"
PERCENT = r"(?:100|[1-9]?\d)\.\d\d"
LINES = (
    ("lora_r: ", NUMBER, ""),
    ("lora_alpha: ", NUMBER, ""),
    *((f"lora_{target}: ", SWITCH, "") for target in TARGETS),
    ("device: ", NUMBER, ""),
    ("verbose: ", SWITCH, ""),
    ("Train acc: ", PERCENT, "%"),
    ("Val acc:   ", PERCENT, "%"),
    ("Test acc:  ", PERCENT, "%"),
)
"""The lines between two rules: what stands before the value, the value, what stands after it."""

ONE_CLASS = ((49.86, 50.84, 50.06), (50.14, 49.16, 49.94))
"""Train, validation and test accuracy in percent of a run that always answers 0, and of one that
always answers 1.
"""


@dataclass(frozen=True)
class PublishedCell:
    """One run of the published grid.

    Attributes:
        rank, alpha, targets: the configuration; alpha is not divided by the rank.
        device: number of the GPU it ran on.
        verbose: whether the run printed its progress.
        train_percent, val_percent, test_percent: accuracy of the best epoch by validation, in
            percent with two decimals.
    """

    rank: int
    alpha: int
    targets: tuple[Target, ...]
    device: int
    verbose: bool
    train_percent: float
    val_percent: float
    test_percent: float

    @property
    def name(self) -> str:
        """As this project names configurations: ``r8-a1-query-value-mlp``."""
        return cell_name(LoraParams(rank=self.rank, alpha=self.alpha, targets=self.targets))

    @property
    def val_correct(self) -> int:
        """Validation reviews answered rightly, of 5,000; exact, as two decimals of a percentage
        tell it.
        """
        return round(self.val_percent * ARTICLE_REVIEWS["val"] / 100)

    @property
    def test_correct(self) -> int:
        """Test reviews answered rightly, of 10,000; exact."""
        return round(self.test_percent * ARTICLE_REVIEWS["test"] / 100)

    @property
    def one_class(self) -> bool:
        """Whether its three accuracies are those of answering one class for every review."""
        return (self.train_percent, self.val_percent, self.test_percent) in ONE_CLASS

    def lines(self) -> list[str]:
        """The block as the author's script writes it."""
        values = (
            str(self.rank),
            str(self.alpha),
            *(str(target in self.targets) for target in TARGETS),
            str(self.device),
            str(self.verbose),
            *(
                f"{percent:.2f}"
                for percent in (self.train_percent, self.val_percent, self.test_percent)
            ),
        )
        return [
            RULE,
            *(
                f"{before}{value}{after}"
                for (before, _, after), value in zip(LINES, values, strict=True)
            ),
            RULE,
        ]


@dataclass(frozen=True)
class PublishedGrid:
    """A whole results file.

    Attributes:
        cells: its runs, in the file's order.
        missing: names of the article's configurations that it lacks, in the article's loop order.
        sha256: of the file.
    """

    cells: tuple[PublishedCell, ...]
    missing: tuple[str, ...]
    sha256: str


def article_space() -> list[LoraParams]:
    """The article's 576 configurations in its loop order."""
    switches = product((False, True), repeat=4)
    optional: tuple[Target, ...] = ("key", "projection", "mlp", "head")
    choices = [
        ("query", "value", *(name for name, on in zip(optional, each, strict=True) if on))
        for each in switches
    ]
    return [
        LoraParams(rank=rank, alpha=alpha, targets=targets)
        for alpha, rank, targets in product(ALPHAS, RANKS, choices)
    ]


def read_published_grid(file: Path) -> PublishedGrid:
    """Read the author's results ``file``.

    Raises:
        DataError: the file can't be read, or some line is not as the author's script writes it;
            nothing is imported then.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_BYTES + 1)
    except OSError as problem:
        raise DataError(
            f"{file}: can't be read ({problem.strerror}); name the results file published with the article"
        ) from None
    return parse_published_grid(content, str(file))


def parse_published_grid(content: bytes, name: str = "results") -> PublishedGrid:
    """Turn the bytes of a results file into its runs; ``name`` stands in messages.

    Raises:
        DataError: with line and reason.
    """
    if len(content) > LARGEST_BYTES:
        raise DataError(
            f"{name}: has more than {LARGEST_BYTES:,} bytes; a results file has about 180,000; nothing was imported"
        )
    lines = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    if not lines:
        raise DataError(f"{name}: is empty; nothing was imported")
    height = len(LINES) + 2
    known = _article_names()
    seen: dict[str, int] = {}
    cells = []
    for start in range(0, len(lines), height):
        cell = _block(lines[start : start + height], start, name)
        _once(cell, known, seen, start, name)
        cells.append(cell)
    missing = tuple(label for label in known if label not in seen)
    return PublishedGrid(tuple(cells), missing, hashlib.sha256(content).hexdigest())


@cache
def _article_names() -> dict[str, LoraParams]:
    return {cell_name(lora): lora for lora in article_space()}


def _once(
    cell: PublishedCell, known: Container[str], seen: dict[str, int], start: int, name: str
) -> None:
    if cell.name not in known:
        raise _refused(
            name, start + 1, f"configuration {cell.name} is not one of the article's 576"
        )
    if cell.name in seen:
        raise _refused(
            name,
            start + 1,
            f"configuration {cell.name} stands twice, first from line {seen[cell.name]}",
        )
    seen[cell.name] = start + 1


def _block(lines: list[bytes], start: int, name: str) -> PublishedCell:
    """The run that the ``lines`` from line ``start`` + 1 tell of."""
    expected = [(RULE, "", ""), *LINES, (RULE, "", "")]
    values = []
    for place, (before, value, after) in enumerate(expected):
        number = start + place + 1
        if place == len(lines):
            raise _refused(
                name,
                number,
                f"the file ends in the middle of a block; expected {_shape(before, value, after)}",
            )
        found = re.fullmatch(
            f"{re.escape(before)}({value}){re.escape(after)}".encode("ascii"), lines[place]
        )
        if found is None:
            raise _refused(
                name, number, f"{_shown(lines[place])} is not {_shape(before, value, after)}"
            )
        values.append(found[1].decode("ascii"))
    cell = _cell(values[1:-1])
    _check_percentages(cell, start, name)
    return cell


def _cell(values: list[str]) -> PublishedCell:
    rank, alpha, *rest = values
    switches, (device, verbose, train, val, test) = rest[: len(TARGETS)], rest[len(TARGETS) :]
    targets = tuple(
        target for target, switch in zip(TARGETS, switches, strict=True) if switch == "True"
    )
    return PublishedCell(
        int(rank),
        int(alpha),
        targets,
        int(device),
        verbose == "True",
        float(train),
        float(val),
        float(test),
    )


def _check_percentages(cell: PublishedCell, start: int, name: str) -> None:
    for place, percent in enumerate(
        (cell.train_percent, cell.val_percent, cell.test_percent), start=len(LINES) - 1
    ):
        if percent > 100:
            raise _refused(name, start + place, f"an accuracy of {percent} %; allowed: 0 to 100")
    if round(cell.val_percent * 100) % 2:
        raise _refused(
            name,
            start + len(LINES),
            f"{cell.val_percent:.2f} % is no whole number of {ARTICLE_REVIEWS['val']:,} reviews",
        )


def _shape(before: str, value: str, after: str) -> str:
    words = {
        SWITCH: "True or False",
        NUMBER: "a whole number",
        PERCENT: "a percentage with two decimals",
        "": "",
    }
    return f"“{before}{words[value]}{after}”" if value else "a line of 48 dashes"


def _shown(line: bytes) -> str:
    text = repr(line[:60])[1:]
    return text + ("..." if len(line) > 60 else "")


def _refused(name: str, line: int, reason: str) -> DataError:
    return DataError(f"{name}: line {line}: {reason}; nothing was imported")
