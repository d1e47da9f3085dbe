"""What the report of the published grid says."""

from lora_replication.article import CITATION, SETTING
from lora_replication.article.published_file import ALPHAS, RANKS
from lora_replication.report.content import Content, Section
from lora_replication.report.drawing import Drawing
from lora_replication.report.published.beside import Beside, beside_statement, beside_table
from lora_replication.report.published.summary import (
    COLLAPSE_PERCENT,
    Choice,
    Collapse,
    PublishedSummary,
)
from lora_replication.report.tables import Cell, Table
from lora_replication.report.wording import ABSENT, count, ends, level, percent
from lora_replication.statistics import Interval, RankCorrelation
from lora_replication.study import ARTICLE_REVIEWS

TITLE = "The published grid: what the article's own runs say"


def compose_published(
    summary: PublishedSummary, drawings: dict[str, Drawing], beside: Beside | None = None
) -> Content:
    """The whole report of the published grid."""
    grid = summary.grid
    missing = (
        f" Missing, and nowhere said to be: {', '.join(grid.missing)}." if grid.missing else ""
    )
    asked = len(grid.cells) + len(grid.missing)
    return Content(
        title=TITLE,
        subtitle=f"{len(grid.cells):,} of {asked:,} LoRA configurations of {SETTING}, published with {CITATION}. No run here is ours.",
        warnings=(f"{len(grid.cells):,} of {asked:,} configurations are in the file.{missing}",)
        if grid.missing
        else (),
        sections=(
            Section(
                "findings",
                "What they say",
                tuple(findings(summary)),
                tables=(choices_table(summary),),
            ),
            Section(
                "alpha",
                "Accuracy by alpha and rank",
                figures=(drawings["alpha_by_rank"],),
                tables=(alpha_rank_table(summary),),
            ),
            Section(
                "collapse",
                "Collapse by alpha",
                figures=(drawings["collapse"],),
                tables=(collapse_table(summary),),
            ),
            Section(
                "validation",
                "Validation against test",
                (_agreement(summary),),
                figures=(drawings["validation_against_test"],),
            ),
            *_beside(beside, summary, drawings),
            Section(
                "method",
                "How this was computed",
                _method(summary),
                code=("lora-replication published results.txt",),
            ),
        ),
        files=("results.json", "alpha_by_rank.csv"),
    )


def _beside(
    beside: Beside | None, summary: PublishedSummary, drawings: dict[str, Drawing]
) -> tuple[Section, ...]:
    if beside is None:
        return ()
    table = beside_table(beside, summary.level)
    figure = (drawings["published_beside_ours"],)
    return (
        Section(
            "beside",
            "Our grid beside it",
            tuple(beside_statement(beside)),
            figures=figure,
            tables=(table,) if table.rows else (),
        ),
    )


def findings(summary: PublishedSummary) -> list[str]:
    """The main statements, in sentences."""
    by_rule = {choice.rule.split(" (")[0]: choice for choice in summary.choices}
    found = [_collapse_finding(summary)]
    by_val, on_test = by_rule["best on validation"], by_rule["best on test"]
    found.append(
        f"Choosing on validation picks {by_val.cell.name}: {percent(by_val.val.estimate)} % on validation, "
        f"{percent(by_val.test.estimate)} % on test. Choosing on test would have picked {on_test.cell.name} and quoted "
        f"{percent(on_test.test.estimate)} %, {100 * (on_test.test.estimate - by_val.test.estimate):.2f} points more."
    )
    tuned = by_rule.get("the article's tuned configuration")
    if tuned:
        found.append(
            f"The article's tuned configuration, {tuned.cell.name}, is number {tuned.place_by_val} by validation and number "
            f"{tuned.place_by_test} on test."
        )
    found.append(
        f"{summary.tied_by_val:,} of {len(summary.grid.cells):,} configurations cannot be told from the best on validation "
        f"({ARTICLE_REVIEWS['val']:,} reviews), and {summary.tied_by_test:,} not from the best on test "
        f"({ARTICLE_REVIEWS['test']:,} reviews), the best itself included: one run each does not rank them."
    )
    return found


def _collapse_finding(summary: PublishedSummary) -> str:
    collapsed = sum(row.collapsed for row in summary.collapse)
    safe = [str(row.alpha) for row in summary.collapse if not row.collapsed]
    one_class = sum(row.one_class for row in summary.collapse)
    return (
        f"{collapsed:,} of {len(summary.grid.cells):,} runs end below {COLLAPSE_PERCENT:g} % test accuracy, {one_class:,} of them with "
        f"one answer for every review. With alpha {', '.join(safe) or 'of any size'} {'none' if safe else 'some'} does."
    )


def choices_table(summary: PublishedSummary) -> Table:
    """The configurations that some rule chooses."""
    confidence = level(summary.level)
    return Table(
        name="choices",
        caption=(
            f"What choosing comes to. Accuracy in percent of one unseeded run each, with the {confidence} Wilson interval over reviews "
            f"(validation n = {ARTICLE_REVIEWS['val']:,}, test n = {ARTICLE_REVIEWS['test']:,}), which knows nothing of seeds."
        ),
        columns=(
            "Chosen as",
            "Configuration",
            "Train",
            "Validation",
            "Test",
            "Place by validation",
            "Place on test",
        ),
        rows=tuple(_choice_row(choice) for choice in summary.choices),
        left=frozenset({0, 1}),
    )


def _choice_row(choice: Choice) -> tuple[Cell, ...]:
    return (
        Cell(choice.rule),
        Cell(choice.cell.name),
        Cell(f"{choice.cell.train_percent:.2f}"),
        Cell(percent(choice.val.estimate), ends(choice.val)),
        Cell(percent(choice.test.estimate), ends(choice.test)),
        Cell(count(choice.place_by_val)),
        Cell(count(choice.place_by_test)),
    )


def alpha_rank_table(summary: PublishedSummary) -> Table:
    """Mean test accuracy with its interval, alpha downwards, rank to the right."""
    return Table(
        name="alpha_by_rank",
        caption=(
            "Mean test accuracy in percent over the choices of targets, one unseeded run each, with the "
            f"{level(summary.level)} t interval over them (n runs). Where some runs collapse, the mean is of two kinds of runs."
        ),
        columns=("Alpha", *(f"Rank {rank}" for rank in RANKS)),
        rows=tuple(
            (
                Cell(str(alpha)),
                *(_mean(summary.by_alpha_and_rank.get((alpha, rank))) for rank in RANKS),
            )
            for alpha in ALPHAS
        ),
        left=frozenset(),
    )


def _mean(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(ABSENT)
    return Cell(percent(interval.estimate), f"{ends(interval)}, n = {interval.n}")


def collapse_table(summary: PublishedSummary) -> Table:
    """Collapse by alpha."""
    return Table(
        name="collapse",
        caption=(
            f"Runs that end below {COLLAPSE_PERCENT:g} % test accuracy, with the exact {level(summary.level)} interval of their share in "
            "percent over configurations, and runs that answer one class for every review."
        ),
        columns=("Alpha", "Configurations", "Collapsed", "Share, %", "Interval", "One class"),
        rows=tuple(_collapse_row(row) for row in summary.collapse),
        left=frozenset(),
    )


def _collapse_row(row: Collapse) -> tuple[Cell, ...]:
    return (
        Cell(str(row.alpha)),
        Cell(count(row.configurations)),
        Cell(count(row.collapsed)),
        Cell(percent(row.share.estimate)),
        Cell(ends(row.share)),
        Cell(count(row.one_class)),
    )


def _agreement(summary: PublishedSummary) -> str:
    gap = summary.gap
    lead = (
        f"Over the {summary.live:,} live runs validation is {100 * gap.estimate:+.2f} points from test on average "
        f"({level(gap.level)} t interval {ends(gap)}; {gap.source}). "
        if gap
        else ""
    )
    return (
        f"{lead}Rank correlation of validation and test: {_rho(summary.ranks_live)} over live runs, "
        f"{_rho(summary.ranks_all)} over all; the second is high because collapsed and live runs are far apart, not because validation "
        "ranks the good ones."
    )


def _rho(ranks: RankCorrelation | None) -> str:
    if ranks is None:
        return "none"
    rho = ranks.spearman
    inside = (
        f" ({level(rho.level)} interval {rho.low:.3f} to {rho.high:.3f})"
        if rho.low is not None and rho.high is not None
        else ""
    )
    return f"Spearman {rho.estimate:.3f}{inside}, Kendall {ranks.kendall:.3f}, n = {ranks.n:,}"


def _method(summary: PublishedSummary) -> tuple[str, ...]:
    return (
        "Read from the results file that was published with the article; its rows are its author's and are not repeated here. sha256 of "
        f"the file: {summary.grid.sha256}.",
        "Every configuration ran once and without a seed, so nothing here can tell a configuration's effect from that of its draw of "
        "initial values and order. Intervals over configurations treat the choices of targets as a sample.",
        "“Cannot be told from the best”: two-sided tests of two proportions against the best, with Holm's correction over all of them. The "
        "file has no answers review by review, so the tests take the runs for independent; paired tests would tell some more apart. "
        "The best is chosen by the same numbers, which flatters it.",
    )
