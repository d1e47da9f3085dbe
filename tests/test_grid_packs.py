from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from lora_replication.grid import packs
from lora_replication.grid.packs import measured_size, pack_size, packs_of
from lora_replication.grid.space import cell_jobs
from lora_replication.jobs import method_jobs
from lora_replication.reading import load_study
from lora_replication.training.run import Bench


@pytest.fixture(scope="module")
def article():
    return load_study(Path(__file__).parents[1] / "params.yaml")


@pytest.mark.parametrize("size", [1, 7, 16, 32, 1000])
def test_every_configuration_is_in_one_pack_and_no_pack_is_too_large(article, size):
    jobs = cell_jobs(article)
    made = packs_of(jobs, size)
    assert sorted(job.name for pack in made for job in pack) == sorted(job.name for job in jobs)
    sizes = {len(pack) for pack in made}
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert len(made) == -(-576 // size)


def test_neighbours_adapt_the_same_linears_with_similar_ranks(article):
    made = packs_of(cell_jobs(article), 12)
    assert all(len({job.settings.lora.targets for job in pack}) == 1 for pack in made)
    assert all(len({job.settings.lora.rank for job in pack}) == 2 for pack in made)


def test_packs_do_not_depend_on_the_order_asked(article):
    jobs = cell_jobs(article)
    assert [[j.name for j in pack] for pack in packs_of(jobs[::-1], 6)] == [
        [j.name for j in pack] for pack in packs_of(jobs, 6)
    ]


def test_each_seed_has_packs_of_its_own(article):
    jobs = [replace(job, seed=seed) for seed in (2, 1) for job in cell_jobs(article)[:5]]
    assert [[job.seed for job in pack] for pack in packs_of(jobs, 8)] == [[2] * 5, [1] * 5]


def test_no_jobs_make_no_packs():
    assert packs_of([], 8) == []


def test_methods_without_lora_are_refused(article):
    with pytest.raises(ValueError, match="no LoRA"):
        packs_of([job for job in method_jobs(article) if job.name == "full"][:2], 8)


def test_the_size_is_that_of_the_study_or_measured(tiny_study, tiny_data):
    jobs = cell_jobs(tiny_study)
    for pack, expected in ((3, 3), (None, len(jobs))):
        study = tiny_study.model_copy(
            update={"grid": tiny_study.grid.model_copy(update={"pack": pack})}
        )
        assert pack_size(Bench(study, tiny_data), jobs) == expected


def test_the_measured_size_follows_memory(tiny_study, tiny_data, monkeypatch):
    bench, jobs = Bench(tiny_study, tiny_data), cell_jobs(tiny_study) * 4
    sizes = []
    for budget in (1, 2**20, 2**40):
        monkeypatch.setattr(packs, "_free_bytes", lambda *_asked, budget=budget: budget)
        sizes.append(measured_size(bench, jobs))
    assert sizes[0] == 1
    assert sizes[2] == packs.LARGEST["cpu"]
    assert sizes[0] <= sizes[1] <= sizes[2]


@pytest.mark.parametrize(
    ("device", "changes", "at_once"),
    [
        ("cpu", {"executor": "here"}, 1),
        ("cpu", {"executor": "processes", "workers": 3}, 3),
        ("cpu", {"executor": "ray", "ray_cpus": 3}, 2),  # of 8 cores
        ("cpu", {"executor": "ray", "ray_cpus": 9}, 1),
        ("cuda", {"executor": "here"}, 1),
        ("cuda", {"executor": "processes", "workers": 3}, 2),  # on the first of 2 GPUs
        ("cuda", {"executor": "ray", "ray_gpu_share": 0.25}, 4),
    ],
)
def test_packs_share_memory_with_those_that_run_beside_them(
    tiny_study, monkeypatch, device, changes, at_once
):
    monkeypatch.setattr(packs.machine, "cores", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (15_000, 20_000))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=24_000))
    assert packs._free_bytes(tiny_study.grid.model_copy(update=changes), device) == 12_000 / at_once


def test_a_packs_budget_on_a_cpu_has_a_limit(tiny_study, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**40))
    assert packs._free_bytes(tiny_study.grid, "cpu") == packs.CPU_BUDGET
