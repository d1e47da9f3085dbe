"""``lora-replication compare``: what is compared, and how it is told."""

import textwrap
from pathlib import Path
from typing import Any, Self

from lora_replication.allowed import Facts
from lora_replication.compare.decision import Decision, Pairs, Rule, decide
from lora_replication.compare.foreign import is_foreign, read_foreign
from lora_replication.compare.sides import Side, read_side
from lora_replication.errors import ParameterError
from lora_replication.files import write_whole
from lora_replication.report.tables import TERMINAL_WIDTH, aligned, columns, short_table, table
from lora_replication.report.words import say
from lora_replication.study import Study


class Compared(Facts):
    """A comparison; fractions are from 0 to 1, and the difference is the second minus the first.

    Attributes:
        names, studies, titles: of both sides, and of their studies.
        seeds: of their runs; ``diverged``: how many of these; ``accuracies``: on test, mean over
            the others.
        rule, decision: see there; ``looked``: numbers of seeds at which it was.
    """

    names: tuple[str, str]
    studies: tuple[str, str]
    titles: tuple[str, str]
    seeds: tuple[list[int], list[int]]
    diverged: tuple[int, int]
    accuracies: tuple[float | None, float | None]
    rule: Rule
    decision: Decision
    looked: tuple[int, ...]

    @classmethod
    def of(cls, sides: tuple[Side, Side], rule: Rule, decision: Decision, looks: int = 1) -> Self:
        """The comparison of ``sides``, decided after so many looks."""
        facts: dict[str, Any] = {
            "names": tuple(side.name for side in sides),
            "studies": tuple(side.study.study for side in sides),
            "titles": tuple(side.study.title for side in sides),
            "seeds": tuple(sorted(side.answers) for side in sides),
            "diverged": tuple(sum(a is None for a in side.answers.values()) for side in sides),
            "accuracies": tuple(side.accuracy for side in sides),
        }
        return cls(**facts, rule=rule, decision=decision, looked=rule.looks[:looks])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What each side's row of the table is about."""
        names = ("name", "study", "runs", "diverged", "accuracy")
        columns = (self.names, self.titles, map(len, self.seeds), self.diverged, self.accuracies)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    @property
    def texts(self) -> list[str]:
        """What is decided and why or why not, and by which stopping rule where there was one."""
        decided = say("compared", self)
        return [decided[:1].upper() + decided[1:], *filter(None, [say("stopping_rule", self)])]


def compare_recorded(
    first: str, second: str, study: str, margin: float | None, root: Path
) -> Compared:
    """Compare what is recorded of two sides: folders of foreign predictions, or as ``read_side``
    says.

    Args:
        study: of a side that names none.
        margin: percentage points within which the sides are as good; None for that of the first
            side's study.

    Raises:
        ParameterError: a side or the margin is not allowed.
        DataError: of a side.
    """
    one, two = (
        read_foreign(Path(words), root)
        if is_foreign(Path(words))
        else read_side(words, study, root)
        for words in (first, second)
    )
    pairs = Pairs.of(one, two)
    rule = rule_of(one.study, margin, (len(pairs.runs),))
    return Compared.of((one, two), rule, decide(pairs, rule))


def rule_of(study: Study, margin: float | None, looks: tuple[int, ...]) -> Rule:
    """As ``study`` has it, with this ``margin`` in points. Raises ``ParameterError``."""
    report = study.report
    points = report.sameness_margin if margin is None else margin
    if not 0 < points <= 100:
        raise ParameterError(f"--margin is {points:g}; allowed: points, above 0, at most 100")
    return Rule(points / 100, report.confidence, report.power, looks)


def terminal_text(found: Compared) -> str:
    """A line a side, and what is decided."""
    rows = [row | {"diverged": row["diverged"] or None} for row in found.rows]
    lines = aligned(short_table(columns(None, "compare.sides"), rows, narrow=False))
    texts = [say("tested", found.decision), *found.texts]
    titles, folded = ([textwrap.fill(text, TERMINAL_WIDTH) for text in each]
                      for each in (dict.fromkeys(found.titles), texts))  # fmt: skip
    return "\n".join([*titles, *lines, *folded])


def write_page(found: Compared, file: Path) -> None:
    """Write the page ``file``, and ``found`` as JSON next to it.

    Raises:
        ParameterError: its name does not end in ``.html``.
        EnvironmentProblem: a file can't be written.
    """
    from lora_replication.report.rendering import page  # matplotlib takes a second

    if file.suffix != ".html":
        raise ParameterError(f"--page is {file}; allowed: a name that ends in .html")
    numbers = file.with_suffix(".json")
    facts: dict[str, Any] = {
        "title": f"Comparison of {found.names[1]} with {found.names[0]}",
        "subtitle": "; ".join(dict.fromkeys(found.titles)),
        "description": found.texts[0],
        "texts": found.texts,
        "tables": {"sides": table(columns(None, "compare.sides"), found.rows)},
        "files": [numbers.name],
    }
    write_whole(file, page("compare.j2", {}, **facts))
    write_whole(numbers, found.model_dump_json(indent=1).encode() + b"\n")
