"""The space of configurations as jobs, in the article's loop order: alpha, rank, then the switches with false before true."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import product

from lora_replication.jobs import Job
from lora_replication.methods import RunSettings, resolve
from lora_replication.params import TARGETS, LoraParams, MethodParams, Study


def cell_jobs(study: Study) -> list[Job]:
    """One job for each combination of the grid's lists, all with the grid's seed."""
    grid = study.grid
    jobs = []
    for alpha, rank, *switches in product(grid.alpha, grid.rank, *(getattr(grid, name) for name in TARGETS)):
        targets = tuple(name for name, on in zip(TARGETS, switches, strict=True) if on)
        lora = LoraParams(rank=rank, alpha=alpha, targets=targets, scaling=grid.scaling, dropout=grid.dropout)
        jobs.append(
            Job(
                "cell",
                cell_name(lora),
                resolve(
                    study,
                    MethodParams(trains="lora", lora=lora),
                    evaluate_train=grid.evaluate_train,
                    stop_one_class=grid.stop_one_class,
                ),
                grid.seed,
            )
        )
    return jobs


def winner_jobs(study: Study, winner: Job) -> list[Job]:
    """The winning configuration again, on fresh seeds and with its training accuracy."""
    return [Job("winner", "grid_winner", _again(winner), seed) for seed in study.grid.winner_seeds]


def runner_up_jobs(study: Study, beside: Iterable[Job]) -> list[Job]:
    """The configurations ``beside`` the winner again, on the same fresh seeds."""
    return [Job("runner_up", job.name, _again(job), seed) for job in beside for seed in study.grid.winner_seeds]


def _again(job: Job) -> RunSettings:
    return replace(job.settings, evaluate_train=True, stop_one_class=False)


def cell_name(lora: LoraParams) -> str:
    """``r8-a16-query-value-mlp``: unique within a grid, and fit to be a folder."""
    short = f"{lora.alpha:g}"  # has six digits; where these are not all, the shortest that tells this alpha from every other
    alpha = short if float(short) == lora.alpha else repr(lora.alpha)
    return f"r{lora.rank}-a{alpha}-{'-'.join(target for target in TARGETS if target in lora.targets)}"
