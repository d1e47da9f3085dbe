"""Everything that a study's report says, as one model; ``results.json`` is this model.

Accuracies and interval ends are fractions from 0 to 1; durations are seconds; memory is bytes.
"""

import json
from collections.abc import Iterable
from typing import Any, Literal, Self

import pandas as pd
from pydantic import Field

from lora_replication import __version__
from lora_replication.allowed import Facts
from lora_replication.article import Article, Claim, PublishedMethod, RateClaim
from lora_replication.data.manifest import Manifest
from lora_replication.record import SEARCHED, Happened, Record, Role, Settings
from lora_replication.statistics import Components, Interval, exact_interval
from lora_replication.study import method_in_words

DIGITS = 12
"""Significant ones of a number that is written; later ones depend on the processor."""

COLLAPSED_BELOW = 0.6
"""A run whose test accuracy ends below this has collapsed; a single predicted class gives about one
half. Of more classes it is as much above chance: 1.2 over their number.
"""

Word = Literal[
    "reproduced", "consistent", "not reproduced", "inconclusive", "does not apply", "not judged"
]


class RunRow(Happened):
    """One run: a row of the long table; what happened is as in its record.

    Attributes:
        role, name, seed, nudge, key: which run; ``key`` is the sha256 that names its record.
        place: in the grid by validation accuracy, from 1; None outside it.
        commit: of the code; ``cpu``, ``cores``, ``load``, ``gpu``, ``threads``: of the machine.
    """

    role: Role
    name: str
    seed: int
    nudge: int
    key: str
    place: int | None = None
    settings: Settings
    commit: str | None
    cpu: str
    cores: int
    load: float | None
    gpu: str | None
    threads: int

    @classmethod
    def of(cls, record: Record, place: int | None = None) -> Self:
        """What ``record`` says, at its ``place``."""
        asked, where = record.asked, record.where
        facts = {name: getattr(asked, name) for name in ("role", "name", "seed", "nudge", "key")}
        names = ("cpu", "cores", "load", "gpu", "threads")
        facts |= {name: getattr(where, name) for name in names} | dict(record.happened)
        return cls(settings=asked.settings, commit=where.git_commit, place=place, **facts)

    @property
    def is_slowed(self) -> bool:
        """Whether the machine had more to do than it has cores, so that times are too long."""
        return self.load is not None and self.load > self.cores + 0.5

    @property
    def is_final(self) -> bool:
        """Whether it is cited: neither of a search nor nudged."""
        return self.role not in SEARCHED and not self.nudge

    @property
    def test_accuracy(self) -> float | None:
        """On test at the best epoch by validation, a fraction; None where not measured."""
        return self.test.fraction if self.test else None

    @property
    def val_accuracy(self) -> float | None:
        """On validation at the best epoch, a fraction; None where not measured."""
        return self.val.fraction if self.val else None


def done_runs(runs: Iterable[RunRow], role: Role, name: str) -> list[RunRow]:
    """The runs of one method that have a result, nudged ones aside."""
    own = (run for run in runs if (run.role, run.name) == (role, name))
    return [run for run in own if run.is_done and not run.nudge]


class Variance(Facts):
    """What one method's accuracy varies with.

    Attributes:
        components: of the (seed, review) table, by movie where movies are known.
        by_review: the interval as if each review were of its own movie; None where none is known.
        median, interquartile_mean: of the test accuracy over runs.
    """

    components: Components
    by_review: Interval | None
    median: float
    interquartile_mean: float


class MethodRow(Facts):
    """A method, the grid's winner or a runner-up, over its seeds.

    Attributes:
        trains: what trains, in words; ``configuration``: of the grid, for the winner and others.
        learning_rate: of its runs, None before the first.
        spread: of test accuracy between the best and the worst seed; ``nudged``: between the first
            seed's run and its repeats from almost the same weights, None without any.
        seconds: of its fastest run, as other work only adds; ``peak_memory_bytes``: the greatest.
        seeds: asked for; ``runs_done``, ``runs_diverged``, ``runs_one_class``: how many of them.
        train, val, test: mean accuracy over the ok runs with its t interval over seeds, clipped to
            [0, 1]; diverged runs have no accuracy, runs that predict a single class are included.
        test_sampling: mean test accuracy with its Wilson interval over reviews.
        interval: of the mean test accuracy for new seeds and new reviews (for new reviews alone
            with one seed), clipped to [0, 1]; None where the runs have no predictions.
        variance: where that interval comes from; ``scores``: means over runs, see
            ``statistics.Scores``; both of runs with predictions.
        unseen_movies, unique_texts: mean test accuracy with its Wilson interval over reviews whose
            movie has no training review, or whose text occurs nowhere else in the study.
        published: the article's method of this name; ``comparable``: whether its numbers are about
            the same thing; ``note``: why not.
        grid_val_accuracy: validation accuracy in the grid.
        difference_from_winner: of test accuracy, for new seeds and new reviews.
    """

    role: Role
    name: str
    trains: str
    configuration: str | None = None
    trainable_parameters: int | None
    learning_rate: float | None
    spread: float | None
    nudged: float | None
    seconds: float | None
    peak_memory_bytes: int | None
    seeds: list[int]
    runs_done: int
    runs_diverged: int
    runs_one_class: int
    train: Interval | None
    val: Interval | None
    test: Interval | None
    test_sampling: Interval | None = None
    interval: Interval | None = None
    variance: Variance | None = None
    scores: dict[str, float | None] = Field(default_factory=dict)
    unseen_movies: Interval | None = None
    unique_texts: Interval | None = None
    published: PublishedMethod | None = None
    comparable: bool = False
    note: str = ""
    grid_val_accuracy: float | None = None
    difference_from_winner: Interval | None = None

    @property
    def words(self) -> str:
        """``LoRA default``, or ``LoRA default, own rate`` for what a sweep chose."""
        return method_in_words(self.name) + (", own rate" if self.role == "tuned" else "")

    @property
    def is_unstable(self) -> bool:
        """Whether nudged runs lie as far apart as seeds do."""
        return bool(self.nudged and self.spread is not None and self.nudged >= self.spread)


class PValues(Facts):
    """A p value before and after Holm's correction over all tests of the study's verdicts."""

    raw: float
    holm: float


class Verdict(Facts):
    """What a study says of one claim of the article; accuracies in percent, differences in points.

    Attributes:
        word: see ``Results.verdict_words``; ``why``: the case that gave it; ``reason``: in words.
        values: what was measured: one per seed; for a selection its place, the number of
            configurations and the points behind the best.
        measured_percent: with its interval, None for counts and what is not judged.
        measured_count: the count or ratio.
        seeds_needed: with how many seeds the study would show a difference as large as the margin,
            or sameness within it; None where it has decided, or no number of seeds would.
        no_seeds: why no number of seeds would.
        scope: which study it is about, where that is not the article's setting.
    """

    claim: Claim
    word: Word
    why: str = ""
    reason: str = ""
    values: tuple[float, ...] = ()
    measured_percent: Interval | None = None
    measured_count: float | None = None
    p_difference: PValues | None = None
    p_sameness: PValues | None = None
    seeds_needed: int | None = None
    no_seeds: str = ""
    scope: str = ""


class Comparison(Facts):
    """Two methods on the seeds and reviews that both have: the second minus the first.

    Attributes:
        differences: of test accuracy, one per seed.
        interval, p_value, p_sameness: for new seeds and new reviews, uncorrected, of a difference
            and of less than ``report.sameness_margin``; None without predictions, p also for one
            seed; ``seeds_share``: of the variance.
        over_seeds: the t interval on these reviews.
        probability_of_improvement: that a run of the second is better than one of the first.
    """

    first: str
    second: str
    seeds: list[int]
    differences: list[float]
    interval: Interval | None
    p_value: float | None
    p_sameness: float | None
    seeds_share: float | None
    over_seeds: Interval
    probability_of_improvement: float


class Missing(Facts):
    """A run that the study asks for and that has no result, with the reason."""

    role: Role
    label: str
    reason: str

    def __str__(self) -> str:
        return f"{self.label} ({self.reason})"


class Collapse(Facts):
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

    @classmethod
    def by_alpha(
        cls, ends: Iterable[tuple[Any, ...]], level: float, classes: int = 2
    ) -> list[Self]:
        """One for each alpha, from the alpha, the test accuracy (None where diverged) and whether a
        single class is predicted, of each configuration, for so many ``classes``.
        """
        table = pd.DataFrame(ends, columns=["alpha", "accuracy", "one_class"])
        rows = []
        for alpha, mine in table.groupby("alpha"):
            n, one_class = len(mine), int(mine["one_class"].sum())
            k = n - int((mine["accuracy"].astype(float) >= 2 * COLLAPSED_BELOW / classes).sum())
            share = exact_interval(k, n, level, "configurations")
            facts = {"alpha": alpha, "configurations": n, "collapsed": k, "one_class": one_class}
            rows.append(cls(**facts, share=share))
        return rows


class Grid(Facts):
    """The sweep over LoRA configurations.

    Attributes:
        asked, done: configurations; ``done`` have a result.
        winner_by_validation: None while the grid is incomplete or where all diverged.
        not_excluded: configurations that can't be excluded as the best on validation, best first,
            see ``statistics.not_excluded_as_best``; None without everyone's predictions.
        winner: over its fresh seeds, None before them; ``runners_up``: trained again next to it.
    """

    asked: int
    done: int
    diverged: int
    one_class: int
    collapse: list[Collapse]
    winner_by_validation: str | None
    not_excluded: list[str] | None = None
    winner: MethodRow | None
    runners_up: list[MethodRow]


class Tried(Facts):
    """A setting that the sweep of a method tried.

    Attributes:
        val: mean accuracy over its seeds, with the interval for new seeds and new reviews.
        runs, spread, nudged, diverged: see ``grid.choice.Trial``.
        stable: whether it could be chosen before others; ``chosen``: whether it was.
        may_be_best: whether none of the method's other settings is shown to be better.
    """

    method: str
    learning_rate: float
    alpha: float | None
    rank: int | None
    val: Interval
    runs: int
    spread: float
    nudged: float | None
    diverged: int
    stable: bool
    chosen: bool
    may_be_best: bool


class Finding(Facts):
    """The verdict on a claim about rates for one method.

    Attributes:
        measured: the ratio, slope or difference (points); ``low``, ``high``: its bounds, None where
            it may lie anywhere beyond what was tried.
        seeds_needed: with how many what it lacks would be shown, see ``tuning``; None where it is
            decided, a bound is open, or the reviews are too few for any number.
    """

    claim: RateClaim
    method: str
    word: Word
    measured: float
    low: float | None
    high: float | None
    seeds_needed: int | None


class Tuning(Facts):
    """What the sweeps say; their intervals are of ``level``, and so are all findings together."""

    trials: int
    seeds: list[int]
    nudges: int
    runs: int
    unstable_beyond: float
    level: float
    tried: list[Tried]
    findings: list[Finding]


class Results(Facts):
    """Everything that a study's report says.

    Attributes:
        title, subject, reservation, stamp, remark: what the study is, and must say, in words.
        study: the parameters; addresses, paths and the machine's are left out.
        tuned: each method at the setting that its sweep chose; ``tuned_comparisons``: of these.
        tuning: what the sweeps tried; None without sweeps, or before they are finished.
        runs: every record of the study, methods first, then the grid's by validation accuracy.
        records_ignored, copies: records of other parameters, and at other places than they name.
        verdict_words: what each word means.
        without_predictions: runs with a test accuracy, grid aside, whose predictions are absent.
        unseen_majority: share of the more frequent class among test reviews of unseen movies.
        machines: each machine and software once, with its number of runs; ``year``: of the last.
    """

    schema_version: Literal[4] = 4
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
    verdict_words: dict[Word, str]
    verdicts: list[Verdict] = Field(default_factory=list)
    methods: list[MethodRow]
    grid: Grid
    comparisons: list[Comparison] = Field(default_factory=list)
    tuned: list[MethodRow] = Field(default_factory=list)
    tuned_comparisons: list[Comparison] = Field(default_factory=list)
    tuning: Tuning | None = None
    without_predictions: int = 0
    unseen_majority: float | None = None
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
    def cited(self) -> list[MethodRow]:
        """``rows``, and each method at its own rate where that is another one."""
        return self.rows + [row for row in self.tuned if row.role == "tuned"]

    @property
    def chosen(self) -> list[tuple[MethodRow, float]]:
        """What grid and sweeps chose, on fresh seeds, with the validation accuracy before them."""
        rows = [row for row in (self.grid.winner, *self.grid.runners_up) if row]
        tried = self.tuning.tried if self.tuning else []
        before = {one.method: one.val.estimate for one in tried if one.chosen}
        found = [(row, row.grid_val_accuracy) for row in rows]
        found += [(row, before.get(row.name)) for row in self.tuned]
        return [(row, value) for row, value in found if row.val and value is not None]

    @property
    def confidence(self) -> float:
        """Of all intervals."""
        return float(self.study["report"]["confidence"])

    @property
    def cells(self) -> list[RunRow]:
        """The grid's configurations, best validation accuracy first."""
        return [run for run in self.runs if run.role == "cell"]

    @property
    def single_runs(self) -> list[RunRow]:
        """All but those of searches, from which a choice is made."""
        return [run for run in self.runs if run.role not in SEARCHED]

    def runs_of(self, row: MethodRow) -> list[RunRow]:
        """The runs of ``row`` that have a result."""
        return done_runs(self.runs, row.role, row.name)

    def rounded(self) -> Self:
        """The same to ``DIGITS``, so that any machine writes the same bytes."""
        text = self.model_dump_json()
        content = json.loads(text, parse_float=lambda n: float(f"{float(n):.{DIGITS}g}"))
        return self.model_validate_json(json.dumps(content))

    def to_json(self) -> bytes:
        """The content of ``results.json``."""
        return self.model_dump_json(indent=1).encode() + b"\n"
