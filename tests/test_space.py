from pathlib import Path

from report_records import make_study

from lora_replication.grid.space import cell_jobs, cell_name, winner_jobs
from lora_replication.reading import load_study
from lora_replication.study import LoraParams

ARTICLE = load_study(Path(__file__).resolve().parents[1] / "params.yaml")


def test_the_articles_grid_has_576_configurations_each_with_a_name_of_its_own():
    jobs = cell_jobs(ARTICLE)
    assert len(jobs) == len({job.name for job in jobs}) == 576
    assert {job.seed for job in jobs} == {1}
    assert all({"query", "value"} <= set(job.settings.lora.targets) for job in jobs)


def test_the_loop_order_is_the_articles():
    """It starts at rank and alpha 1 with nothing but query and value; its last six are those the
    author's file lacks.
    """
    names = [job.name for job in cell_jobs(ARTICLE)]
    assert names[:3] == ["r1-a1-query-value", "r1-a1-query-value-head", "r1-a1-query-value-mlp"]
    assert names[-6:] == [
        f"r32-a64-query-key-value{rest}"
        for rest in (
            "-mlp",
            "-mlp-head",
            "-projection",
            "-projection-head",
            "-projection-mlp",
            "-projection-mlp-head",
        )
    ]


def test_192_of_them_have_a_rank_above_a_layers_smaller_side():
    """lora_head puts LoRA on a linear from 768 to 2: ranks 4, 8, 16 and 32 exceed it."""
    above = [
        job
        for job in cell_jobs(ARTICLE)
        if "head" in job.settings.lora.targets and job.settings.lora.rank > 2
    ]
    assert len(above) == 192


def test_names_say_rank_alpha_and_targets():
    assert (
        cell_name(LoraParams(rank=8, alpha=16, targets=("value", "query"))) == "r8-a16-query-value"
    )
    assert cell_name(LoraParams(rank=1, alpha=0.5, targets=("mlp",))) == "r1-a0.5-mlp"


def test_near_alphas_have_names_of_their_own_and_whole_ones_keep_theirs() -> None:
    alphas = [1.0, 1.0000001, 1 + 2**-52, 0.1, 0.1 + 2**-55, 64, 1e6, 999999.5]
    names = [cell_name(LoraParams(rank=1, alpha=alpha, targets=("query",))) for alpha in alphas]
    assert len(set(names)) == len(alphas)
    assert [names[0], names[1], names[5], names[6]] == [
        "r1-a1-query",
        "r1-a1.0000001-query",
        "r1-a64-query",
        "r1-a1e+06-query",
    ]


def test_the_grids_settings_reach_its_configurations():
    study = make_study()
    grid = study.grid.model_dump() | {
        "scaling": "paper",
        "dropout": 0.1,
        "evaluate_train": False,
        "stop_one_class": True,
        "seed": 7,
    }
    jobs = cell_jobs(make_study(grid=grid))
    assert {
        (s.lora.scaling, s.lora.dropout, s.evaluate_train, s.stop_one_class)
        for s in (job.settings for job in jobs)
    } == {("paper", 0.1, False, True)}
    assert {job.seed for job in jobs} == {7}
    again = winner_jobs(make_study(grid=grid), jobs[2])
    assert [
        (job.seed, job.settings.lora, job.settings.evaluate_train, job.settings.stop_one_class)
        for job in again
    ] == [(seed, jobs[2].settings.lora, True, False) for seed in study.grid.winner_seeds]
