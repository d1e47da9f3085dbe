"""The grid that was published with the article: its results file, read strictly.

The file has one block per configuration: a line of 48 dashes, eleven ``key: value`` lines in a
fixed order, three accuracies in percent with two decimals, and a line of dashes. Windows line ends
and a byte-order mark are accepted; anything else that the author's script would not have written is
refused with its line, and then nothing is imported.
"""

import hashlib
import re
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
"""The lines between two rules: what is before the value, the value, what is after it."""

ONE_CLASS = ((49.86, 50.84, 50.06), (50.14, 49.16, 49.94))
"""Train, validation and test accuracy in percent of always predicting 0, and always 1."""


@dataclass(frozen=True)
class PublishedCell:
    """One run of the published grid.

    Attributes:
        rank, alpha, targets: the configuration; alpha is not divided by the rank.
        train_percent, val_percent, test_percent: accuracy of the best epoch by validation, in
            percent with two decimals.
    """

    rank: int
    alpha: int
    targets: tuple[Target, ...]
    train_percent: float
    val_percent: float
    test_percent: float

    @property
    def name(self) -> str:
        """As this project names configurations: ``r8-a1-query-value-mlp``."""
        return cell_name(LoraParams(rank=self.rank, alpha=self.alpha, targets=self.targets))

    @property
    def val_correct(self) -> int:
        """Right validation answers of 5,000: exact, as a percentage has two decimals."""
        return round(self.val_percent * ARTICLE_REVIEWS["val"] / 100)

    @property
    def test_correct(self) -> int:
        """Right test answers of 10,000, exact."""
        return round(self.test_percent * ARTICLE_REVIEWS["test"] / 100)

    @property
    def one_class(self) -> bool:
        """Whether its three accuracies are those of predicting a single class (collapsed)."""
        return self.percents in ONE_CLASS

    @property
    def percents(self) -> tuple[float, float, float]:
        """Train, validation and test accuracy."""
        return self.train_percent, self.val_percent, self.test_percent


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
            f"{file}: can't be read ({problem.strerror}); "
            "name the results file published with the article"
        ) from None
    return parse_published_grid(content, str(file))


def parse_published_grid(content: bytes, name: str = "results") -> PublishedGrid:
    """Turn the bytes of a results file into its runs; ``name`` stands in messages.

    Raises:
        DataError: with line and reason.
    """
    if len(content) > LARGEST_BYTES:
        raise DataError(
            f"{name}: has more than {LARGEST_BYTES:,} bytes; "
            "a results file has about 180,000; nothing was imported"
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
        if cell.name not in known:
            reason = f"configuration {cell.name} is not one of the article's 576"
            raise _refused(name, start + 1, reason)
        if cell.name in seen:
            reason = f"configuration {cell.name} is there twice, first from line {seen[cell.name]}"
            raise _refused(name, start + 1, reason)
        seen[cell.name] = start + 1
        cells.append(cell)
    missing = tuple(label for label in known if label not in seen)
    return PublishedGrid(tuple(cells), missing, hashlib.sha256(content).hexdigest())


@cache
def _article_names() -> tuple[str, ...]:
    return tuple(cell_name(lora) for lora in article_space())


def _block(lines: list[bytes], start: int, name: str) -> PublishedCell:
    """The run in the ``lines`` from line ``start`` + 1."""
    values = []
    for place, line in enumerate([(RULE, "", ""), *LINES, (RULE, "", "")]):
        number = start + place + 1
        if place == len(lines):
            reason = f"the file ends in the middle of a block; expected {_shape(*line)}"
            raise _refused(name, number, reason)
        before, value, after = line
        pattern = f"{re.escape(before)}({value}){re.escape(after)}".encode("ascii")
        found = re.fullmatch(pattern, lines[place])
        if found is None:
            text = repr(lines[place][:60])[1:] + ("..." if len(lines[place]) > 60 else "")
            raise _refused(name, number, f"{text} is not {_shape(*line)}")
        values.append(found[1].decode("ascii"))
    cell = _cell(values[1:-1])
    for number, percent in enumerate(cell.percents, start=start + len(LINES) - 1):
        if percent > 100:
            raise _refused(name, number, f"an accuracy of {percent} %; allowed: 0 to 100")
    if round(cell.val_percent * 100) % 2:
        reason = (
            f"{cell.val_percent:.2f} % is no whole number of {ARTICLE_REVIEWS['val']:,} reviews"
        )
        raise _refused(name, start + len(LINES), reason)
    return cell


def _cell(values: list[str]) -> PublishedCell:
    rank, alpha, *rest = values
    switches, (_device, _verbose, *percents) = rest[: len(TARGETS)], rest[len(TARGETS) :]
    chosen = zip(TARGETS, switches, strict=True)
    targets = tuple(target for target, switch in chosen if switch == "True")
    return PublishedCell(int(rank), int(alpha), targets, *map(float, percents))


def _shape(before: str, value: str, after: str) -> str:
    words = {
        SWITCH: "True or False",
        NUMBER: "a whole number",
        PERCENT: "a percentage with two decimals",
        "": "",
    }
    return f"“{before}{words[value]}{after}”" if value else "a line of 48 dashes"


def _refused(name: str, line: int, reason: str) -> DataError:
    return DataError(f"{name}: line {line}: {reason}; nothing was imported")
