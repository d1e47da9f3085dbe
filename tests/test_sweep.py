from itertools import chain

import pytest

from lora_replication.errors import IncompleteError
from lora_replication.grid.packing import packs_of
from lora_replication.grid.space import grid_runs
from lora_replication.grid.sweep import sweep
from tests.made_runs import DIVERGED, FAILED, make_workspace, write

RUNS = grid_runs(make_workspace())
NAMES = [run.name for run in RUNS]


class Machine:
    """An executor that makes records up: ``correct`` by name, ``faults`` by (name, seed); ``cut``
    stops it after so many runs.
    """

    def __init__(self, root, correct=None, faults=None, cut=None, **grid):
        self.workspace = make_workspace(root, grid={"winner_seeds": [101, 102]} | grid)
        self.correct, self.faults, self.cut = correct or {}, faults or {}, cut
        self.packs, self.said = [], []

    @property
    def ran(self):
        return list(chain.from_iterable(self.packs))

    def executor(self, packs):
        for pack in packs:
            self.packs.append([])
            for run in pack:
                if len(self.ran) == self.cut:
                    raise KeyboardInterrupt
                self.packs[-1].append((run.name, run.seed))
                fault = self.faults.get((run.name, run.seed), {})
                yield write(self.workspace, run, self.correct.get(run.name, 400), **fault)

    def sweep(self, size=8):
        self.packs, self.said = [], []
        sweep(self.workspace, lambda _runs: size, self.executor, self.said.append)

    @property
    def winner(self):
        words = "grid: the winner by validation is "
        return next(line for line in self.said if line.startswith(words))[len(words) :]


FRESH = [("grid_winner", 101), ("grid_winner", 102)]


def test_a_sweep_runs_every_configuration_then_the_winner_and_a_second_start_nothing(tmp_path):
    machine = Machine(tmp_path, {NAMES[5]: 450})
    machine.sweep()
    assert sorted(machine.ran[:8]) == sorted((name, 1) for name in NAMES)
    assert machine.ran[8:] == FRESH
    progress = "of 8 runs done, 0 diverged, 0 predict a single class, 0 failed"
    assert machine.said[0] == f"grid: 0 {progress}"
    assert machine.said[7].startswith(f"grid: 7 {progress}, about 0 s left")
    assert machine.said[8] == f"grid: 8 {progress}"
    assert machine.winner == NAMES[5]
    machine.sweep()
    assert (machine.winner, machine.ran) == (NAMES[5], [])


@pytest.mark.parametrize("cut", range(10))
def test_a_sweep_cut_anywhere_continues_and_runs_nothing_twice(tmp_path, cut):
    machine = Machine(tmp_path, cut=cut)
    with pytest.raises(KeyboardInterrupt):
        machine.sweep()
    before, machine.cut = machine.ran, None
    machine.sweep()
    assert len(before + machine.ran) == len(set(before + machine.ran)) == 10


@pytest.mark.fault(26)
def test_a_failed_configuration_is_named_and_tried_again(tmp_path):
    machine = Machine(tmp_path, faults={(NAMES[2], 1): FAILED, (NAMES[6], 1): FAILED})
    with pytest.raises(IncompleteError) as problem:
        machine.sweep()
    assert str(problem.value) == (
        "grid: 6 of 8 runs done, 0 diverged, 0 predict a single class, 2 failed; "
        f"missing: {NAMES[2]} seed 1, {NAMES[6]} seed 1; run again to continue"
    )
    assert len(machine.ran) == 8
    machine.faults = {}
    machine.sweep()
    assert sorted(machine.ran[:2]) == sorted([(NAMES[2], 1), (NAMES[6], 1)])
    assert machine.ran[2:] == FRESH


def test_a_fresh_run_that_fails_leaves_the_grid_incomplete(tmp_path):
    machine = Machine(tmp_path, faults={("grid_winner", 102): FAILED})
    with pytest.raises(
        IncompleteError, match="fresh seeds: missing: grid_winner seed 102; run again"
    ):
        machine.sweep()
    machine.faults = {}
    machine.sweep()
    assert machine.ran == FRESH[1:]


@pytest.mark.fault(23)
def test_a_diverged_configuration_is_a_result_and_a_grid_of_them_has_no_winner(tmp_path):
    machine = Machine(tmp_path, faults={(name, 1): DIVERGED for name in NAMES[1:]})
    machine.sweep()
    assert machine.winner == NAMES[0]
    assert "8 of 8 runs done, 7 diverged" in machine.said[8]
    machine.workspace = make_workspace(tmp_path / "other")
    machine.faults[NAMES[0], 1] = DIVERGED
    with pytest.raises(IncompleteError, match="every configuration diverged"):
        machine.sweep()
    assert len(machine.ran) == 8


def test_packs_not_begun_stay_as_they_are(tmp_path):
    machine = Machine(tmp_path)
    machine.sweep(3)
    packs = [[(run.name, 1) for run in pack] for pack in packs_of(RUNS, 3)]
    assert machine.packs == [*packs, FRESH[:1], FRESH[1:]]
    for name, _ in (packs[0][1], *packs[2]):
        (machine.workspace.runs / "grid" / name / "seed-1/record.json").unlink()
    machine.sweep(3)
    assert machine.packs == [[packs[0][1]], packs[2]]


def test_runners_up_and_the_articles_choice_run_on_the_same_fresh_seeds(tmp_path):
    machine = Machine(tmp_path, {}, rank=[2, 8], runners_up=1)
    names = [run.name for run in grid_runs(machine.workspace)]
    machine.correct = {names[5]: 450, names[4]: 445}
    machine.sweep()
    article = "r8-a1-query-value-mlp"
    chosen = ("grid_winner", names[4], article)
    assert machine.ran[8:] == [(name, seed) for name in chosen for seed in (101, 102)]
    assert machine.winner == f"{names[5]}, and 2 next to it: {names[4]}, {article}"


@pytest.mark.fault(30)
def test_records_of_other_parameters_are_counted_and_run_again(tmp_path):
    Machine(tmp_path).sweep()
    machine = Machine(tmp_path, dropout=0.1)
    machine.sweep()
    assert machine.said[0].startswith("grid: skipping 10 records of other parameters")
    assert len(machine.ran) == 10
