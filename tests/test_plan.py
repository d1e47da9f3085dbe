import shutil

import pytest

from lora_replication.errors import ParameterError
from lora_replication.grid.space import grid_runs
from lora_replication.plan import method_run, method_runs, progress
from tests.made_runs import FAILED, make_workspace, write


def names(runs):
    return [(run.role, run.name, run.seed) for run in runs]


def test_every_method_is_asked_for_with_every_seed():
    workspace = make_workspace(run={"methods": ["full", "last_layers"], "seeds": [2, 1]})
    both = [("full", 2), ("full", 1), ("last_layers", 2), ("last_layers", 1)]
    assert [(run.name, run.seed) for run in method_runs(workspace)] == both
    assert names(method_runs(workspace, "full")) == [("method", "full", 2), ("method", "full", 1)]


def test_any_method_of_the_study_can_be_run_with_any_seed():
    run = method_run(make_workspace(), "lora_tuned", 2**32 - 1)  # not among run.methods
    assert (run.name, run.seed, run.settings.lora.rank) == ("lora_tuned", 2**32 - 1, 8)


@pytest.mark.parametrize(
    ("method", "seed", "message"),
    [
        ("lora", 1, "--method is 'lora'; allowed: last_layers, lora_default, lora_tuned, full"),
        ("full", -1, "--seed is -1; allowed: a whole number from 0 to 4294967295"),
        ("full", 2**32, "--seed is 4294967296; allowed: a whole number from 0 to 4294967295"),
    ],
)
def test_an_unknown_method_or_a_seed_out_of_range_is_refused(method, seed, message):
    with pytest.raises(ParameterError, match=message):
        method_run(make_workspace(), method, seed)


def test_what_is_asked_is_done_or_missing(tmp_path):
    workspace = make_workspace(tmp_path)
    methods, cells = method_runs(workspace), grid_runs(workspace)
    done = write(workspace, methods[1])
    failed = write(workspace, cells[2], **FAILED)
    state = progress(workspace)
    assert list(state.asked) == methods + cells
    assert state.done == [done]
    assert state.missing == [methods[0], methods[2], *cells]
    assert state.records == {done.asked.place: done, failed.asked.place: failed}
    assert (state.stale, state.copies) == (0, ())


def test_fresh_runs_are_asked_for_once_the_grid_is_complete(tmp_path):
    workspace = make_workspace(tmp_path, grid={"winner_seeds": [102, 101]})
    cells = grid_runs(workspace)
    for run in cells[1:]:
        write(workspace, run, 450 if run == cells[3] else 400)
    write(workspace, cells[0], 500, **FAILED)
    assert {run.role for run in progress(workspace).asked} == {"method", "cell"}
    write(workspace, cells[0])
    fresh = [run for run in progress(workspace).asked if run.role == "winner"]
    assert names(fresh) == [("winner", "grid_winner", 102), ("winner", "grid_winner", 101)]
    assert {run.settings.lora for run in fresh} == {cells[3].settings.lora}
    record = write(workspace, fresh[1])
    assert record in progress(workspace).done


@pytest.mark.fault(30)
def test_records_of_a_former_winner_are_stale(tmp_path):
    workspace = make_workspace(tmp_path)
    cells = grid_runs(workspace)
    for run in cells:
        write(workspace, run, 450 if run == cells[3] else 400)
    for run in progress(workspace).missing:
        write(workspace, run)
    assert (progress(workspace).missing, progress(workspace).stale) == ([], 0)
    write(workspace, cells[2], 451)
    state = progress(workspace)
    assert (names(state.missing), state.stale) == ([("winner", "grid_winner", 101)], 1)


@pytest.mark.fault(30)
@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, 0),
        ({"title": "Another title", "execution": {"pack": 3, "ray_cpus": 2}}, 0),
        ({"methods": {"full": {"trains": "all", "learning_rate": 1e-3}}}, 1),
        ({"train": {"epochs": 3}}, 3 + 8),
        ({"grid": {"alpha": [16]}}, 4),
        ({"digest": "c" * 64}, 3 + 8),
    ],
)
def test_records_of_other_parameters_or_data_are_counted_and_not_read(tmp_path, changes, stale):
    before = make_workspace(tmp_path)
    for run in method_runs(before) + grid_runs(before):
        write(before, run)
    state = progress(make_workspace(tmp_path, **changes))
    assert (state.stale, len(state.done)) == (stale, 11 - stale)


@pytest.mark.fault(29)
def test_a_record_in_a_folder_that_is_not_its_own_is_named_and_not_counted(tmp_path):
    workspace = make_workspace(tmp_path, run={"seeds": [1, 2]})
    done = [write(workspace, run) for run in method_runs(workspace, "last_layers")]
    shutil.copytree(workspace.runs / "last_layers/seed-1", workspace.runs / "last_layers/copy")
    shutil.copytree(workspace.runs / "last_layers/seed-2", workspace.runs / "full/seed-2")
    state = progress(workspace)
    assert (state.done, state.stale) == (done, 0)
    assert state.copies == ("full/seed-2", "last_layers/copy")
    shutil.copytree(workspace.runs, tmp_path / "runs/another")
    assert len(progress(make_workspace(tmp_path, study="another")).copies) == 4
