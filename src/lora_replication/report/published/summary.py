"""What the runs of the published grid say: by alpha and rank, collapse, validation against test,
and what choosing comes to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lora_replication.article.published_file import ALPHAS, RANKS, PublishedCell, PublishedGrid
from lora_replication.statistics import (
    Interval,
    RankCorrelation,
    exact_interval,
    holm,
    rank_correlation,
    t_interval,
    two_proportions_test,
    wilson_interval,
)
from lora_replication.study import ARTICLE_REVIEWS

COLLAPSE_PERCENT = 60.0
"""A run whose test accuracy ends below this has collapsed; answering one class gives about 50."""

ARTICLES_CHOICE = "r8-a1-query-value-mlp"
ARTICLES_DEFAULT = "r8-a16-query-value"


@dataclass(frozen=True)
class Collapse:
    """How many configurations of one alpha collapsed.

    Attributes:
        alpha: the factor of the low-rank term.
        configurations: with a result in the file.
        collapsed: those below ``COLLAPSE_PERCENT`` on test, with the exact interval of their share.
        one_class: those that answer one class for every review.
    """

    alpha: int
    configurations: int
    collapsed: int
    share: Interval
    one_class: int


@dataclass(frozen=True)
class Choice:
    """A configuration that somebody or some rule chose.

    Attributes:
        rule: who or what chose it.
        cell: the run.
        val, test: its accuracies with Wilson intervals over reviews.
        place_by_val, place_by_test: 1 is the best; equal ones share the better place.
    """

    rule: str
    cell: PublishedCell
    val: Interval
    test: Interval
    place_by_val: int
    place_by_test: int


@dataclass(frozen=True)
class PublishedSummary:
    """The published grid, summed up. Accuracies are fractions from 0 to 1.

    Attributes:
        grid: the file; level: of all intervals.
        by_alpha_and_rank: mean test accuracy over the choices of targets, with a t interval over
            them.
        collapse: by alpha.
        live: number of runs that did not collapse.
        ranks_live, ranks_all: rank correlation of validation and test accuracy, without and with
            collapsed runs; null without variation.
        gap: validation less test accuracy over live runs, with a t interval over configurations.
        choices: what the rules choose.
        tied_by_val, tied_by_test: configurations that Holm's test does not tell from the best by
            validation (on validation), and from the best on test (on test), the best itself among
            them.
    """

    grid: PublishedGrid
    level: float
    by_alpha_and_rank: dict[tuple[int, int], Interval]
    collapse: tuple[Collapse, ...]
    live: int
    ranks_live: RankCorrelation | None
    ranks_all: RankCorrelation | None
    gap: Interval | None
    choices: tuple[Choice, ...]
    tied_by_val: int
    tied_by_test: int


def summarise_published(grid: PublishedGrid, level: float) -> PublishedSummary:
    """Sum up ``grid`` with intervals of the given ``level``."""
    live = [cell for cell in grid.cells if is_live(cell)]
    return PublishedSummary(
        grid=grid,
        level=level,
        by_alpha_and_rank=_by_alpha_and_rank(grid.cells, level),
        collapse=tuple(
            _collapse(grid.cells, alpha, level)
            for alpha in ALPHAS
            if any(cell.alpha == alpha for cell in grid.cells)
        ),
        live=len(live),
        ranks_live=_ranks(live, level),
        ranks_all=_ranks(grid.cells, level),
        gap=_over_configurations(
            [(cell.val_percent - cell.test_percent) / 100 for cell in live], level
        )
        if live
        else None,
        choices=_choices(grid.cells, level),
        tied_by_val=_tied([cell.val_correct for cell in grid.cells], ARTICLE_REVIEWS["val"], level),
        tied_by_test=_tied(
            [cell.test_correct for cell in grid.cells], ARTICLE_REVIEWS["test"], level
        ),
    )


def is_live(cell: PublishedCell) -> bool:
    """Whether the run did not collapse."""
    return cell.test_percent >= COLLAPSE_PERCENT


def _over_configurations(values: Sequence[float], level: float) -> Interval:
    interval = t_interval(values, level)
    return replace(interval, source=f"configurations, n = {len(values)}, one unseeded run each")


def _by_alpha_and_rank(
    cells: Sequence[PublishedCell], level: float
) -> dict[tuple[int, int], Interval]:
    means = {}
    for alpha in ALPHAS:
        for rank in RANKS:
            values = [
                cell.test_percent / 100
                for cell in cells
                if (cell.alpha, cell.rank) == (alpha, rank)
            ]
            if values:
                means[alpha, rank] = _over_configurations(values, level)
    return means


def _collapse(cells: Sequence[PublishedCell], alpha: int, level: float) -> Collapse:
    mine = [cell for cell in cells if cell.alpha == alpha]
    collapsed = sum(not is_live(cell) for cell in mine)
    share = replace(
        exact_interval(collapsed, len(mine), level),
        source=f"configurations, n = {len(mine)}, one unseeded run each",
    )
    return Collapse(alpha, len(mine), collapsed, share, sum(cell.one_class for cell in mine))


def _ranks(cells: Sequence[PublishedCell], level: float) -> RankCorrelation | None:
    if len(cells) < 2:
        return None
    return rank_correlation(
        [cell.val_percent for cell in cells], [cell.test_percent for cell in cells], level
    )


def _choices(cells: Sequence[PublishedCell], level: float) -> tuple[Choice, ...]:
    named = {cell.name: cell for cell in cells}
    chosen = [
        ("best on validation", _best(cells, lambda cell: cell.val_percent)),
        (
            "best on test (flattered: chosen by the number it is quoted with)",
            _best(cells, lambda cell: cell.test_percent),
        ),
        ("the article's tuned configuration", named.get(ARTICLES_CHOICE)),
        ("the article's default configuration", named.get(ARTICLES_DEFAULT)),
    ]
    return tuple(
        Choice(
            rule=rule,
            cell=cell,
            val=wilson_interval(cell.val_correct, ARTICLE_REVIEWS["val"], level),
            test=wilson_interval(cell.test_correct, ARTICLE_REVIEWS["test"], level),
            place_by_val=1 + sum(other.val_percent > cell.val_percent for other in cells),
            place_by_test=1 + sum(other.test_percent > cell.test_percent for other in cells),
        )
        for rule, cell in chosen
        if cell
    )


def _best(
    cells: Sequence[PublishedCell], quantity: Callable[[PublishedCell], float]
) -> PublishedCell:
    """The first of the best in the file's order."""
    return max(cells, key=quantity)


def _tied(correct: Sequence[int], reviews: int, level: float) -> int:
    """How many are not told from the best, the best itself included."""
    best = max(range(len(correct)), key=correct.__getitem__)
    others = [
        two_proportions_test(count, correct[best], reviews)
        for place, count in enumerate(correct)
        if place != best
    ]
    return 1 + sum(p >= 1 - level for p in holm(others))
