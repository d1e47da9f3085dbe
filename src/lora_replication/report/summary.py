"""Records of a study, summed up: what every table, figure and page of the report is made from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from lora_replication.article import PublishedMethod, published
from lora_replication.errors import DataError
from lora_replication.grid.choice import runners_up
from lora_replication.grid.space import cell_jobs, runner_up_jobs
from lora_replication.jobs import method_jobs
from lora_replication.record import Record
from lora_replication.report.wording import of, what_trains
from lora_replication.statistics import Interval, cut, paired_t, t_interval, wilson_interval
from lora_replication.study import MethodParams, Study

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
WINNER = "grid_winner"


@dataclass(frozen=True)
class Missing:
    """A run that the study asks for and that has no result, with the reason."""

    role: str
    name: str
    seed: int
    reason: str

    def __str__(self) -> str:
        return f"{self.name} seed {self.seed} ({self.reason})"


@dataclass(frozen=True)
class MethodSummary:
    """One method, or the grid's winner, over its seeds.

    Attributes:
        name, role: as in the records.
        trains: what trains, in words.
        seeds: the seeds asked for.
        runs: the runs that have a result (status ok or diverged), by seed.
        parts: for each part of the split the mean accuracy over the ok runs, a fraction, with its
            interval over seeds, cut to 0 and 1; null without one.
        test_sampling: the mean test accuracy with its interval over reviews (n is the size of the
            test set); null without a run.
        published: the article's method of this name, or null.
        comparable: whether the article's numbers are about the same thing as this method's.
    """

    name: str
    role: str
    trains: str
    seeds: tuple[int, ...]
    runs: tuple[Record, ...]
    parts: dict[Part, Interval | None]
    test_sampling: Interval | None
    published: PublishedMethod | None
    comparable: bool

    @property
    def trainable_parameters(self) -> int | None:
        """Number of scalars that training changed, or null before the first run."""
        return self.runs[0].happened.trainable_parameters if self.runs else None

    @property
    def tested(self) -> str:
        """Its name and how many of the runs asked for have a test accuracy, for captions: ``full n
        = 3``, or ``full n = 2 of 3``.
        """
        return f"{self.name} n = {of(self.parts['test'].n if self.parts['test'] else 0, len(self.seeds))}"

    @property
    def diverged(self) -> int:
        """Runs whose loss or weights stopped being finite; they have no accuracy and are in no
        mean.
        """
        return sum(run.happened.status == "diverged" for run in self.runs)

    @property
    def one_class(self) -> int:
        """Runs that answer one class for every test review; they are in the means."""
        return sum(run.happened.one_class for run in self.runs)


@dataclass(frozen=True)
class GridSummary:
    """The sweep over LoRA configurations.

    Attributes:
        asked: number of configurations in the grid.
        cells: those with a result, best validation accuracy first, diverged ones last.
        unfinished: records of configurations that ended without a result.
        winner: the configuration that was trained again, over its fresh seeds; null before that.
        runners_up: those trained again beside it, best by validation first; with those of which no
            run is done yet left out.
    """

    asked: int
    cells: tuple[Record, ...]
    unfinished: tuple[Record, ...]
    winner: MethodSummary | None
    runners_up: tuple[MethodSummary, ...] = ()

    def difference_from_winner(self, row: MethodSummary, confidence: float) -> Interval | None:
        """Test accuracy of ``row`` less the winner's, a fraction, paired over the fresh seeds that
        both have; null without any.
        """
        winners = (
            {run.asked.seed: run.happened.test for run in self.winner.runs} if self.winner else {}
        )
        pairs = [
            (test, own)
            for run in row.runs
            if (test := winners.get(run.asked.seed)) and (own := run.happened.test)
        ]
        return (
            paired_t(
                [a.fraction for a, _ in pairs], [b.fraction for _, b in pairs], confidence
            ).difference
            if pairs
            else None
        )

    @property
    def complete(self) -> bool:
        """Whether every configuration has a result."""
        return len(self.cells) == self.asked

    @property
    def best(self) -> Record | None:
        """The configuration with the highest validation accuracy so far; the winner once the grid
        is complete.
        """
        return self.cells[0] if self.cells and self.cells[0].happened.val else None

    @property
    def diverged(self) -> int:
        """Configurations whose loss or weights stopped being finite."""
        return sum(cell.happened.status == "diverged" for cell in self.cells)

    @property
    def one_class(self) -> int:
        """Configurations that answer one class for every test review."""
        return sum(cell.happened.one_class for cell in self.cells)


@dataclass(frozen=True)
class Summary:
    """Everything that the report tells.

    Attributes:
        study: what was asked.
        methods: in the study's order.
        grid: the sweep.
        runs: the records of methods and winner, also those that ended without a result, in the
            order of tables.
        missing: what the study asks for and has no result.
        ignored: records that belong to other parameters, data, weights or code than the study's
            now.
        copies: folders of records that lie where they don't belong; they are counted nowhere.
        asked_beside: number of runs asked for beside the grid's winner, known once the grid is
            complete.
    """

    study: Study
    methods: tuple[MethodSummary, ...]
    grid: GridSummary
    runs: tuple[Record, ...]
    missing: tuple[Missing, ...]
    ignored: int
    copies: tuple[str, ...] = ()
    asked_beside: int = 0

    @property
    def asked(self) -> int:
        """Number of runs that the study asks for, grid and winner included."""
        study = self.study
        return (
            len(study.run.methods) * len(study.run.seeds)
            + self.grid.asked
            + len(study.grid.winner_seeds)
            + self.asked_beside
        )

    @property
    def rows(self) -> tuple[MethodSummary, ...]:
        """The methods, and the grid's winner where it was trained on fresh seeds."""
        return (*self.methods, self.grid.winner) if self.grid.winner else self.methods

    @property
    def records(self) -> tuple[Record, ...]:
        """Every record that the report shows."""
        return self.runs + self.grid.cells + self.grid.unfinished


def summarise(
    study: Study, records: Iterable[Record], ignored: int = 0, copies: Sequence[str] = ()
) -> Summary:
    """Sum up ``records`` against what ``study`` asks for.

    Args:
        study: what was asked.
        records: those whose key is among the study's; one that the study does not ask for, or a
            second one of the same run, is counted as ignored.
        ignored: number of records left out before; ``copies``: folders of records left out because
            they lie where they don't belong.

    Raises:
        DataError: runs of one method were tested on different numbers of reviews.
    """
    records = list(records)
    beside = _beside(study, records)
    expected = dict.fromkeys((*expected_runs(study), *beside))
    found: dict[tuple[str, str, int], Record] = {}
    for record in records:
        identity = (record.asked.role, record.asked.name, record.asked.seed)
        if identity in expected and identity not in found:
            found[identity] = record
        else:
            ignored += 1
    ordered = [found[run] for run in expected if run in found]
    methods = tuple(
        _method(
            study,
            name,
            "method",
            study.run.seeds,
            [r for r in ordered if r.asked.role == "method" and r.asked.name == name],
        )
        for name in study.run.methods
    )
    return Summary(
        study=study,
        methods=methods,
        grid=_grid(study, [r for r in ordered if r.asked.role != "method"]),
        runs=tuple(record for record in ordered if record.asked.role != "cell"),
        missing=tuple(
            _missing(*run, found.get(run))
            for run in expected
            if run not in found or not found[run].is_done
        ),
        ignored=ignored,
        copies=tuple(copies),
        asked_beside=len(beside),
    )


def expected_runs(study: Study) -> Iterator[tuple[str, str, int]]:
    """Role, name and seed of every run that the study asks for: methods, then the grid, then its
    winner on fresh seeds.
    """
    yield from ((job.role, job.name, job.seed) for job in (*method_jobs(study), *cell_jobs(study)))
    yield from (("winner", WINNER, seed) for seed in study.grid.winner_seeds)


def _beside(study: Study, records: Sequence[Record]) -> list[tuple[str, str, int]]:
    """Role, name and seed of the runs beside the grid's winner, once every configuration has a
    result.
    """
    cells = {
        record.asked.name: record
        for record in records
        if record.asked.role == "cell" and record.is_done
    }
    jobs = cell_jobs(study)
    if not all(job.name in cells for job in jobs) or not any(
        cell.happened.val for cell in cells.values()
    ):
        return []
    return [
        (job.role, job.name, job.seed)
        for job in runner_up_jobs(study, runners_up(study, jobs, cells))
    ]


def _missing(role: str, name: str, seed: int, record: Record | None) -> Missing:
    if record is None:
        return Missing(role, name, seed, "not run")
    error = f": {record.happened.error}" if record.happened.error else ""
    return Missing(role, name, seed, f"{record.happened.status}{error}")


def _method(
    study: Study, name: str, role: str, seeds: Sequence[int], records: Sequence[Record]
) -> MethodSummary:
    runs = tuple(record for record in records if record.is_done)
    article = published().get(name) if role == "method" else None
    return MethodSummary(
        name=name,
        role=role,
        trains=_trains(study.methods[name])
        if role == "method"
        else what_trains("lora", runs[0].asked.settings["lora"]),
        seeds=tuple(seeds),
        runs=runs,
        parts={part: _over_seeds(runs, part, study.report.confidence) for part in PARTS},
        test_sampling=_over_reviews(name, runs, study.report.confidence),
        published=article,
        comparable=article is not None
        and study.is_the_articles
        and article.configures(study.methods[name]),
    )


def _trains(method: MethodParams) -> str:
    return what_trains(method.trains, method.lora.model_dump() if method.lora else None)


def _over_seeds(runs: Sequence[Record], part: Part, level: float) -> Interval | None:
    counts = [getattr(run.happened, part) for run in runs]
    accuracies = [count.fraction for count in counts if count]
    return cut(t_interval(accuracies, level), 0.0, 1.0) if accuracies else None


def _over_reviews(name: str, runs: Sequence[Record], level: float) -> Interval | None:
    counts = [run.happened.test for run in runs if run.happened.test]
    sizes = {count.reviews for count in counts}
    if len(sizes) > 1:
        raise DataError(
            f"{name}: its runs were tested on {sorted(sizes)} reviews; train them again on one data folder"
        )
    return (
        wilson_interval(fmean(count.correct for count in counts), sizes.pop(), level)
        if counts
        else None
    )


def _grid(study: Study, records: Sequence[Record]) -> GridSummary:
    cells = [record for record in records if record.asked.role == "cell"]
    winners = [record for record in records if record.asked.role == "winner" and record.is_done]
    beside = [record for record in records if record.asked.role == "runner_up" and record.is_done]
    return GridSummary(
        asked=len(cell_jobs(study)),
        cells=tuple(sorted((cell for cell in cells if cell.is_done), key=_by_validation)),
        unfinished=tuple(cell for cell in cells if not cell.is_done),
        winner=_method(study, WINNER, "winner", study.grid.winner_seeds, winners)
        if winners
        else None,
        runners_up=tuple(
            _method(
                study,
                name,
                "runner_up",
                study.grid.winner_seeds,
                [record for record in beside if record.asked.name == name],
            )
            for name in dict.fromkeys(record.asked.name for record in beside)
        ),
    )


def _by_validation(cell: Record) -> tuple[float, int]:
    """Highest validation accuracy first; of equal ones the smallest, and of those the first in the
    grid's order.
    """
    happened = cell.happened
    return (-happened.val.fraction if happened.val else 1.0, happened.trainable_parameters or 0)
