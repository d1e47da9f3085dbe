"""A study's grid beside the published one: cell by cell, as far as both have a result.

Differences are ours less the published, as fractions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lora_replication.article import SETTING
from lora_replication.article.published_file import PublishedCell, PublishedGrid
from lora_replication.record import Record
from lora_replication.report.published.summary import COLLAPSE_PERCENT, is_live
from lora_replication.report.tables import Cell, Table
from lora_replication.report.wording import ABSENT, level, percent, signed, signed_ends
from lora_replication.statistics import (
    Interval,
    RankCorrelation,
    holm,
    rank_correlation,
    t_interval,
    two_proportions_test,
)
from lora_replication.study import ARTICLE_REVIEWS, LoraParams, Study


@dataclass(frozen=True)
class Pair:
    """One configuration in both grids.

    Attributes:
        name: of the configuration.
        ours, published: test accuracy as a fraction, one run each; ours is null where it diverged.
        p_value, p_holm: that both accuracies are equal, for the sampling of reviews, before and
            after Holm's correction over all pairs; null where ours diverged or was tested on
            another number of reviews.
    """

    name: str
    ours: float | None
    published: float
    p_value: float | None
    p_holm: float | None


@dataclass(frozen=True)
class Beside:
    """Both grids together.

    Attributes:
        study: the study's name; same_setting: whether it is about what the article is about.
        pairs: configurations with a result in both, in the published file's order.
        ours_collapsed, published_collapsed, both_collapsed: how many of the pairs ended below 60 %
            on test, or diverged.
        ranks: rank correlation of test accuracy over pairs live in both; null for fewer than 2 or
            without variation.
        difference: mean over pairs live in both, with its t interval over configurations; null
            without any.
        beyond_chance: pairs whose p after Holm is below 1 - level.
    """

    study: str
    same_setting: bool
    pairs: tuple[Pair, ...]
    ours_collapsed: int
    published_collapsed: int
    both_collapsed: int
    ranks: RankCorrelation | None
    difference: Interval | None
    beyond_chance: int


def set_beside(
    grid: PublishedGrid, study: Study, records: Sequence[Record], confidence: float
) -> Beside | None:
    """Match the ``records`` of a study's grid with the published ``grid`` by configuration; null
    where they share none.
    """
    named = {cell.name: cell for cell in grid.cells}
    ours = {
        name: record
        for record in records
        if record.is_done and (name := _published_name(record)) in named
    }
    if not ours:
        return None
    matched = [(named[name], ours[name]) for name in named if name in ours]
    raw = [_p_value(cell, record) for cell, record in matched]
    adjusted = iter(holm([p for p in raw if p is not None]))
    pairs = tuple(
        Pair(
            cell.name,
            _accuracy(record),
            cell.test_percent / 100,
            p,
            None if p is None else next(adjusted),
        )
        for (cell, record), p in zip(matched, raw, strict=True)
    )
    live = [
        (_accuracy(record) or 0.0, cell.test_percent / 100)
        for cell, record in matched
        if is_live(cell) and not _collapsed(record)
    ]
    return Beside(
        study=study.study,
        same_setting=study.is_the_articles,
        pairs=pairs,
        ours_collapsed=sum(_collapsed(record) for _, record in matched),
        published_collapsed=sum(not is_live(cell) for cell, _ in matched),
        both_collapsed=sum(_collapsed(record) and not is_live(cell) for cell, record in matched),
        ranks=rank_correlation([a for a, _ in live], [b for _, b in live], confidence)
        if len(live) > 1
        else None,
        difference=t_interval([a - b for a, b in live], confidence) if live else None,
        beyond_chance=sum(
            pair.p_holm is not None and pair.p_holm < 1 - confidence for pair in pairs
        ),
    )


def _published_name(record: Record) -> str:
    """The name under which the published file would have this configuration; empty where it could
    not.
    """
    lora = LoraParams(**record.asked.settings["lora"])
    return record.asked.name if lora.scaling == "article" and lora.dropout == 0 else ""


def _accuracy(record: Record) -> float | None:
    return record.happened.test.fraction if record.happened.test else None


def _collapsed(record: Record) -> bool:
    accuracy = _accuracy(record)
    return accuracy is None or 100 * accuracy < COLLAPSE_PERCENT


def _p_value(cell: PublishedCell, record: Record) -> float | None:
    test = record.happened.test
    if test is None or test.reviews != ARTICLE_REVIEWS["test"]:
        return None
    return two_proportions_test(test.correct, cell.test_correct, test.reviews)


def beside_statement(beside: Beside) -> list[str]:
    """What both grids together say, in sentences."""
    n = len(beside.pairs)
    stand = (
        "configurations of the study {} stand" if n > 1 else "configuration of the study {} stands"
    )
    said = [
        f"{n:,} {stand.format(beside.study)} beside the published ones; "
        f"{beside.published_collapsed:,} collapsed as published, {beside.ours_collapsed:,} here, {beside.both_collapsed:,} in both."
    ]
    if not beside.same_setting:
        said.insert(
            0,
            f"The study {beside.study} is not {SETTING}: only the order of configurations can be compared, not their accuracy.",
        )
    if beside.difference:
        interval = f" ({level(beside.difference.level)} interval over configurations {signed_ends(beside.difference)})"
        said.append(
            f"Over the {beside.difference.n:,} live in both, ours less the published is {signed(beside.difference.estimate)} points on "
            f"average{interval if beside.difference.low is not None else ''}; {_rank_words(beside.ranks)}."
        )
    tested = sum(pair.p_holm is not None for pair in beside.pairs)
    if tested:
        said.append(
            f"{beside.beyond_chance:,} of {tested:,} differ by more than the sampling of reviews explains (tests of two proportions, "
            "Holm). Single runs scatter over seeds too, so some of these are no more than that."
        )
    return said


def _rank_words(ranks: RankCorrelation | None) -> str:
    if ranks is None:
        return "their ranks allow no correlation"
    return (
        f"rank correlation {ranks.spearman.estimate:.3f} (Spearman), {ranks.kendall:.3f} (Kendall)"
    )


def beside_table(beside: Beside, confidence: float) -> Table:
    """The pairs that differ beyond chance by most points first, at most 20, so that the published
    file is not repeated.
    """
    found = [
        pair for pair in beside.pairs if pair.p_holm is not None and pair.p_holm < 1 - confidence
    ]
    largest = sorted(found, key=lambda pair: -abs((pair.ours or 0.0) - pair.published))[:20]
    return Table(
        name="beside",
        caption=(
            f"Configurations whose test accuracies differ beyond the sampling of reviews, largest differences first: {len(largest):,} of "
            f"{len(found):,}. Percent; one run each; p after Holm's correction."
        ),
        columns=("Configuration", "Ours", "Published", "Difference", "p, Holm"),
        rows=tuple(
            (
                Cell(pair.name),
                Cell(percent(pair.ours)),
                Cell(percent(pair.published)),
                Cell(signed(None if pair.ours is None else pair.ours - pair.published)),
                Cell(ABSENT if pair.p_holm is None else f"{pair.p_holm:.2g}"),
            )
            for pair in largest
        ),
    )
