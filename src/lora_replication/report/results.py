"""Everything that a study's report says, as one model; ``results.json`` is this model.

Accuracies and interval ends are fractions from 0 to 1; durations are seconds; memory is bytes.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lora_replication import __version__
from lora_replication.article import Article, Claim, PublishedMethod
from lora_replication.data.manifest import Manifest
from lora_replication.errors import DataError
from lora_replication.record import Epoch, Role, Status
from lora_replication.statistics import Interval, McNemar, PairedComparison
from lora_replication.study import LoraParams

PARTS = ("train", "val", "test")

Word = Literal["reproduced", "consistent", "not reproduced", "inconclusive", "not judged"]

WORDS: dict[Word, str] = {
    "reproduced": "shown to hold here: a count at the article's digits, an order that the paired "
    "test finds, a number or a sameness shown to lie within the margin",
    "consistent": "a fresh run here could well give the article's number, and the interval is "
    "narrow enough to say so; within the margin is not shown",
    "not reproduced": "shown not to hold here",
    "inconclusive": "these runs decide nothing",
    "not judged": "about something that this study does not measure",
}


class Part(BaseModel):
    """Facts that know their keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class RunRow(Part):
    """One run: a row of the long table. None where not measured.

    Attributes:
        role, name, seed, key: which run; ``key`` is the sha256 that names its record.
        place: in the grid by validation accuracy, from 1; None outside it.
        encoder ... lora: its settings.
        status, error, one_class and so on: as in the record's ``happened``.
        <part>_correct, <part>_reviews, <part>_accuracy: at the best epoch by validation.
        test_wilson, test_exact: of the test accuracy over reviews; None for the grid's runs.
        seconds: of training and evaluation.
        commit: of the code; ``cpu``, ``gpu``, ``threads``: of the machine.
    """

    role: Role
    name: str
    seed: int
    key: str
    place: int | None
    encoder: str
    max_tokens: int
    batch_size: int
    learning_rate: float
    precision: str
    trains: str
    lora: LoraParams | None
    status: Status
    error: str | None
    first_bad_step: int | None
    one_class: bool
    best_epoch: int | None
    stopped_after: int | None
    train_correct: int | None
    train_reviews: int | None
    train_accuracy: float | None
    val_correct: int | None
    val_reviews: int | None
    val_accuracy: float | None
    test_correct: int | None
    test_reviews: int | None
    test_accuracy: float | None
    test_wilson: Interval | None
    test_exact: Interval | None
    trainable_parameters: int | None
    total_parameters: int | None
    pack: int
    training_seconds: float | None
    evaluation_seconds: float | None
    seconds: float | None
    tokens_per_second: float | None
    peak_memory_bytes: int | None
    notes: list[str]
    commit: str | None
    cpu: str
    gpu: str | None
    threads: int
    epochs: list[Epoch]

    @property
    def is_done(self) -> bool:
        """Whether the run has a result."""
        return self.status in ("ok", "diverged")


class MethodRow(Part):
    """A method, the grid's winner or a runner-up, over its seeds.

    Attributes:
        trains: what trains, in words; ``configuration``: of the grid, for the winner and others.
        seeds: asked for; ``runs_done``, ``runs_diverged``, ``runs_one_class``: how many of them.
        train, val, test: mean accuracy over the ok runs with its t interval over seeds, clipped to
            [0, 1]; diverged runs have no accuracy, runs that predict a single class are included.
        test_sampling: mean test accuracy with its Wilson interval over reviews.
        published: the article's method of this name; ``comparable``: whether its numbers are about
            the same thing; ``note``: why not.
        grid_val_accuracy: validation accuracy in the grid.
        difference_from_winner: of test accuracy, paired over fresh seeds.
    """

    role: Role
    name: str
    trains: str
    configuration: str | None = None
    trainable_parameters: int | None
    seeds: list[int]
    runs_done: int
    runs_diverged: int
    runs_one_class: int
    train: Interval | None
    val: Interval | None
    test: Interval | None
    test_sampling: Interval | None
    published: PublishedMethod | None = None
    comparable: bool = False
    note: str = ""
    grid_val_accuracy: float | None = None
    difference_from_winner: Interval | None = None


class PValues(Part):
    """A p value before and after Holm's correction over all claims."""

    raw: float
    holm: float


class Verdict(Part):
    """What a study says of one claim of the article; accuracies in percent, differences in points.

    Attributes:
        word: see ``WORDS``; ``why``: the case that gave it; ``reason``: that in words.
        values: what was measured: one per seed; for a selection its place, the number of
            configurations and the points behind the best.
        measured_percent: with its interval, None for counts and what is not judged.
        measured_count: the count or ratio.
        seeds_needed: with how many seeds the study would decide, if effect and scatter were those
            seen; None where it has decided or no number of seeds would.
        scope: which study it is about, where that is not the article's setting.
    """

    claim: Claim
    word: Word
    why: str
    reason: str = ""
    values: tuple[float, ...] = ()
    measured_percent: Interval | None = None
    measured_count: float | None = None
    p_difference: PValues | None = None
    p_sameness: PValues | None = None
    seeds_needed: int | None = None
    scope: str = ""


class Comparison(Part):
    """Two methods on the seeds and reviews that both have: the second minus the first.

    Attributes:
        differences: of test accuracy, one per seed; ``paired``: the t test over them.
        p_holm: after Holm's correction over all comparisons; None for one seed.
        mcnemar: the exact test for each seed whose two runs have predictions.
        both, both_by_movie: the two-level bootstrap over seeds and reviews, or movies.
        detectable_by_seeds, detectable_by_reviews: the smallest difference that this many seeds,
            and one pair of runs on this many reviews, would find with the power in params.
    """

    first: str
    second: str
    seeds: list[int]
    differences: list[float]
    paired: PairedComparison
    p_holm: float | None = None
    mcnemar: list[McNemar]
    both: Interval | None
    both_by_movie: Interval | None
    detectable_by_seeds: float | None
    detectable_by_reviews: float | None


class Slices(Part):
    """A method's mean over runs on kinds of test reviews, with intervals over reviews.

    Attributes:
        runs: number of runs with predictions.
        plain: all test reviews; ``by_movie``: the same, clustered by movie.
        both: two-level bootstrap over runs and reviews.
        unseen_movies: reviews whose movie has no training review.
        unique_texts: reviews whose text occurs nowhere else in the study.
    """

    name: str
    runs: int
    plain: Interval
    by_movie: Interval | None
    both: Interval
    unseen_movies: Interval | None
    unique_texts: Interval | None


class Missing(Part):
    """A run that the study asks for and that has no result, with the reason."""

    role: Role
    name: str
    seed: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed} ({self.reason})"


class Collapse(Part):
    """How many configurations of one alpha ended below 60 % test accuracy or diverged.

    Attributes:
        share: of the ``configurations`` with a result, with its exact interval.
        one_class: how many predict a single class for every test review.
    """

    alpha: float
    configurations: int
    collapsed: int
    share: Interval
    one_class: int


class Grid(Part):
    """The sweep over LoRA configurations.

    Attributes:
        asked, done: configurations; ``done`` have a result.
        winner_by_validation: None while the grid is incomplete or where all diverged.
        winner: over its fresh seeds, None before them; ``runners_up``: trained again next to it.
    """

    asked: int
    done: int
    diverged: int
    one_class: int
    collapse: list[Collapse]
    winner_by_validation: str | None
    winner: MethodRow | None
    runners_up: list[MethodRow]


class Results(Part):
    """Everything that a study's report says.

    Attributes:
        title, subject, reservation, stamp, remark: what the study is, and must say, in words.
        study: the parameters; addresses, paths and the machine's are left out.
        runs: every record of the study, methods first, then the grid's by validation accuracy.
        records_ignored, copies: records of other parameters, and at other places than they name.
        without_predictions: runs with a test accuracy, grid aside, whose predictions are absent.
        machines: each machine and software once, with its number of runs; ``year``: of the last.
    """

    schema_version: Literal[2] = 2
    made_by: str = f"lora-replication {__version__}"
    title: str
    subject: str
    reservation: str
    stamp: str
    remark: str
    is_the_articles: bool
    study: dict[str, Any]
    runs_asked: int
    asked_by_role: dict[Role, int]
    missing: list[Missing]
    records_ignored: int
    copies: list[str]
    verdict_words: dict[Word, str] = WORDS
    verdicts: list[Verdict] = []
    methods: list[MethodRow]
    grid: Grid
    comparisons: list[Comparison] = []
    slices: list[Slices] = []
    without_predictions: int = 0
    runs: list[RunRow]
    article: Article
    data: Manifest
    machines: list[dict[str, Any]]
    year: int | None

    @property
    def rows(self) -> list[MethodRow]:
        """The methods, and the grid's winner where it was trained on fresh seeds."""
        return self.methods + ([self.grid.winner] if self.grid.winner else [])

    @property
    def confidence(self) -> float:
        """Of all intervals."""
        return float(self.study["report"]["confidence"])

    @property
    def cells(self) -> list[RunRow]:
        """The grid's configurations, best validation accuracy first."""
        return [run for run in self.runs if run.role == "cell"]

    def runs_of(self, row: MethodRow) -> list[RunRow]:
        """The runs of ``row`` that have a result."""
        mine = (run for run in self.runs if (run.role, run.name) == (row.role, row.name))
        return [run for run in mine if run.is_done]

    def to_json(self) -> bytes:
        """The content of ``results.json``."""
        return self.model_dump_json(indent=1).encode() + b"\n"


def read_results(folder: Path) -> Results:
    """What the report in ``folder`` says. Raises ``DataError``."""
    file = folder / "results.json"
    try:
        return Results.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is of another version"
        raise DataError(f"{file}: can't be read ({reason}); rebuild the report") from None
