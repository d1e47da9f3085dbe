"""What the sweeps of methods tried, and the setting that each chooses by validation alone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from lora_replication.grid.space import repeats
from lora_replication.record import Record, Run, Settings
from lora_replication.workspace import Workspace


@dataclass(frozen=True)
class Trial:
    """A setting that the sweep of a method tried.

    Attributes:
        records: its runs, one a seed, then the nudged ones.
        accuracy: mean on validation over its seeds, 0 to 1; a diverged run counts as 0.5.
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
    accuracies = [r.happened.val.fraction if r.happened.val else 0.5 for r in records]
    plain = [a for r, a in zip(records, accuracies, strict=True) if not r.asked.nudge]
    first = [
        a for r, a in zip(records, accuracies, strict=True) if r.asked.seed == records[0].asked.seed
    ]
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
        if settings != Settings.of(study, study.methods[name]) or name not in study.run.methods:
            runs += [workspace.run("tuned", name, settings, *repeat) for repeat in final]
    return runs
