"""With how many seeds a difference named before, the margin, would be shown."""

from collections.abc import Callable
from dataclasses import replace

from scipy import special

from lora_replication.statistics.components import Components

MOST_SEEDS = 10_000


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
    if not enough(MOST_SEEDS):
        return None
    low, high = 1, MOST_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
