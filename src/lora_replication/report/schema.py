"""The schema of ``results.json``, version 1; ``docs/results.schema.json`` is made from it.
Accuracies are fractions from 0 to 1.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lora_replication.article import Kind
from lora_replication.data.manifest import Manifest
from lora_replication.record import Epoch, Status
from lora_replication.report.comparisons import Comparison, Slices
from lora_replication.report.summary import Missing, Part
from lora_replication.report.verdicts import Word
from lora_replication.statistics import Interval

Role = Literal["method", "cell", "winner", "runner_up"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PValues(_Part):
    """A p value as the test gave it, and after Holm's correction over all claims."""

    raw: float
    holm: float


class VerdictRow(_Part):
    """A verdict on one claim; ``measured_percent`` and ``number`` are in the article's units:
    percent, points, counts or ratios.
    """

    name: str
    words: str
    kind: Kind
    test: str
    number: float | None
    digits: int | None
    source: str
    methods: list[str]
    verdict: Word
    reason: str
    scope: str
    measured_percent: Interval | None
    measured_count: float | None
    p_difference: PValues | None
    p_sameness: PValues | None
    seeds_needed: int | None


class MethodRow(_Part):
    """A method, or the grid's winner, over its seeds."""

    name: str
    role: Role
    trains: str
    trainable_parameters: int | None
    seeds: list[int]
    runs_done: int
    runs_diverged: int
    runs_one_class: int
    over_seeds: Annotated[
        dict[Part, Interval | None],
        Field(description="mean accuracy over runs with its t interval over seeds, cut to 0 to 1"),
    ]
    test_sampling: Annotated[
        Interval | None,
        Field(description="mean test accuracy with its Wilson interval over reviews"),
    ]
    article_comparable: bool
    remark: str


class CountRow(_Part):
    """Right answers of one run on one part."""

    correct: int
    reviews: int
    ones: int
    accuracy: float


class Facts(_Part):
    """One run; null where not measured."""

    role: Role
    name: str
    seed: int
    key: Annotated[str, Field(description="sha256 that names the run's record")]
    lora: dict[str, Any] | None
    status: Status
    error: str | None
    first_bad_step: int | None
    one_class: bool
    best_epoch: int | None
    train: CountRow | None
    val: CountRow | None
    test: CountRow | None
    trainable_parameters: int | None
    total_parameters: int | None
    training_seconds: float | None
    evaluation_seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    notes: list[str]


class RunRow(Facts):
    """A run of a method or of the winner, with its epochs and its own intervals over reviews."""

    epochs: list[Epoch]
    test_wilson: Interval | None
    test_exact: Interval | None


class RunnerUpRow(MethodRow):
    """A configuration beside the winner; the difference is of its test accuracy less the winner's,
    paired over fresh seeds.
    """

    difference_from_winner: Interval | None


class GridRow(_Part):
    """The sweep; ``winner_by_validation`` is null while it is incomplete."""

    configurations_asked: int
    configurations_done: int
    diverged: int
    one_class: int
    ended_without_result: int
    winner_by_validation: str | None
    winner_on_fresh_seeds: MethodRow | None
    runners_up_on_fresh_seeds: Annotated[
        list[RunnerUpRow],
        Field(description="trained again beside the winner, best by validation first"),
    ]
    cells: list[Facts]


class Results(_Part):
    """Everything that a study's report tells."""

    schema_version: Literal[1]
    made_by: str
    units: str
    title: str
    reservation: Annotated[
        str | None, Field(description="what a study other than the article's must say first")
    ]
    comparable_with_the_article: bool
    study: Annotated[
        dict[str, Any], Field(description="the resolved parameters, addresses and paths left out")
    ]
    complete: bool
    runs_asked: int
    verdicts: list[VerdictRow]
    missing: list[Missing]
    records_ignored: int
    methods: dict[str, MethodRow]
    comparisons: list[Comparison]
    test_reviews: list[Slices]
    runs: list[RunRow]
    grid: GridRow
    article: dict[str, Any]
    data: Manifest
    machines: list[dict[str, Any]]


def results_schema() -> bytes:
    """The JSON schema of ``results.json``, as ``docs/results.schema.json`` holds it."""
    return json.dumps(Results.model_json_schema(), indent=1, ensure_ascii=False).encode() + b"\n"
