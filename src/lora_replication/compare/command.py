"""``lora-replication compare``: what is compared, and how it is told."""

import textwrap
from pathlib import Path
from typing import Any

from lora_replication.compare.decision import Decision, Pairs, Rule, decide
from lora_replication.compare.foreign import is_foreign, read_foreign
from lora_replication.compare.sides import Side, read_side
from lora_replication.errors import ParameterError
from lora_replication.files import write_whole
from lora_replication.report.results import Part
from lora_replication.report.tables import Column, table
from lora_replication.report.verdicts import FEWEST, FEWEST_REVIEWS
from lora_replication.report.words import count, level, p_value, percent, signed, signed_ends
from lora_replication.study import Study

WIDTH = 80

WHY = {
    "few_runs": f"a word needs {FEWEST} pairs of runs",
    "few_reviews": f"a word needs {FEWEST_REVIEWS} test reviews, or movies",
    "alike": "all pairs of runs differ equally, which says nothing of other seeds",
    "diverged": "the word would be another one with diverged runs counted as 50 % right",
    "open": "neither a difference nor that it is within the margin is shown",
}
SAID = {
    "better": "{1} is better than {0}",
    "worse": "{1} is worse than {0}",
    "as good": "{1} is as good as {0}",
    "undecided": "undecided whether {1} or {0} is better",
}


class Compared(Part):
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


def compare_recorded(
    first: str, second: str, study: str, margin: float | None, root: Path
) -> Compared:
    """Compare what is recorded of two sides, see ``read_side`` and ``Pairs.of``.

    Args:
        study: of a side that names none.
        margin: percentage points within which the sides are as good; None for that of the first
            side's study.

    Raises:
        ParameterError: a side or the margin is not allowed.
        DataError: of a side.
    """
    one, two = (any_side(words, study, root) for words in (first, second))
    pairs = Pairs.of(one, two)
    rule = rule_of(one.study, margin, (len(pairs.runs),))
    return compared(one, two, rule, decide(pairs, rule), rule.looks)


def any_side(words: str, study: str, root: Path) -> Side:
    """Of a folder of foreign predictions, or else as ``read_side`` says."""
    if is_foreign(folder := Path(words)):
        return read_foreign(folder, root)
    return read_side(words, study, root)


def rule_of(study: Study, margin: float | None, looks: tuple[int, ...]) -> Rule:
    """As ``study`` has it, with this ``margin`` in points. Raises ``ParameterError``."""
    report = study.report
    points = report.sameness_margin if margin is None else margin
    if not 0 < points <= 100:
        raise ParameterError(f"--margin is {points:g}; allowed: points, above 0, at most 100")
    return Rule(points / 100, report.confidence, report.power, looks)


def compared(
    one: Side, two: Side, rule: Rule, decision: Decision, looked: tuple[int, ...]
) -> Compared:
    """The comparison of these sides, with its decision."""
    sides = (one, two)
    facts: dict[str, Any] = {
        "names": tuple(side.name for side in sides),
        "studies": tuple(side.study.study for side in sides),
        "titles": tuple(side.study.title for side in sides),
        "seeds": tuple(sorted(side.answers) for side in sides),
        "diverged": tuple(sum(a is None for a in side.answers.values()) for side in sides),
        "accuracies": tuple(side.accuracy for side in sides),
    }
    return Compared(**facts, rule=rule, decision=decision, looked=looked)


def terminal_text(found: Compared) -> str:
    """A line a side, and what is decided."""
    decision, width = found.decision, max(map(len, found.names))
    lines = [*dict.fromkeys(found.titles), f"{'':{width}}  Runs    Test"]
    sides = zip(found.names, found.seeds, found.diverged, found.accuracies, strict=True)
    for name, seeds, gone, accuracy in sides:
        note = f"  ({gone} diverged)" if gone else ""
        lines.append(f"{name:{width}}  {len(seeds):4}  {percent(accuracy):>6}{note}")
    movies = f" of {count(decision.clusters)} movies" * (decision.clusters < decision.reviews)
    reviews = f"Test accuracy in percent, {count(decision.reviews)} reviews{movies}."
    words = [reviews, sentence(found), stopping_rule(found)]
    return "\n".join([*lines, *(textwrap.fill(one, WIDTH) for one in words if one)])


def sentence(found: Compared) -> str:
    """What is decided, and why or why not, in words."""
    decision, rule = found.decision, found.rule
    parts = [SAID[decision.word].format(*found.names)]
    margin = f"{100 * rule.margin:g} points"
    if decision.word == "undecided":
        parts[0] += f", as {WHY[decision.why]}"
    if decision.difference:
        source = decision.difference.source.partition(", n =")[0]
        parts.append(
            f"difference {signed(decision.difference.estimate)} points "
            f"({signed_ends(decision.difference)}, {level(rule.confidence)} for new {source}), "
            f"p {p_value(decision.p_difference)}, runs in pairs: {decision.seeds}"
        )
    parts.append(f"as good means within {margin}")
    if decision.why == "open":
        needed = decision.seeds_needed
        parts.append(
            f"{needed:,} seeds would decide with a chance of {level(rule.power)}"
            if needed
            else "no number of seeds would decide on so few reviews; a wider --margin may"
        )
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def stopping_rule(found: Compared) -> str:
    """When it was looked and by which rule; empty where once."""
    if len(found.rule.looks) < 2:
        return ""
    looks = ", ".join(map(str, found.looked))
    return (
        f"Looked at {looks} of at most {found.rule.looks[-1]} seeds; all looks together have a "
        f"chance of at most {level(1 - found.rule.confidence)} of a false word (O'Brien and "
        "Fleming's bounds), unless the numbers of seeds or the margin are changed after a look."
    )


def write_page(found: Compared, file: Path) -> None:
    """Write the page ``file``, and ``found`` as JSON next to it.

    Raises:
        ParameterError: its name does not end in ``.html``.
        EnvironmentProblem: a file can't be written.
    """
    from lora_replication.report.rendering import page  # matplotlib takes a second

    if file.suffix != ".html":
        raise ParameterError(f"--page is {file}; allowed: a name that ends in .html")
    columns = [Column("Method", "name", left=True), Column("Study", "study", left=True),
               Column("Runs", "runs"), Column("Diverged", "gone"),
               Column("Test", "accuracy", percent)]  # fmt: skip
    sides = zip(
        found.names, found.titles, found.seeds, found.diverged, found.accuracies, strict=True
    )
    rows = [
        {"name": name, "study": title, "runs": len(seeds), "gone": gone, "accuracy": accuracy}
        for name, title, seeds, gone, accuracy in sides
    ]
    numbers = file.with_suffix(".json")
    facts: dict[str, Any] = {
        "title": f"{found.names[1]} compared with {found.names[0]}",
        "subtitle": "; ".join(dict.fromkeys(found.titles)),
        "description": sentence(found),
        "texts": [*filter(None, [sentence(found), stopping_rule(found)])],
        "tables": {"sides": table(columns, rows)},
        "files": [numbers.name],
    }
    write_whole(file, page("compare.j2", {}, **facts))
    write_whole(numbers, found.model_dump_json(indent=1).encode() + b"\n")
