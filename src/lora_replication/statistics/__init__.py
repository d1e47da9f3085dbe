"""Intervals and tests, each named by its source of variance: test sampling (reviews), seeds (runs),
or both. No torch, no plots.
"""

from lora_replication.statistics.bootstrap import two_level_bootstrap
from lora_replication.statistics.comparisons import (
    McNemar,
    PairedComparison,
    equivalence_test,
    holm,
    mcnemar,
    minimal_effect_test,
    paired_t,
    prediction_equivalence_test,
    prediction_test,
    two_proportions_test,
)
from lora_replication.statistics.correlations import RankCorrelation, rank_correlation
from lora_replication.statistics.intervals import (
    Interval,
    clustered_interval,
    cut,
    exact_interval,
    prediction_interval,
    t_interval,
    wilson_interval,
)
from lora_replication.statistics.planning import (
    seeds_for_difference,
    seeds_for_exclusion,
    seeds_for_prediction,
    smallest_difference_of_reviews,
    smallest_difference_of_seeds,
)

__all__ = [
    "Interval",
    "McNemar",
    "PairedComparison",
    "RankCorrelation",
    "clustered_interval",
    "cut",
    "equivalence_test",
    "exact_interval",
    "holm",
    "mcnemar",
    "minimal_effect_test",
    "paired_t",
    "prediction_equivalence_test",
    "prediction_interval",
    "prediction_test",
    "rank_correlation",
    "seeds_for_difference",
    "seeds_for_exclusion",
    "seeds_for_prediction",
    "smallest_difference_of_reviews",
    "smallest_difference_of_seeds",
    "t_interval",
    "two_level_bootstrap",
    "two_proportions_test",
    "wilson_interval",
]
