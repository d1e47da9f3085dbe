"""Better, worse, as good, or undecided: two sides paired over seeds and test reviews."""

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from lora_replication.allowed import Facts
from lora_replication.compare.sides import Side
from lora_replication.errors import DataError
from lora_replication.report.predictions import Predictions
from lora_replication.report.verdicts import FEWEST, GUESSED, undecidable
from lora_replication.statistics import Components, Interval, look_tails, seeds_for_margin

_tails = cache(look_tails)

Word = Literal["better", "worse", "as good", "undecided"]

Pair = tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]
"""Answers of the first and the second side; None for a diverged run."""


@dataclass(frozen=True)
class Rule:
    """How a comparison is decided.

    Attributes:
        margin: fraction, above 0: sides that differ by less are as good.
        confidence: 1 - the chance of a false word where the sides do not differ, all looks
            together; and of a false "as good" where they differ by the margin.
        power: of the number of seeds that would decide.
        looks: numbers of seeds at which it is looked; the only one, or growing.
    """

    margin: float
    confidence: float
    power: float
    looks: tuple[int, ...]

    def tails(self, look: int) -> tuple[float, float]:
        """One-sided chances of the tests of a difference and of sameness at this ``look``."""
        alpha = 1 - self.confidence
        return _tails(self.looks, alpha)[look], _tails(self.looks, 2 * alpha)[look]


class Decision(Facts):
    """What one look says; the second side compared with the first.

    Attributes:
        word: of the second side; ``why``: why it is undecided: "few_runs", "few_reviews", "alike"
            (all pairs differ equally), "diverged" (counting diverged runs as right by chance
            would change the word) or "open".
        seeds: pairs of runs that did not diverge; ``reviews``: of test; ``clusters``: their movies,
            or as many as reviews where no movies are known.
        difference: of the accuracies, a fraction, with its interval for new seeds and new reviews
            at the level of this look; None where no pair is left.
        p_difference, p_sameness: of this look, before any allowance for several looks.
        seeds_needed: that would decide in either case: show a true difference as large as the
            margin, and no true difference as less than it; None where decided, or where no number
            does, as the reviews are too few.
    """

    word: Word
    why: str = ""
    seeds: int = 0
    reviews: int = 0
    clusters: int = 0
    difference: Interval | None = None
    p_difference: float | None = None
    p_sameness: float | None = None
    seeds_needed: int | None = None


@dataclass(frozen=True)
class Pairs:
    """Pairs of runs on the same test reviews, their movies if known, and the chance of a guess."""

    runs: tuple[Pair, ...]
    movies: NDArray[np.str_] | None = None
    guessed: float = GUESSED

    @classmethod
    def of(cls, first: Side, second: Side) -> Self:
        """Runs of the same seed, in its order; or, where fewer than three seeds are shared, the
        runs in the order of their own seeds, which is as right for runs that are independent.

        Raises:
            DataError: the sides were tested on other reviews.
        """
        if first.reviews != second.reviews:
            raise DataError(
                f"{first.name} of {first.study.study} and {second.name} of {second.study.study} "
                "were tested on other reviews; allowed: two sides on the same test reviews"
            )
        sides = [side.answers for side in (first, second)]
        shared = sides[0].keys() & sides[1].keys()
        if len(shared) >= FEWEST:
            sides = [{seed: own[seed] for seed in shared} for own in sides]
        runs = zip(*([own[seed] for seed in sorted(own)] for own in sides), strict=False)
        movies = second.movies if first.movies is None else first.movies
        return cls(tuple(runs), movies, 1 / len(second.workspace.manifest.classes))

    def components(self, diverged: float | None) -> Components | None:
        """Of the second's answers minus the first's, with diverged runs left out, or right with
        this chance; None where no pair is left.
        """
        reviews = next((len(one) for pair in self.runs for one in pair if one is not None), 0)
        guess = None if diverged is None else np.full(reviews, diverged)
        first, second = {}, {}
        for number, pair in enumerate(self.runs):
            one, two = (guess if answers is None else answers for answers in pair)
            if one is not None and two is not None:
                first[number], second[number] = one, two
        return Predictions(movies=self.movies).between(first, second)


def decide(pairs: Pairs, rule: Rule, look: int = 0) -> Decision:
    """What these ``pairs`` say at this ``look``."""
    decided = _decide(pairs.components(None), rule, look)
    decisive = decided.word != "undecided"
    if decisive and any(answers is None for pair in pairs.runs for answers in pair):
        counted = _decide(pairs.components(pairs.guessed), rule, look)
        if counted.word != decided.word:
            return decided.model_copy(update={"word": "undecided", "why": "diverged"})
    return decided


def _decide(found: Components | None, rule: Rule, look: int) -> Decision:
    if found is None:
        return Decision(word="undecided", why="few_runs")
    tail, same_tail = rule.tails(look)
    differs, same = found.p_value(), found.equivalence(rule.margin)
    facts: dict[str, Any] = {
        "seeds": found.seeds,
        "reviews": found.reviews,
        "clusters": found.clusters,
        "difference": found.interval(1 - 2 * tail),
        "p_difference": differs,
        "p_sameness": same,
    }
    if why := undecidable(found):
        return Decision(word="undecided", why=why, **facts)
    if same is not None and same < same_tail:
        return Decision(word="as good", **facts)
    if differs is not None and differs < 2 * tail:
        return Decision(word="better" if found.mean > 0 else "worse", **facts)
    return Decision(word="undecided", why="open", seeds_needed=seeds_needed(found, rule), **facts)


def seeds_needed(found: Components, rule: Rule) -> int | None:
    """See ``Decision``."""
    how = {"level": rule.confidence, "power": rule.power}
    each = [seeds_for_margin(found, rule.margin, **how, sameness=same) for same in (False, True)]
    return None if None in each else max(filter(None, each))


def looks_until(first: int, most: int, step: int) -> tuple[int, ...]:
    """At ``first`` seeds, then after every ``step`` more, and at ``most``."""
    return tuple(sorted({*range(min(first, most), most, step), most}))
