"""The grid that was published with the article: its results file, read strictly.

The file has one block per configuration: a line of 48 dashes, eleven ``key: value`` lines in a
fixed order, three accuracies in percent with two decimals, and a line of dashes. Windows line ends
and a byte-order mark are accepted, and so are several blocks of one configuration; anything else
that the author's script would not have written is refused with its line, and then nothing is
imported.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from itertools import compress, product
from pathlib import Path

from lora_replication.allowed import TARGETS, Target
from lora_replication.errors import DataError
from lora_replication.files import readable
from lora_replication.grid.space import cell_name
from lora_replication.study import ARTICLE_REVIEWS, LoraParams

SOURCE = "https://lightning.ai/lightning-ai/studios/code-lora-from-scratch"
"""Where its author published the code and with it the file."""

FURTHER_RUNS = {
    "last_layers": (86.92, 86.96, 86.59),
    "lora_default": (91.23, 89.18, 88.28),
    "lora_tuned": (94.99, 92.80, 92.28),
}
"""Single runs that were published besides the file and the article's table, by its methods: train,
validation and test accuracy in percent.
"""

ALPHAS = (1, 4, 8, 16, 32, 64)
RANKS = (1, 2, 4, 8, 16, 32)
LARGEST_BYTES = 4_000_000

RULE = "-" * 48
SWITCH = ("(True|False)", "True or False")
NUMBER = (r"(0|[1-9]\d{0,3})", "a whole number")
PERCENT = (r"(100\.00|[1-9]?\d\.\d\d)%", "a percentage from 0 to 100 with two decimals")
BLOCK = (
    (RULE, ("", "")),
    ("lora_r: ", NUMBER),
    ("lora_alpha: ", NUMBER),
    *((f"lora_{target}: ", SWITCH) for target in TARGETS),
    ("device: ", NUMBER),
    ("verbose: ", SWITCH),
    ("Train acc: ", PERCENT),
    ("Val acc:   ", PERCENT),
    ("Test acc:  ", PERCENT),
    (RULE, ("", "")),
)
"""Its lines: how each begins, the pattern of the rest, and what that is in words."""

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
        cells: the first run of each configuration, in the file's order.
        replicates: later runs of these configurations, with other results.
        repeated: names of configurations of which a result was there once more, and was left out.
        missing: names of the article's configurations that it lacks, in the article's loop order.
        sha256: of the file.
    """

    cells: tuple[PublishedCell, ...]
    replicates: tuple[PublishedCell, ...]
    repeated: tuple[str, ...]
    missing: tuple[str, ...]
    sha256: str


def article_space() -> list[LoraParams]:
    """The article's 576 configurations in its loop order."""
    always = ("query", "value")
    switches = product(*((True,) if name in always else (False, True) for name in TARGETS))
    choices = [tuple(compress(TARGETS, chosen)) for chosen in switches]
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
    remedy = "name the results file published with the article"
    with readable(file, remedy), file.open("rb") as stream:
        content = stream.read(LARGEST_BYTES + 1)
    return parse_published_grid(content, str(file))


def parse_published_grid(content: bytes, name: str = "results") -> PublishedGrid:
    """Turn the bytes of a results file into its runs; ``name`` stands in messages.

    Raises ``DataError`` with line and reason.
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
    known = _article_names()
    first: dict[str, PublishedCell] = {}
    replicates: list[PublishedCell] = []
    repeated = []
    for start in range(0, len(lines), len(BLOCK)):
        cell = _block(lines[start : start + len(BLOCK)], start, name)
        if cell.name not in known:
            reason = f"configuration {cell.name} is not one of the article's 576"
            raise _refused(name, start + 1, reason)
        if first.setdefault(cell.name, cell) is cell:
            continue
        if cell in (first[cell.name], *replicates):
            repeated.append(cell.name)
        else:
            replicates.append(cell)
    missing = tuple(label for label in known if label not in first)
    digest = hashlib.sha256(content).hexdigest()
    cells = tuple(first.values())
    return PublishedGrid(cells, tuple(replicates), tuple(repeated), missing, digest)


@cache
def _article_names() -> tuple[str, ...]:
    return tuple(cell_name(lora) for lora in article_space())


def _block(lines: list[bytes], start: int, name: str) -> PublishedCell:
    """The run in the ``lines`` from line ``start`` + 1."""
    values: list[str] = []
    for place, (before, (pattern, meaning)) in enumerate(BLOCK):
        expected = f"“{before}{meaning}”" if meaning else "a line of 48 dashes"
        if place == len(lines):
            reason = f"the file ends in the middle of a block; expected {expected}"
            raise _refused(name, start + place + 1, reason)
        found = re.fullmatch(f"{re.escape(before)}{pattern}".encode("ascii"), lines[place])
        if found is None:
            text = repr(lines[place][:60])[1:] + ("..." if len(lines[place]) > 60 else "")
            raise _refused(name, start + place + 1, f"{text} is not {expected}")
        values += [value.decode("ascii") for value in found.groups()]
    rank, alpha, *switches, _device, _verbose, train, val, test = values
    if int(val.replace(".", "")) % 2:
        reason = f"{val} % is no whole number of {ARTICLE_REVIEWS['val']:,} reviews"
        raise _refused(name, start + len(BLOCK) - 2, reason)
    targets = tuple(compress(TARGETS, (switch == "True" for switch in switches)))
    return PublishedCell(int(rank), int(alpha), targets, float(train), float(val), float(test))


def _refused(name: str, line: int, reason: str) -> DataError:
    return DataError(f"{name}: line {line}: {reason}; nothing was imported")
