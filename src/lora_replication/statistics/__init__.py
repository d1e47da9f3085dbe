"""Intervals and tests, each named by its source of variance: test sampling (reviews), seeds (runs),
or both. No torch, no plots. A number or shape out of its range raises ``ValueError``.
"""

from lora_replication.statistics.bootstrap import two_level_bootstrap as two_level_bootstrap
from lora_replication.statistics.comparisons import McNemar as McNemar
from lora_replication.statistics.comparisons import PairedComparison as PairedComparison
from lora_replication.statistics.comparisons import equivalence_test as equivalence_test
from lora_replication.statistics.comparisons import holm as holm
from lora_replication.statistics.comparisons import mcnemar as mcnemar
from lora_replication.statistics.comparisons import minimal_effect_test as minimal_effect_test
from lora_replication.statistics.comparisons import paired_t as paired_t
from lora_replication.statistics.comparisons import (
    prediction_equivalence_test as prediction_equivalence_test,
)
from lora_replication.statistics.comparisons import prediction_test as prediction_test
from lora_replication.statistics.comparisons import two_proportions_test as two_proportions_test
from lora_replication.statistics.correlations import RankCorrelation as RankCorrelation
from lora_replication.statistics.correlations import rank_correlation as rank_correlation
from lora_replication.statistics.intervals import Interval as Interval
from lora_replication.statistics.intervals import clipped as clipped
from lora_replication.statistics.intervals import clustered_interval as clustered_interval
from lora_replication.statistics.intervals import exact_interval as exact_interval
from lora_replication.statistics.intervals import prediction_interval as prediction_interval
from lora_replication.statistics.intervals import t_interval as t_interval
from lora_replication.statistics.intervals import wilson_interval as wilson_interval
from lora_replication.statistics.planning import seeds_for_difference as seeds_for_difference
from lora_replication.statistics.planning import seeds_for_exclusion as seeds_for_exclusion
from lora_replication.statistics.planning import seeds_for_prediction as seeds_for_prediction
from lora_replication.statistics.planning import (
    smallest_difference_of_reviews as smallest_difference_of_reviews,
)
from lora_replication.statistics.planning import (
    smallest_difference_of_seeds as smallest_difference_of_seeds,
)
