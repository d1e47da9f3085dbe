import json

import numpy as np
import pytest

from lora_replication import doctor, estimate
from lora_replication.data.tokens import Tokens
from lora_replication.estimate import Cost, announce, first_reviews, in_words, measure
from lora_replication.plan import method_run, method_runs
from lora_replication.reading import load_study
from lora_replication.record import read_record
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.projects import tree
from tests.study_files import write_params
from tests.training_runs import without_times


@pytest.fixture
def workspace(tiny_study, tiny_root):
    return Workspace(tiny_study, tiny_root)


def changed(tiny_root, **changes):
    return Workspace(load_study(write_params(tiny_root / "changed", **changes)), tiny_root)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 3 + 0.01 * 2 * 1000 + 0.002 * (2 * 100 + 1000 + 300)),
        ({"evaluate_train": False}, 3 + 20 + 1),
        ({"evaluate_train": False, "evaluate_test": False, "epochs": 1}, 3 + 10 + 0.2),
    ],
)
def test_a_training_is_its_epochs_and_the_evaluations_that_it_asks_for(settings, changes, seconds):
    tokens = {"train": 1000, "val": 100, "test": 300}
    assert Cost(3, 0.01, 0.002).seconds(settings(**changes), tokens) == pytest.approx(seconds)


def fake(workspace, job):
    """Each configuration takes a second, or ten if it adapts the MLP; nothing else costs."""
    lora = job[0].settings.lora
    return Cost(len(job) * (10.0 if lora and "mlp" in lora.targets else 1.0), 0, 0)


@pytest.mark.parametrize("pack", [1, 4])
def test_each_kind_is_measured_once_and_stands_for_all_of_it(tiny_root, pack):
    seeds = {"run": {"seeds": [1, 2]}, "grid": {"winner_seeds": [101, 102]}}
    workspace, jobs = changed(tiny_root, execution={"pack": pack}, **seeds), []

    def seen(workspace, job):
        jobs.append(job)
        return fake(workspace, job)

    # Of the grid's eight configurations four have the MLP, and so has the largest, taken to win.
    expected = {"6 runs": 6, "grid of 8 configurations": 4 * 1 + 4 * 10 + 2 * 10}
    assert estimate.estimate(workspace, seen) == expected
    kinds = 2 if pack == 1 else 3  # alone the winner is like a configuration of the grid
    assert sorted(map(len, jobs)) == sorted([1, 1, 1, 1, *([pack] * (kinds - 1))])


def test_a_sweep_counts_with_its_final_runs_and_what_is_recorded_does_not_count(
    workspace, tiny_root, mirror
):
    axes = {"learning_rate": [1e-3, 1e-2]}
    sweeps = {"seeds": [7], "nudges": 0, "unstable_beyond": 5.0, "methods": {"last_layers": axes}}
    asked = {"run": {"methods": ["full"], "seeds": [1, 2]}, "sweeps": sweeps, "grid": None}
    swept = changed(tiny_root, **asked)
    assert estimate.estimate(swept, fake) == {"2 runs": 2, "tuning of 2 runs": 2 + 2}
    perform(swept, method_runs(swept)[:1], mirror)
    assert estimate.estimate(swept, fake)["1 runs"] == 1


def test_evaluation_is_timed_on_whole_reviews():
    tokens = Tokens(np.arange(9), np.array([0, 4, 6, 9]), np.array([1, 0, 1]))
    for most, reviews in ((1, 1), (5, 1), (6, 2), (100, 3)):
        part = first_reviews(tokens, most)
        assert (len(part), len(part.ids)) == (reviews, [4, 6, 9][reviews - 1])


def test_the_sentence():
    seconds = {"20 runs": 4 * 3600.0, "grid of 576 configurations": 3 * 86400.0}
    assert in_words(seconds, "cuda") == (
        "20 runs about 4 h, grid of 576 configurations about 3 days on this GPU; "
        "Ctrl-C keeps all that is finished"
    )


def test_an_estimate_changes_no_file_and_no_later_record(workspace, trained, mirror):
    run, before = method_run(workspace, "lora_default", 1), tree(workspace.data)
    assert all(cost > 0 for cost in vars(measure(workspace, [run])).values())
    assert (tree(workspace.data), workspace.runs.exists()) == (before, False)
    perform(workspace, [run], mirror)
    assert without_times(read_record(workspace.folder(run))) == without_times(read_record(trained))


def test_doctor_tells_it_once_the_data_are_prepared(tiny_root, tmp_path, monkeypatch):
    workspace = changed(tiny_root, grid=None)
    state, text = doctor.time(workspace.study, tiny_root)
    assert (state, text.split(" about ")[0]) == ("ok", "3 runs")
    monkeypatch.setattr(Workspace, "tokens", property(lambda _: pytest.fail("read")))
    for root, study, words in (
        (tmp_path / "new", workspace.study, "comes once the data are prepared, by run tiny"),
        (tiny_root, changed(tiny_root, model={"max_tokens": 32}).study, "once the data are"),
        (tiny_root, changed(tiny_root, train={"device": "cuda"}).study, "needs the device"),
    ):
        assert words in doctor.time(study, root)[1], json.dumps(words)


def test_a_long_study_is_announced_before_its_first_run_alone(
    workspace, mirror, monkeypatch, capfd
):
    announce(workspace)
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(estimate, "LONG_SECONDS", 0.0)
    announce(workspace)
    (line,) = capfd.readouterr().out.splitlines()
    assert line.startswith("3 runs about ")
    assert line.endswith(" on this CPU; Ctrl-C keeps all that is finished")
    perform(workspace, method_runs(workspace)[:1], mirror)
    announce(workspace)
    assert capfd.readouterr().out == ""
