"""What a finished grid chooses by validation alone: its winner, and what is trained next to it."""

from collections.abc import Iterable

from lora_replication.article import article
from lora_replication.errors import IncompleteError
from lora_replication.record import Count, Record, Role, Run
from lora_replication.statistics import two_proportions_test
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
    winner, *others = (cell for cell in by_validation(cells) if cell.happened.val)
    best = _val(winner)

    def is_near(cell: Record) -> bool:
        p_value = two_proportions_test(best.correct, _val(cell).correct, best.reviews)
        return p_value > 1 - study.report.confidence

    chosen = list(filter(is_near, others))[: study.grid.runners_up]
    theirs = article().methods[ARTICLES_CHOICE].lora
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
