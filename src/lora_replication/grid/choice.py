"""What a finished grid chooses, looking at validation alone: its winner, and the configurations that are trained again beside it."""

from collections.abc import Iterable, Mapping, Sequence

from lora_replication.article import published
from lora_replication.errors import IncompleteError
from lora_replication.jobs import Job
from lora_replication.params import Study
from lora_replication.records import Record
from lora_replication.statistics import two_proportions_test

ARTICLES_CHOICE = "lora_tuned"
"""The article's name for the configuration that it chose from its grid."""


def winner_by_validation(jobs: Iterable[Job], records: Mapping[str, Record]) -> Job:
    """The configuration with the most validation reviews right; of equals the one with fewer trainable parameters, then the first.

    Args:
        jobs: the grid's, in its order; ``records``: by name, of those that are done.

    Raises:
        IncompleteError: every configuration diverged.
    """
    ordered = _by_validation(jobs, records)
    if not ordered:
        raise IncompleteError("grid: every configuration diverged, so there is no winner; set smaller grid.alpha or train.learning_rate")
    return ordered[0]


def runners_up(study: Study, jobs: Iterable[Job], records: Mapping[str, Record]) -> list[Job]:
    """The configurations trained again beside the winner: the ``grid.runners_up`` best that can't be told from it, the article's choice.

    Can't be told means that two accuracies measured on as many other reviews would differ as much in more than 1 - ``report.confidence``
    of cases. On the same reviews a paired test would tell more of them apart, so none is left out that belongs here.

    Returns:
        Best first, the article's choice last where the grid holds it and it is neither winner nor among the others; nothing where
        ``grid.runners_up`` is 0.
    """
    if not study.grid.runners_up:
        return []
    winner, *others = _by_validation(jobs, records)
    near = [job for job in others if _p_value(records[winner.name], records[job.name]) > 1 - study.report.confidence]
    chosen = near[: study.grid.runners_up]
    articles = [job for job in others if published()[ARTICLES_CHOICE].is_lora(job.settings.as_dict()["lora"]) and job not in chosen]
    return chosen + articles


def _by_validation(jobs: Iterable[Job], records: Mapping[str, Record]) -> list[Job]:
    live = [job for job in jobs if job.name in records and records[job.name].happened.val]
    return sorted(live, key=lambda job: (-_correct(records[job.name])[0], records[job.name].happened.trainable_parameters or 0))


def _correct(record: Record) -> tuple[int, int]:
    counted = record.happened.val
    return (counted.correct, counted.reviews) if counted else (0, 1)


def _p_value(first: Record, second: Record) -> float:
    (one, reviews), (other, _) = _correct(first), _correct(second)
    return two_proportions_test(one, other, reviews)


def chosen_names(winner: Job, beside: Sequence[Job]) -> str:
    """For people: the winner, and how many are trained beside it."""
    return winner.name + (f", and {len(beside)} beside it: {', '.join(job.name for job in beside)}" if beside else "")
