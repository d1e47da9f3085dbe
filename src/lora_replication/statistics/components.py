"""Variance components of crossed seeds and reviews: intervals and tests for new seeds and new
reviews.

The data are a table (seeds, reviews) of right (1) and wrong (0) answers of one method, or of the
differences of two methods' answers. Both factors are random: the mean is to hold for seeds and
reviews that were not drawn. Its variance is estimated as V = A + B, with
A = s2_seed / S, what seeds add (S - 1 degrees of freedom), and
B = s2_review / n - MSE / (n S), what reviews add (n - 1, or clusters - 1), never below 0,
where s2_seed is the variance of the S seeds' means and s2_review that of the n reviews' means.

Sources: for the components S. R. Searle, G. Casella, C. E. McCulloch, "Variance Components" (1992),
chapter 4; for the critical value W. G. Cochran, G. M. Cox, "Experimental Designs" (1957), section
4.14: the mean of the two t quantiles, weighted by A and B. Satterthwaite's degrees of freedom
reject too often with few seeds.
"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from lora_replication.statistics.intervals import Interval

MOST_SEEDS = 10_000

BOOTSTRAPS = 1_000

SMALLEST_TAIL = 1e-40
"""Below it p values are 0: quantiles further out are not computed well."""


@dataclass(frozen=True)
class Components:
    """The estimated variance of a mean over crossed seeds and reviews.

    Attributes:
        mean: over all cells, in the unit of the table.
        of_seeds: A, what seeds add to the variance of the mean; 0 with one seed.
        of_reviews: B, what reviews (or clusters of them) add.
        seeds, reviews: S and n.
        clusters: groups of reviews that are sampled together, such as movies; n without them.
        residual: variance of the interaction of seeds and reviews, for one cell.
    """

    mean: float
    of_seeds: float
    of_reviews: float
    seeds: int
    reviews: int
    clusters: int
    residual: float

    @property
    def error(self) -> float:
        """Standard error of the mean for new seeds and new reviews."""
        return math.sqrt(self.of_seeds + self.of_reviews)

    @property
    def seeds_share(self) -> float:
        """Share of the variance that seeds add, 0 to 1; 0 where nothing varies."""
        total = self.of_seeds + self.of_reviews
        return self.of_seeds / total if total else 0.0

    def critical(self, tail: float) -> float:
        """The value that |mean| / error exceeds with chance 2 ``tail`` where the true mean is 0."""
        if self.clusters < 2:
            return math.inf
        t_reviews = -float(special.stdtrit(self.clusters - 1, tail))
        if self.seeds == 1 or not self.of_seeds:
            return t_reviews
        t_seeds = -float(special.stdtrit(self.seeds - 1, tail))
        if not self.of_reviews:
            return t_seeds
        share = self.seeds_share
        return share * t_seeds + (1 - share) * t_reviews

    def interval(self, level: float) -> Interval:
        """The interval for new seeds and new reviews; with one seed, for new reviews alone."""
        unit = "" if self.clusters == self.reviews else f" in {self.clusters:,} movies"
        reviews = f"{self.reviews:,} reviews{unit}"
        what = "seeds and reviews" if self.seeds > 1 else "reviews alone"
        runs = f"{self.seeds} run{'s' if self.seeds > 1 else ''}"
        source = f"{what}, n = {runs} on {reviews}"
        if self.clusters < 2:
            return Interval(self.mean, None, None, level, self.seeds, "crossed components", source)
        half = self.critical((1 - level) / 2) * self.error
        low, high = self.mean - half, self.mean + half
        return Interval(self.mean, low, high, level, self.seeds, "crossed components", source)

    def p_value(self, centre: float = 0.0, margin: float = 0.0) -> float | None:
        """Two-sided p value that the true mean is within ``margin`` of ``centre``.

        Below 1 - level exactly where the ``interval`` of that level lies outside. None where seeds
        or clusters are fewer than 2.
        """
        if self.seeds < 2 or self.clusters < 2:
            return None
        return self._p_value(abs(self.mean - centre) - margin, tails=2)

    def equivalence(self, margin: float, centre: float = 0.0) -> float | None:
        """The p value of a true mean at least ``margin`` from ``centre``: two one-sided tests.

        Source: D. J. Schuirmann, J. Pharmacokinet. Biopharm. 15 (1987).
        """
        if self.seeds < 2 or self.clusters < 2:
            return None
        return self._p_value(margin - abs(self.mean - centre), tails=1)

    def _p_value(self, distance: float, *, tails: int) -> float:
        """The chance of a distance at least so large: the critical value, inverted."""
        if not self.error:
            return 0.0 if distance > 0 else 1.0
        if distance <= 0:
            return 1.0
        ratio = distance / self.error

        def excess(logarithm: float) -> float:
            return self.critical(math.exp(logarithm)) - ratio

        smallest, largest = math.log(SMALLEST_TAIL), math.log(0.5)
        if excess(smallest) <= 0:
            return 0.0
        tail = math.exp(float(optimize.brentq(excess, smallest, largest, xtol=1e-12)))
        return min(1.0, tails * tail)


def crossed_components(table: ArrayLike, clusters: ArrayLike | None = None) -> Components:
    """Estimate the components of a (seeds, reviews) table.

    Args:
        table: (seeds, reviews): right answers as 0 or 1, or differences of two methods' answers on
            shared seeds, -1, 0 or 1.
        clusters: (reviews,), labels of groups that are sampled together, such as movies; None where
            every review is its own.

    Raises:
        ValueError: a shape is wrong, or nothing is given.
    """
    x = np.asarray(table, dtype=np.float64)
    if x.ndim != 2 or not x.size:
        raise ValueError(f"table {x.shape}; allowed: (seeds, reviews), at least one of each")
    seeds, reviews = x.shape
    mean, by_seed, by_review = float(x.mean()), x.mean(1), x.mean(0)
    residuals = x - by_seed[:, None] - by_review[None, :] + mean
    groups, member = _groups(clusters, reviews)
    of_reviews = _variance_of_mean(by_review - mean, member, groups)
    residual = float((residuals**2).sum()) / max(1, (seeds - 1) * (reviews - 1))
    if seeds == 1:
        return Components(mean, 0.0, of_reviews, 1, reviews, groups, 0.0)
    # What the interaction adds is in both terms; it is taken out of the reviews' once. In clusters
    # it is summed as the reviews' means are.
    interaction = np.mean([_variance_of_mean(row, member, groups) for row in residuals])
    shared = float(interaction) / (seeds - 1)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    return Components(
        mean, of_seeds, max(0.0, of_reviews - shared), seeds, reviews, groups, residual
    )


def resampled_components(
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], answers: ArrayLike
) -> Components:
    """The components of a statistic that is no mean of answers, such as a slope of best rates.

    What seeds add is estimated from its values on single seeds, what reviews add by a bootstrap;
    the interaction, which is in both, is taken out of the reviews' as above.

    Args:
        statistic: of accuracies (..., options), gives (...,).
        answers: (options, seeds, reviews): right answers from 0 to 1.

    Source: B. Efron, R. J. Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 6.
    """
    x = np.asarray(answers, dtype=np.float64)
    _, seeds, reviews = x.shape
    by_seed = statistic(x.mean(2).T)
    draw, even = np.random.default_rng(1), np.full(reviews, 1 / reviews)
    counts = draw.multinomial(reviews, even, size=BOOTSTRAPS).astype(float)  # exact: ties stay ties
    drawn = statistic(np.tensordot(counts, x, (1, 2)).swapaxes(1, 2) / reviews)  # (drawn, seeds)
    mean, of_reviews = float(by_seed.mean()), float(drawn.mean(1).var(ddof=1))
    if seeds == 1:
        return Components(mean, 0.0, of_reviews, 1, reviews, reviews, 0.0)
    residual = (float(drawn.var(0, ddof=1).mean()) - of_reviews) * seeds / (seeds - 1)
    of_seeds = float(by_seed.var(ddof=1)) / seeds
    of_reviews = max(0.0, of_reviews - residual / seeds)
    return Components(mean, of_seeds, of_reviews, seeds, reviews, reviews, reviews * residual)


def _groups(clusters: ArrayLike | None, reviews: int) -> tuple[int, NDArray[np.int64]]:
    if clusters is None:
        return reviews, np.arange(reviews)
    labels, member = np.unique(np.asarray(clusters), return_inverse=True)
    if member.shape != (reviews,):
        raise ValueError(f"clusters {member.shape} for {reviews} reviews; allowed: one for each")
    return len(labels), member


def _variance_of_mean(
    deviations: NDArray[np.float64], member: NDArray[np.int64], groups: int
) -> float:
    """Of the mean of reviews with these deviations from it, sampled in groups; 0 for one group."""
    if groups < 2:
        return 0.0
    totals = np.bincount(member, weights=deviations, minlength=groups)
    return groups / (groups - 1) * float(totals @ totals) / len(deviations) ** 2


def power(
    effect: float, seed_sd: float, of_reviews: float, *, seeds: int, reviews: int, level: float
) -> float:
    """Chance that the test at ``level`` shows a true difference of ``effect``.

    Args:
        effect, seed_sd, of_reviews: in one unit: the difference, its standard deviation over seeds,
            and the standard error that reviews add to its mean.
        seeds, reviews: at least 2 of each.
    """
    of_seeds, chance, points = seed_sd**2 / seeds, 0.0, 400
    error = math.sqrt(of_seeds + of_reviews**2)
    for place in range(points):  # equally likely estimates of what seeds add
        ratio = float(special.chdtri(seeds - 1, (place + 0.5) / points)) / (seeds - 1)
        seen = Components(0.0, ratio * of_seeds, of_reviews**2, seeds, reviews, reviews, 0.0)
        bound = seen.critical((1 - level) / 2) * seen.error
        chance += special.ndtr((effect - bound) / error) + special.ndtr(-(effect + bound) / error)
    return float(chance) / points


def seeds_for_margin(
    found: Components, margin: float, *, level: float, power: float, sameness: bool = False
) -> int | None:
    """The fewest seeds that show, with chance ``power``, a true difference of ``margin``; or, for
    ``sameness``, a true difference of 0 as less than ``margin``.

    What seeds add shrinks with their number; what reviews add stays. Normal approximation.

    Args:
        found: components of the difference on the seeds that there are, at least 2.
        margin: above 0, in the unit of ``found``.
        level: 1 - the chance of a false find; power: both above 0 and below 1.

    Returns:
        None where no number of seeds does, as the reviews are too few; and for one seed.
    """
    if not (0 < level < 1 and 0 < power < 1) or margin <= 0:
        raise ValueError(
            f"level {level}, power {power}, margin {margin}; "
            "allowed: above 0 and below 1, above 0 and below 1, above 0"
        )
    if found.seeds < 2 or found.clusters < 2:
        return None
    tail = (1 - level) if sameness else (1 - level) / 2
    more = float(special.ndtri((1 + power) / 2 if sameness else power))

    def enough(seeds: int) -> bool:
        other = replace(found, seeds=seeds, of_seeds=found.of_seeds * found.seeds / seeds)
        return (other.critical(tail) + more) * other.error <= margin

    return first_enough(enough)


def first_enough(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of seeds from 2 that is enough, or None over 10,000; enough must stay
    enough.
    """
    numbers = range(2, MOST_SEEDS + 1)
    place = bisect_left(numbers, True, key=enough)
    return numbers[place] if place < len(numbers) else None
