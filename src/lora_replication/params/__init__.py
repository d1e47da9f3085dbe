"""A study: the typed, frozen, validated view of ``params.yaml`` with a study file laid over it.

Imports nothing heavy: a wrong parameter is told before torch would have been loaded.
"""

from lora_replication.params.reading import check_study, load_study, merge_files
from lora_replication.params.study import (
    ARTICLE_REVIEWS,
    EXECUTION,
    NAME_RULE,
    TARGETS,
    DataParams,
    GridParams,
    LoraParams,
    MethodParams,
    ModelParams,
    ReportParams,
    Study,
    Target,
    TrackingParams,
    expanded,
)  # fmt: skip

__all__ = [
    "ARTICLE_REVIEWS", "EXECUTION", "NAME_RULE", "TARGETS",
    "DataParams", "GridParams", "LoraParams", "MethodParams", "ModelParams", "ReportParams", "Study", "Target", "TrackingParams",
    "check_study", "expanded", "load_study", "merge_files",
]  # fmt: skip
