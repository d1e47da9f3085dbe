"""Training both sides on more seeds, in steps, until a comparison is decided."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import count, islice
from pathlib import Path

from lora_replication.compare.command import Compared, rule_of
from lora_replication.compare.decision import Pairs, decide, looks_until
from lora_replication.compare.sides import Side, method_name, recorded, runs_of, side_of
from lora_replication.errors import ParameterError
from lora_replication.plan import method_run
from lora_replication.reading import read_study, study_names
from lora_replication.record import Record, Run
from lora_replication.report.verdicts import FEWEST
from lora_replication.single import SINGLES, prepare_if_needed
from lora_replication.study import Study
from lora_replication.workspace import Workspace

MOST_SEEDS = 1_000


def compare_training(
    first: str, second: str, study: str, margin: float | None, root: Path, most: int, step: int
) -> Compared:
    """Compare two methods of one study, training more seeds while it is undecided.

    It is looked at the seeds of the study, then after every ``step`` more, and at ``most``; all
    looks together have the study's chance of a false word. Runs that the study does not have go to
    ``singles/``, as those of ``train --method`` do, and are found there by the next start.

    Raises:
        ParameterError: a side is no method of the one study, or a number is not allowed.
        IncompleteError, EnvironmentProblem: see ``training.run.perform_one``.
    """
    parts = [words.rpartition(":") for words in (first, second)]
    methods = [method for _, _, method in parts]
    studies = {where or study for where, _, _ in parts}
    if len(studies) > 1 or not studies <= {*study_names(root)}:
        raise ParameterError(
            f"--seeds-at-most trains {first} and {second}; allowed: two methods of one study"
        )
    asked = read_study(studies.pop(), root)
    fewest = max(FEWEST, len(asked.run.seeds))
    if not fewest <= most <= MOST_SEEDS or step < 1:
        raise ParameterError(
            f"--seeds-at-most is {most}, --step {step}; allowed: whole numbers from {fewest} "
            f"({len(asked.run.seeds)} seeds are the study's own) to {MOST_SEEDS:,}, and from 1"
        )
    looks = looks_until(fewest, most, step)
    rule, place = rule_of(asked, margin, looks), Workspace(asked, root, SINGLES)
    prepare_if_needed(place)
    workspace, records = recorded(asked, root)
    examples = [_example(method, records, place) for method in methods]
    seeds = _seeds(asked, most)
    for look, number in enumerate(looks):
        runs = [
            [place.run(run.role, run.name, run.settings, seed) for seed in seeds[:number]]
            for run in examples
        ]
        for pair in zip(*runs, strict=True):
            for run in pair:
                _train(place, workspace, run)
        first_side, second_side = (
            _side(*side, (workspace, place)) for side in zip(methods, runs, strict=True)
        )
        decision = decide(Pairs.of(first_side, second_side), rule, look)
        if decision.word != "undecided" or decision.why == "few_reviews":
            break
    return Compared.of((first_side, second_side), rule, decision, look + 1)


def _example(method: str, records: Sequence[Record], place: Workspace) -> Run:
    """Any run of ``method``. Raises ``ParameterError`` where the study has none."""
    own = runs_of(method, place, records)
    return own[0].asked if own else method_run(place, method, place.study.run.seeds[0])


def _seeds(study: Study, most: int) -> list[int]:
    """The study's own, then those after them by which nothing was chosen."""
    used = {*(study.sweeps.seeds if study.sweeps else ())}
    if study.grid:
        used |= {study.grid.seed, *study.grid.winner_seeds}
    own = sorted(study.run.seeds)
    fresh = (seed for seed in count(own[-1] + 1) if seed not in used)
    return own + list(islice(fresh, most - len(own)))


def _train(place: Workspace, workspace: Workspace, run: Run) -> None:
    """Train ``run``, in ``place``, unless it is recorded."""
    if workspace.done(run) or place.done(run):
        return
    from lora_replication.tracking.mirror import open_mirror
    from lora_replication.training.run import perform_one

    record = perform_one(place, run, partial(open_mirror, place.study.tracking))
    test = record.happened.test
    result = f"test {100 * test.fraction:.1f} %" if test else record.happened.status
    print(f"{run.words}: {result}", file=sys.stderr, flush=True)


def _side(method: str, runs: Sequence[Run], workspaces: Sequence[Workspace]) -> Side:
    """What is recorded of ``runs`` in the first or else the second of these."""
    sides = []
    for workspace in workspaces:
        found = [record for run in runs if (record := workspace.done(run))]
        sides.append(side_of(method_name(method), workspace, found))
    return replace(sides[0], answers={**sides[1].answers, **sides[0].answers})
