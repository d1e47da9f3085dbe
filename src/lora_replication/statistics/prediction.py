"""Where a result of single, new runs would be, next to runs on the same reviews."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from scipy import special

from lora_replication.statistics.components import first_enough
from lora_replication.statistics.intervals import Interval


@dataclass(frozen=True)
class Prediction:
    """A mean over runs, and the variance of its distance from a new result.

    Attributes:
        mean: over ``seeds`` runs, or over as many differences of two methods on shared seeds.
        of_seed: variance of one of these values over seeds; None with fewer than 2.
        of_new: variance of the new result itself.
    """

    mean: float
    seeds: int
    of_seed: float | None
    of_new: float

    def interval(self, level: float) -> Interval:
        """Where the new result is, with chance ``level``; without ends for one seed."""
        kind = "Student t, one more run"
        source = f"seeds, one more run next to n = {self.seeds} run{'s' if self.seeds > 1 else ''}"
        if self.of_seed is None:
            return Interval(self.mean, None, None, level, self.seeds, kind, source)
        half = self._half(self.seeds, (1 - level) / 2)
        return Interval(
            self.mean, self.mean - half, self.mean + half, level, self.seeds, kind, source
        )

    def p_value(self, new: float) -> float | None:
        """Two-sided, that ``new`` is such a result: below 1 - level exactly where it lies outside
        ``interval(level)``. None for one seed.
        """
        if self.of_seed is None:
            return None
        return min(1.0, 2 * self._tail(abs(new - self.mean)))

    def equivalence(self, new: float, margin: float) -> float | None:
        """The p value of true means at least ``margin`` apart: two one-sided tests."""
        return None if self.of_seed is None else self._tail(margin - abs(new - self.mean))

    def seeds_needed(self, half_width: float, level: float) -> int | None:
        """The fewest seeds at which the interval's half width is at most so large; None where the
        scatter of the new result alone, or of so few runs, is larger.
        """
        if self.of_seed is None:
            return None
        return first_enough(lambda seeds: self._half(seeds, (1 - level) / 2) <= half_width)

    def _half(self, seeds: int, tail: float) -> float:
        return -float(special.stdtrit(seeds - 1, tail)) * self._error(seeds)

    def _error(self, seeds: int) -> float:
        return math.sqrt((self.of_seed or 0.0) / seeds + self.of_new)

    def _tail(self, distance: float) -> float:
        error = self._error(self.seeds)
        if error == 0:
            return 0.0 if distance > 0 else 1.0
        return float(special.stdtr(self.seeds - 1, -distance / error))


def predict_run(values: Sequence[float]) -> Prediction:
    """Of one more run of a method whose runs have these ``values``: V = s2 / S + s2."""
    spread = variance(values) if len(values) > 1 else None
    return Prediction(fmean(values), len(values), spread, spread or 0.0)


def predict_gain(first: Sequence[float], second: Sequence[float]) -> Prediction:
    """Of the second's single run minus the first's, which share no seed: V = s2_diff / S + s2_first
    + s2_second.

    Args:
        first, second: one value per seed, in the same order of seeds.
    """
    gains = [after - before for before, after in zip(first, second, strict=True)]
    if len(gains) < 2:
        return Prediction(fmean(gains), len(gains), None, 0.0)
    return Prediction(fmean(gains), len(gains), variance(gains), variance(first) + variance(second))
