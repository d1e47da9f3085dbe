"""The report's tables of methods against each other and of methods on kinds of test reviews."""

from lora_replication.report.comparisons import Comparison, Slices, Views
from lora_replication.report.summary import Summary
from lora_replication.report.tables import Cell, Table
from lora_replication.report.wording import (
    ABSENT,
    ends,
    level,
    of,
    percent,
    remark,
    signed,
    signed_ends,
)
from lora_replication.statistics import Interval
from lora_replication.study import Study


def comparison_table(summary: Summary, views: Views) -> Table:
    """Every two methods: the paired difference over seeds, the two-level bootstrap, exact tests per
    seed, what could be found.
    """
    report = summary.study.report
    confidence = level(report.confidence)
    return Table(
        name="comparisons",
        caption=(
            f"Test accuracy of the second method less that of the first, in points, on the same seeds and reviews. Seeds: {confidence} "
            "paired t interval, p and below it p after Holm's correction over this table. Seeds and reviews: two-level bootstrap, "
            f"{report.bootstrap_draws:,} draws, a second view that is too narrow with few seeds; below it with reviews drawn movie by "
            f"movie. McNemar: seeds whose exact p is below {1 - report.confidence:.2g}, uncorrected. Smallest: difference that these "
            f"seeds, and one pair of runs on these reviews, would find with a chance of {level(report.power)}. {remark(summary.study)}"
        ).strip(),
        columns=(
            "Methods",
            "Difference",
            "Seeds",
            "p",
            "Seeds and reviews",
            "McNemar",
            "Smallest, seeds",
            "Smallest, reviews",
        ),
        rows=tuple(_comparison_row(pair, summary.study) for pair in views.comparisons),
        left=frozenset({0}),
    )


def _comparison_row(pair: Comparison, study: Study) -> tuple[Cell, ...]:
    found = sum(test.p_value < 1 - study.report.confidence for test in pair.mcnemar)
    p, p_holm = pair.paired.p_value, pair.p_holm
    return (
        Cell(f"{pair.second} less {pair.first}"),
        Cell(signed(pair.paired.difference.estimate)),
        Cell(
            signed_ends(pair.paired.difference),
            f"n = {of(len(pair.seeds), len(study.run.seeds))} seeds",
        ),
        Cell(ABSENT if p is None else f"{p:.3g}", "" if p_holm is None else f"Holm {p_holm:.3g}"),
        Cell(
            signed_ends(pair.both),
            f"by movie {signed_ends(pair.both_by_movie)}" if pair.both_by_movie else "",
        ),
        Cell(f"{found} of {len(pair.mcnemar)}" if pair.mcnemar else ABSENT),
        Cell(percent(pair.smallest_by_seeds)),
        Cell(percent(pair.smallest_by_reviews)),
    )


def slices_table(summary: Summary, views: Views) -> Table:
    """Each method on kinds of test reviews, with the interval clustered by movie beside the plain
    one.
    """
    confidence = level(summary.study.report.confidence)
    return Table(
        name="slices",
        caption=(
            f"Mean test accuracy in percent over runs, on kinds of test reviews, with {confidence} intervals over reviews: Wilson; by "
            "movie, where all reviews of a movie are taken together (a t interval, cut to 0 to 100); and the two-level bootstrap over "
            "runs and reviews. Unseen movies: no "
            f"training review is of the same movie. Texts not repeated: they stand nowhere else in the study. {remark(summary.study)}"
        ).strip(),
        columns=(
            "Method",
            "All test reviews",
            "By movie",
            "Runs and reviews",
            "Unseen movies",
            "Texts not repeated",
        ),
        rows=tuple(_slices_row(slices) for slices in views.slices),
        left=frozenset({0}),
    )


def _slices_row(slices: Slices) -> tuple[Cell, ...]:
    return (
        Cell(slices.name, f"{slices.runs} run{'s' if slices.runs > 1 else ''}"),
        _interval(slices.plain),
        Cell(
            ends(slices.by_movie),
            slices.by_movie.source.removeprefix("test sampling, ")
            if slices.by_movie
            else "movies unknown",
        ),
        Cell(ends(slices.both)),
        _interval(slices.unseen_movies),
        _interval(slices.unique_texts),
    )


def _interval(interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(ABSENT, "none, or unknown")
    return Cell(percent(interval.estimate), f"{ends(interval)}, n = {interval.n:,}")


def predictions_statement(missing: int) -> tuple[str, ...]:
    """That some runs have no predictions; empty where all have."""
    runs = "one run has" if missing == 1 else f"{missing:,} runs have"
    return (
        (f"Without predictions, and therefore not in the review-by-review columns: {runs} none.",)
        if missing
        else ()
    )
