"""Training both sides, tuned first where asked, on more seeds until a comparison is decided."""

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
from lora_replication.files import only_writer
from lora_replication.grid.choice import tuned_runs
from lora_replication.grid.space import trial_runs
from lora_replication.grid.sweep import search
from lora_replication.plan import checked_method, method_run, progress
from lora_replication.reading import read_study, study_names
from lora_replication.record import FOLDERS, Record, Run
from lora_replication.report.verdicts import FEWEST
from lora_replication.single import SINGLES, prepare_if_needed
from lora_replication.study import Axes, Study, SweepParams
from lora_replication.workspace import Workspace

MOST_SEEDS = 1_000

HALF_DECADES = range(-3, 4)
"""What a sweep tries where the study has none: a method's own rate times 10^(k/2)."""

TUNING_SEEDS, UNSTABLE_BEYOND = 3, 10.0
"""Seeds of each of these trials, and the points beyond which they are too far apart."""


def compare_training(
    first: str,
    second: str,
    study: str,
    margin: float | None,
    root: Path,
    most: int | None,
    step: int,
    *,
    tune: bool = False,
) -> Compared:
    """Compare two methods of one study, training more seeds while it is undecided.

    It is looked at the seeds of the study, then after every ``step`` more, and at ``most``; all
    looks together have the study's chance of a false word. Runs that the study does not have go to
    ``singles/``, as those of ``train --method`` do, and are found there by the next start.

    Args:
        most: seeds; None for those of the study alone.
        tune: whether each method first gets its own learning rate, by as many trials; see
            ``tuning_study``.

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
    most = fewest if most is None else most
    if not fewest <= most <= MOST_SEEDS or step < 1:
        raise ParameterError(
            f"--seeds-at-most is {most}, --step {step}; allowed: whole numbers from {fewest} "
            f"({len(asked.run.seeds)} seeds are the study's own) to {MOST_SEEDS:,}, and from 1"
        )
    looks = looks_until(fewest, most, step)
    rule = rule_of(asked, margin, looks)
    asked = tuning_study(asked, methods) if tune else asked
    place = Workspace(asked, root, SINGLES)
    prepare_if_needed(place)
    workspace, records = recorded(asked, root)
    if tune:
        records = _tuned(place, workspace)
        methods = [f"{FOLDERS['tuned']}/{method}" for method in methods]
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


def tuning_study(study: Study, methods: Sequence[str]) -> Study:
    """``study`` without its grid, with a sweep of these ``methods`` alone: as the study has it, or
    each one's own learning rate times ``HALF_DECADES``.

    Raises:
        ParameterError: a method is unknown, or a rate is not allowed.
    """
    sweeps, base = study.sweeps, study.train.learning_rate
    own = {name: checked_method(study, name).learning_rate or base for name in methods}
    factors = [10 ** (k / 2) for k in HALF_DECADES]
    if not (sweeps and own.keys() <= sweeps.methods.keys()):
        if max(own.values()) * factors[-1] > 1:
            raise ParameterError(
                f"--tune tries up to {factors[-1]:.0f} times a method's own learning rate, and "
                f"{max(own.values()):g} is one; allowed: rates of at most 1, so give the study "
                "sweeps: with axes for both methods"
            )
        final = {*_seeds(study, MOST_SEEDS), *_chosen_by(study)}
        sweeps = SweepParams(
            seeds=list(islice((seed for seed in count() if seed not in final), TUNING_SEEDS)),
            nudges=0,
            unstable_beyond=UNSTABLE_BEYOND,
            methods={
                name: Axes(learning_rate=[float(f"{rate * factor:.2g}") for factor in factors])
                for name, rate in own.items()
            },
        )
    sweeps = sweeps.model_copy(update={"methods": {name: sweeps.methods[name] for name in own}})
    return study.model_copy(update={"sweeps": sweeps, "grid": None})


def _tuned(place: Workspace, workspace: Workspace) -> list[Record]:
    """The trials, those that no workspace has trained in ``place``, in packs."""
    from lora_replication.grid.attempts import open_executor
    from lora_replication.grid.packing import pack_size
    from lora_replication.tracking.mirror import open_mirror

    trials, state = trial_runs(place), progress(place)
    state = replace(state, records={**progress(workspace).records, **state.records})
    mirror, tell = partial(open_mirror, place), partial(print, file=sys.stderr, flush=True)
    with only_writer(place.state / "grid.lock"), open_executor(place, mirror) as executor:
        search(trials, state, "tuning", partial(pack_size, place), executor, tell)
    return [record for run in trials if (record := place.done(run) or workspace.done(run))]


def _example(method: str, records: Sequence[Record], place: Workspace) -> Run:
    """Any run of ``method``. Raises ``ParameterError`` where the study has none."""
    if own := runs_of(method, place, records):
        return own[0].asked
    name = method.removeprefix(f"{FOLDERS['tuned']}/")
    if name != method:  # the records are its trials
        for run in tuned_runs(place, records):
            if run.name == name:
                return run
    return method_run(place, name, place.study.run.seeds[0])


def _seeds(study: Study, most: int) -> list[int]:
    """The study's own, then those after them by which nothing was chosen."""
    own, used = sorted(study.run.seeds), _chosen_by(study)
    fresh = (seed for seed in count(own[-1] + 1) if seed not in used)
    return own + list(islice(fresh, most - len(own)))


def _chosen_by(study: Study) -> set[int]:
    """The seeds by which its sweeps and its grid choose."""
    grid = {study.grid.seed, *study.grid.winner_seeds} if study.grid else set()
    return {*(study.sweeps.seeds if study.sweeps else ())} | grid


def _train(place: Workspace, workspace: Workspace, run: Run) -> None:
    """Train ``run``, in ``place``, unless it is recorded."""
    if workspace.done(run) or place.done(run):
        return
    from lora_replication.tracking.mirror import open_mirror
    from lora_replication.training.run import perform_one

    record = perform_one(place, run, partial(open_mirror, place))
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
