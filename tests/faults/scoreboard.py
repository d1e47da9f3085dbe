"""The plugin of `make test-faults`: which faults were survived, which goals were met, as a table
here and in docs/reliability.md.

A test says with ``@pytest.mark.fault(n)`` which faults it shows to be survived; a fault is survived
where at least one test of it passed and none failed. ``@pytest.mark.goal(name, case)`` is for a
case of a goal, counted once however many tests it has; without ``case`` the test is one. The table
holds no times, so that it changes with the results alone.
"""

from collections import Counter, defaultdict
from pathlib import Path

import pytest

FAULTS = {
    1: (
        "SIGKILL in mid-training",
        "the next start continues from the last whole epoch, to the same bits",
    ),
    2: ("SIGKILL in mid-checkpoint", "the old checkpoint or the new one stands, never half of one"),
    3: ("SIGKILL in mid-grid", "finished configurations stay, the others run, none twice"),
    4: ("Ctrl-C", "ends within 10 s with 130; what is finished stays"),
    5: (
        "SIGTERM",
        "the same with 143; the tracked run is closed as killed; no process stays behind",
    ),
    6: (
        "DVC killed, its stage left alone",
        "the stage ends, or a second start is refused with its PID, 4; afterwards the study completes",
    ),
    7: ("disk full", "names the file and the bytes, 4; earlier files stay as they were"),
    8: ("read-only folder", "named before any training, 4"),
    9: ("no tracking server", "one warning, at most 30 s a run; training goes on, 0"),
    10: (
        "the tracking server dies in mid-run",
        "the same; after `sync` nothing is lost or doubled",
    ),
    11: (
        "two processes, one SQLite tracking database",
        "every run and value arrives, none is locked out",
    ),
    12: ("two workers, one configuration", "one whole record, the first"),
    13: ("several processes prepare the data", "one does, the others are refused with its PID, 4"),
    14: (
        "no hub",
        "the pinned local copy serves; else repository, revision and the way out within 30 s, 4",
    ),
    15: ("wrong, damaged or cut archive", "sha256 comes before reading; the file is left alone, 3"),
    16: ("reviews missing in an unpacked folder", "counted, 3"),
    18: ("odd texts", "survive to the byte, or file and place are named, 3"),
    19: ("repeated and contradicting reviews", "counted and told; left in, as in the article"),
    20: ("altered data, same size and time", "found by sha256 at the next read, file named, 3"),
    21: (
        "bad parameters",
        "all told at once: file, line, key, value, what is allowed; 2; nothing on disk changes",
    ),
    22: ("misspelt keys", "told with the right one, 2"),
    23: (
        "a diverging run",
        "recorded as diverged with its first bad step, without accuracies; a result, 0",
    ),
    24: ("a run that predicts a single class", "kept, flagged, counted in the report"),
    25: ("out of memory", "recorded as failed with batch size; no smaller batch is taken silently"),
    26: (
        "a configuration fails",
        "the others go on; 5 with its name; the next start tries it alone",
    ),
    27: ("a configuration hangs", "stopped with its children, recorded as timeout"),
    28: ("a worker or node is lost", "its configurations run elsewhere, counted once"),
    29: ("missing or doubled records", "the report counts and names them; 5"),
    30: ("records of other parameters, data or code", "left unread and counted"),
    31: ("dvc.lock cut or badly merged", "named with the way out; nothing is trained again"),
    32: ("two starts of one study", "the second is refused with the PID; the first is unharmed"),
    33: (
        "wrong clock, another time zone",
        "durations stay positive, stamps are UTC, results the same",
    ),
    34: ("spaces and accents in the path", "everything passes"),
    35: ("no git, changes, detached HEAD", "runs, and records which"),
    36: ("no GPU where one is asked for", "named with the CPU as the way out, 4"),
    37: ("pickled weights", "never loaded; refused by name, 3"),
    38: ("wrong weights", "sha256, names and shapes are told, 3"),
    39: ("code next to an encoder", "never run"),
    40: ("markup and formulas in texts", "inert in HTML, Markdown, LaTeX and CSV"),
    41: ("hostile results file", "line and reason, nothing imported, 3"),
    42: ("secrets in the environment", "in no file and no output"),
}
"""What goes wrong, and what happens then; numbers at the end are exit codes."""

WITHDRAWN = {
    17: (
        "archive with hostile members, bomb",
        "withdrawn: the pinned sha256 is checked before a byte is unpacked (row 15)",
    )
}
"""Rows of earlier editions that nothing can reach any more."""

GOALS = {
    "bad input": "30 bad inputs refused",
    "determinism": "10 reruns equal to the bit",
    "resume": "24 interruptions resumed to the bit",
    "property": "12 or more properties held",
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


def figures(counts: dict[tuple[str, object], Counter]) -> str:
    """The table in Markdown."""
    met = {what for what, count in counts.items() if count["passed"] and not count["failed"]}
    totals = [
        f"{sum(('fault', number) in met for number in FAULTS)} of {len(FAULTS)} faults survived"
    ]
    totals += [
        f"{sum(kind == 'goal' and value[0] == name for kind, value in met)} of {wanted}"
        for name, wanted in GOALS.items()
    ]
    lines = [
        f"{'; '.join(totals)}.",
        "",
        "| # | fault | what happens | tests |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {number} | {fault} | {then} | {_result(counts['fault', number])} |"
        for number, (fault, then) in FAULTS.items()
    ]
    lines += [f"| {number} | {fault} | {why} | |" for number, (fault, why) in WITHDRAWN.items()]
    return "\n".join(lines) + "\n"


def _result(count: Counter) -> str:
    told = [
        f"{count[outcome]} {outcome}"
        for outcome in ("passed", "failed", "skipped")
        if count[outcome]
    ]
    return ", ".join(told) or "not shown yet"


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    reports = [
        report
        for some in terminalreporter.stats.values()
        for report in some
        if isinstance(report, pytest.TestReport)
    ]
    table = figures(tally(reports))
    terminalreporter.write_sep("=", "faults")
    terminalreporter.write(table)
    if file := config.getoption("--reliability"):
        file.parent.mkdir(parents=True, exist_ok=True)
        head, _, rest = (file.read_text("utf-8") if file.exists() else "").partition(START)
        file.write_text(head + START + table + END + rest.partition(END)[2], "utf-8")
