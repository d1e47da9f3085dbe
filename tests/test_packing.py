from types import SimpleNamespace

import psutil
import pytest
import torch

from lora_replication.grid import packing as packs
from lora_replication.grid.packing import free_bytes, pack_size, packs_of
from lora_replication.grid.space import grid_runs, trial_runs
from lora_replication.workspace import Workspace
from tests.made_runs import make_workspace
from tests.study_files import read_params


@pytest.fixture(scope="module")
def article():
    return grid_runs(make_workspace(grid=read_params()["grid"]))


@pytest.mark.parametrize("size", [1, 7, 16, 1000])
def test_every_configuration_is_in_one_pack_and_packs_are_few_and_nearly_equal(article, size):
    made = packs_of(article, size)
    assert sorted(run.name for pack in made for run in pack) == sorted(run.name for run in article)
    sizes = {len(pack) for pack in made}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(made) == -(-576 // size)


def test_neighbours_adapt_the_same_linears_with_similar_ranks_in_whatever_order_asked(article):
    made = packs_of(article, 12)
    assert all(len({run.settings.lora.targets for run in pack}) == 1 for pack in made)
    assert all(len({run.settings.lora.rank for run in pack}) == 2 for pack in made)
    assert packs_of(article[::-1], 12) == made


def test_a_pack_shares_a_seed_and_a_dropout_and_mixes_rates_and_targets():
    rates = {"learning_rate": [1e-4, 1e-3]}
    methods = {"last_layers": rates, "lora_default": rates, "lora_tuned": rates}
    tuned = {"lora_tuned": {"lora": {"dropout": 0.1}}}
    sweeps = {"seeds": [21, 22], "nudges": 1, "unstable_beyond": 5, "methods": methods}
    for changes, sizes in (({}, [4, 8]), ({"methods": tuned}, [2, 2, 4, 4])):
        workspace = make_workspace(sweeps=sweeps, **changes)
        packs = packs_of(trial_runs(workspace), 8)
        mixed = [pack for pack in packs if pack[0].settings.lora]
        assert sorted(map(len, mixed)) == sizes
        assert all(len({(r.seed, r.settings.lora.dropout) for r in pack}) == 1 for pack in mixed)
        assert len(packs) - len(mixed) == 6  # the last layers, each alone


@pytest.mark.parametrize(("pack", "expected"), [(3, 3), (None, 8)])
def test_the_size_is_that_of_the_study_or_measured(tiny_study, tiny_data, pack, expected):
    execution = tiny_study.execution.model_copy(update={"pack": pack})
    study = tiny_study.model_copy(update={"execution": execution})
    workspace = Workspace(study, tiny_data)
    assert pack_size(workspace, grid_runs(workspace)) == expected


def test_the_measured_size_follows_memory(tiny_study, tiny_data, monkeypatch):
    execution = tiny_study.execution.model_copy(update={"pack": None})
    workspace = Workspace(tiny_study.model_copy(update={"execution": execution}), tiny_data)
    runs, sizes = grid_runs(workspace) * 2, []
    for budget in (1, 2**20, 2**40):
        monkeypatch.setattr(packs, "free_bytes", lambda _device, budget=budget: budget)
        sizes.append(pack_size(workspace, runs))
    assert sizes[0] == 1
    assert sizes[2] == packs.LARGEST["cpu"] < len(runs)
    assert sizes[0] <= sizes[1] <= sizes[2]


def test_a_pack_may_take_a_part_of_the_free_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (15_000, 20_000))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=24_000))
    assert (free_bytes("cpu"), free_bytes("cuda")) == (12_000, 12_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**40))
    assert free_bytes("cpu") == packs.CPU_BUDGET
