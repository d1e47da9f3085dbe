from pathlib import Path

import pytest

from lora_replication.article.published_file import article_space
from lora_replication.grid.space import cell_name, grid_runs
from lora_replication.reading import load_study
from lora_replication.study import LoraParams
from tests.made_runs import make_workspace
from tests.study_files import ROOT


@pytest.fixture(scope="module")
def article():
    workspace = make_workspace(Path())
    workspace.study = load_study(ROOT / "params.yaml")
    return grid_runs(workspace)


@pytest.mark.goal("property", "keys are distinct")
def test_the_articles_576_configurations_have_names_and_keys_of_their_own(article):
    assert len(article) == 576
    assert len({run.name for run in article}) == len({run.key for run in article}) == 576
    assert {run.seed for run in article} == {1}
    assert all({"query", "value"} <= set(run.settings.lora.targets) for run in article)


def test_the_loop_order_is_the_articles(article):
    """It starts at rank and alpha 1 with nothing but query and value; its last six are those the
    author's file lacks.
    """
    names = [run.name for run in article]
    assert names[:3] == ["r1-a1-query-value", "r1-a1-query-value-head", "r1-a1-query-value-mlp"]
    rest = ["mlp", "mlp-head", "projection", "projection-head", "projection-mlp"]
    last = [f"r32-a64-query-key-value-{one}" for one in [*rest, "projection-mlp-head"]]
    assert names[-6:] == last
    assert names == [cell_name(lora) for lora in article_space()]


def test_near_alphas_have_names_of_their_own_and_whole_ones_are_short():
    alphas = [1.0, 1.0000001, 1 + 2**-52, 0.1, 0.1 + 2**-55, 64, 1e6, 999999.5]
    loras = [LoraParams(rank=8, alpha=alpha, targets=("value", "query")) for alpha in alphas]
    names = [cell_name(lora) for lora in loras]
    assert len(set(names)) == len(alphas)
    short = [names[place].split("-query")[0] for place in (0, 1, 5, 6)]
    assert short == ["r8-a1", "r8-a1.0000001", "r8-a64", "r8-a1e+06"]
    assert names[0] == "r8-a1-query-value"


def test_the_grids_settings_reach_its_configurations():
    grid = {"scaling": "paper", "dropout": 0.1, "evaluate_train": False, "stop_one_class": True}
    runs = grid_runs(make_workspace(grid=grid | {"seed": 7}))
    for run in runs:
        settings = run.settings
        assert (settings.lora.scaling, settings.lora.dropout) == ("paper", 0.1)
        assert (settings.evaluate_train, settings.stop_one_class) == (False, True)
        assert (run.role, run.seed, settings.learning_rate) == ("cell", 7, 0.01)
