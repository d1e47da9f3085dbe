"""The plugin of `make test-faults`: brings the figures in docs/reliability.md up to date, and shows
them.

A test says with ``@pytest.mark.fault(n)`` which faults it shows to be survived; a fault is survived
where at least one test of it passed and none failed. ``@pytest.mark.goal(name, case)`` is for a
case of a goal, counted once however many tests it has; without ``case`` the test is one. The table
holds no times, so that it changes with the results alone.
"""

import re
from collections import Counter, defaultdict
from pathlib import Path

import pytest

RELIABILITY = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
ROW = re.compile(r"^(\| (\d+) \|.*\|) [^|]+ \|$", re.MULTILINE)
"""A fault in the table; its last cell says what its tests did, and is empty where it has none."""

GOALS = {
    "bad input": "bad inputs refused (goal: 30)",
    "determinism": "reruns equal to the bit (goal: 10)",
    "resume": "interruptions resumed to the bit (goal: 24)",
    "property": "properties held (goal: 12)",
}
"""How many cases of each goal must pass, in words."""

START, END = "<!-- figures of the suite: start -->\n", "<!-- figures of the suite: end -->\n"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", type=Path, help="the file whose table is brought up to date")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let the reports tell what the test is for, also those that come from another process."""
    for mark in item.iter_markers("fault"):
        item.user_properties += [("fault", number) for number in mark.args]
    for mark in item.iter_markers("goal"):
        name, *case = mark.args
        item.user_properties.append(("goal", (name, *(case or [item.nodeid]))))


def tally(reports: list[pytest.TestReport]) -> dict[tuple[str, object], Counter]:
    """How many tests of each fault and goal passed, failed or were skipped."""
    outcomes: dict[str, tuple[str, list]] = {}
    for report in reports:
        if report.when == "call" or report.outcome != "passed":
            outcomes[report.nodeid] = (report.outcome, report.user_properties)
    counts: dict[tuple[str, object], Counter] = defaultdict(Counter)
    for outcome, properties in outcomes.values():
        for kind, value in set(properties):
            counts[kind, value][outcome] += 1
    return counts


def figures(table: str, counts: dict[tuple[str, object], Counter]) -> str:
    """``table`` in Markdown with these counts: a line of totals, and a row for each fault."""
    met = {what for what, count in counts.items() if count["passed"] and not count["failed"]}
    faults = [int(number) for _, number in ROW.findall(table)]
    totals = [f"{sum(('fault', n) in met for n in faults)} of {len(faults)} faults survived"]
    for name, wanted in GOALS.items():
        totals.append(f"{sum(kind == 'goal' and goal[0] == name for kind, goal in met)} {wanted}")

    def counted(row: re.Match) -> str:
        count = counts["fault", int(row[2])]
        shown = [f"{count[end]} {end}" for end in ("passed", "failed", "skipped") if count[end]]
        return f"{row[1]} {', '.join(shown) or 'not shown yet'} |"

    return f"{'; '.join(totals)}.\n\n{ROW.sub(counted, table[table.index('| # |') :])}"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    every = [report for some in terminalreporter.stats.values() for report in some]
    reports = [report for report in every if isinstance(report, pytest.TestReport)]
    head, _, rest = RELIABILITY.read_text("utf-8").partition(START)
    table, _, rest = rest.partition(END)
    table = figures(table, tally(reports))
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write(table)
    if file := config.getoption("--reliability"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(head + START + table + END + rest, "utf-8")
