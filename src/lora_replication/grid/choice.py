"""What a finished search chooses by validation alone: the grid's winner and what is trained next to
it, and the setting of each method that was tuned.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from lora_replication.article import article
from lora_replication.errors import IncompleteError
from lora_replication.grid.space import repeats
from lora_replication.record import Count, Record, Role, Run, Settings
from lora_replication.workspace import Workspace

ARTICLES_CHOICE = "lora_tuned"
"""The article's name for the configuration that it chose from its grid."""


def winner_by_validation(cells: Iterable[Record]) -> Record:
    """The configuration with the most validation reviews right, then fewest trainable parameters.

    Of equals the first. Raises ``IncompleteError`` where every configuration diverged.
    """
    ordered = by_validation(cells)
    if not ordered or not ordered[0].happened.val:
        raise IncompleteError(
            "grid: every configuration diverged, so there is no winner; "
            "set smaller grid.alpha or train.learning_rate"
        )
    return ordered[0]


def runners_up(workspace: Workspace, cells: Iterable[Record]) -> list[Record]:
    """The configurations trained again next to the winner, none where ``grid.runners_up`` is 0.

    First so many of those statistically indistinguishable from it, best first: two accuracies on as
    many other reviews would differ as much in more than 1 - ``report.confidence`` of cases. That
    is a rule for what to run; ``statistics.not_excluded_as_best`` is the set that holds the best.
    Then the article's choice, where the grid has it and it is not among these.
    """
    study = workspace.study
    if not (study.grid and study.grid.runners_up):
        return []
    from lora_replication.statistics import two_proportions_test  # scipy takes half a second

    winner, *others = (cell for cell in by_validation(cells) if cell.happened.val)
    best = _val(winner)

    def is_near(cell: Record) -> bool:
        p_value = two_proportions_test(best.correct, _val(cell).correct, best.reviews)
        return p_value > 1 - study.report.confidence

    chosen = list(filter(is_near, others))[: study.grid.runners_up]
    theirs = None if study.data.source == "table" else article().methods[ARTICLES_CHOICE].lora
    return chosen + [
        cell for cell in others if cell.asked.settings.lora == theirs and cell not in chosen
    ]


def fresh_runs(workspace: Workspace, cells: list[Record]) -> list[Run]:
    """The winner and the runners-up again, on fresh seeds and with their training accuracy."""
    again: list[tuple[Role, str, Record]] = [("winner", "grid_winner", winner_by_validation(cells))]
    again += [("runner_up", cell.asked.name, cell) for cell in runners_up(workspace, cells)]
    update = {"evaluate_train": True, "stop_one_class": False}
    return [
        workspace.run(role, name, cell.asked.settings.model_copy(update=update), seed)
        for role, name, cell in again
        for seed in (workspace.study.grid.winner_seeds if workspace.study.grid else ())
    ]


def by_validation(cells: Iterable[Record]) -> list[Record]:
    """The configurations in their places: most validation reviews right first, of equal ones the
    smallest, then those that diverged, then those without a result.
    """

    def place(cell: Record) -> tuple[bool, bool, int, int]:
        val, size = cell.happened.val, cell.happened.trainable_parameters or 0
        return not cell.is_done, val is None, -_val(cell).correct, size

    return sorted(cells, key=place)


def _val(record: Record) -> Count:
    return record.happened.val or Count(correct=0, reviews=1, ones=0)


@dataclass(frozen=True)
class Trial:
    """A setting that the sweep of a method tried.

    Attributes:
        records: its runs, one a seed, then the nudged ones.
        accuracy: mean on validation over its seeds, 0 to 1; a diverged run is right by chance.
        spread: between the highest and the lowest of all its runs, nudged ones included; the
            ``nudged`` one between the runs of the first seed alone, None where nothing is nudged.
        diverged: how many of all its runs.
    """

    records: tuple[Record, ...]
    accuracy: float
    spread: float
    nudged: float | None
    diverged: int

    @property
    def settings(self) -> Settings:
        """Of each of its runs."""
        return self.records[0].asked.settings

    def is_stable(self, unstable_beyond: float) -> bool:
        """Whether no run diverged and none is further from another than so many points."""
        return not self.diverged and round(100 * self.spread, 9) <= unstable_beyond


def trials_of(records: Iterable[Record]) -> dict[str, list[Trial]]:
    """The settings of each method, in the order of ``records``, which are all that were asked."""
    tried: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        tried.setdefault((record.asked.name, record.asked.settings.axes), []).append(record)
    trials: dict[str, list[Trial]] = {}
    for (method, _), own in tried.items():
        trials.setdefault(method, []).append(_trial(own))
    return trials


def _trial(records: list[Record]) -> Trial:
    chance = 1 / len(records[0].asked.settings.classes)
    accuracies = [r.happened.val.fraction if r.happened.val else chance for r in records]
    pairs = list(zip(records, accuracies, strict=True))
    plain = [a for r, a in pairs if not r.asked.nudge]
    first = [a for r, a in pairs if r.asked.seed == records[0].asked.seed]
    return Trial(
        records=tuple(records),
        accuracy=fmean(plain),
        spread=max(accuracies) - min(accuracies),
        nudged=max(first) - min(first) if len(first) > 1 else None,
        diverged=sum(record.happened.status == "diverged" for record in records),
    )


def chosen_trial(trials: Sequence[Trial], unstable_beyond: float) -> Trial:
    """Of the stable ones (of all, where none is) that with the highest mean accuracy; of equals
    that with the fewest trainable parameters, then the lowest rate.
    """
    stable = [trial for trial in trials if trial.is_stable(unstable_beyond)]

    def place(trial: Trial) -> tuple[float, int, float]:
        trained = trial.records[0].happened.trainable_parameters or 0
        return -trial.accuracy, trained, trial.settings.learning_rate

    return min(stable or trials, key=place)


def tuned_runs(workspace: Workspace, records: Iterable[Record]) -> list[Run]:
    """Each method of the sweeps at its chosen setting, on the seeds of the final runs.

    A method whose own setting was chosen is not among them: its runs are those already.
    """
    study = workspace.study
    if study.sweeps is None:
        return []
    runs, final = [], repeats(study.run.seeds, study.run.nudges)
    for name, trials in trials_of(records).items():
        chosen = chosen_trial(trials, study.sweeps.unstable_beyond).settings
        update = {"evaluate_train": True, "evaluate_test": True}
        settings = chosen.model_copy(update=update)
        own = Settings.of(study, study.methods[name], classes=settings.classes)
        if settings != own or name not in study.run.methods:
            runs += [workspace.run("tuned", name, settings, *repeat) for repeat in final]
    return runs
