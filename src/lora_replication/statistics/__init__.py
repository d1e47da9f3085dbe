"""Intervals and tests, each named by its source of variance: test sampling (reviews), seeds (runs),
or both. No torch, no plots. A number or shape out of its range raises ``ValueError``.
"""

from lora_replication.statistics.components import Components as Components
from lora_replication.statistics.components import crossed_components as crossed_components
from lora_replication.statistics.components import power as power
from lora_replication.statistics.components import resampled_components as resampled_components
from lora_replication.statistics.components import seeds_for_margin as seeds_for_margin
from lora_replication.statistics.factorial import Factorial as Factorial
from lora_replication.statistics.factorial import factorial as factorial
from lora_replication.statistics.intervals import Interval as Interval
from lora_replication.statistics.intervals import clipped as clipped
from lora_replication.statistics.intervals import exact_interval as exact_interval
from lora_replication.statistics.intervals import t_interval as t_interval
from lora_replication.statistics.intervals import wilson_interval as wilson_interval
from lora_replication.statistics.prediction import Prediction as Prediction
from lora_replication.statistics.prediction import predict_gain as predict_gain
from lora_replication.statistics.prediction import predict_run as predict_run
from lora_replication.statistics.scores import Scores as Scores
from lora_replication.statistics.scores import mean_scores as mean_scores
from lora_replication.statistics.scores import scores as scores
from lora_replication.statistics.selection import holm as holm
from lora_replication.statistics.selection import not_excluded_as_best as not_excluded_as_best
from lora_replication.statistics.selection import rank_interval as rank_interval
from lora_replication.statistics.selection import selection_chances as selection_chances
from lora_replication.statistics.selection import two_proportions_test as two_proportions_test
from lora_replication.statistics.sequential import look_tails as look_tails
