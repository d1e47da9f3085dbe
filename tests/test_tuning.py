from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lora_replication.grid.choice import chosen_trial, trials_of
from lora_replication.grid.space import trial_runs
from lora_replication.grid.sweep import sweep
from lora_replication.plan import method_runs, progress
from lora_replication.record import read_records
from lora_replication.training.randomness import NUDGE, nudge
from tests.made_runs import DIVERGED, make_record, make_workspace, write
from tests.study_files import ROOT

LOW, OWN, HIGH = RATES = [1e-3, 1e-2, 1e-1]
"""OWN is the rate that the tiny study has for all methods."""

SWEEPS = {
    "seeds": [21, 22],
    "nudges": 1,
    "unstable_beyond": 5.0,
    "methods": {"full": {"learning_rate": RATES}, "lora_default": {"learning_rate": RATES}},
}


def workspace_in(root, **changes):
    return make_workspace(root, sweeps=SWEEPS, grid=None, run={"seeds": [1, 2]}, **changes)


def test_every_setting_is_tried_on_every_seed_nudged_on_the_first_and_never_tested():
    runs = trial_runs(workspace_in(Path()))
    assert len(runs) == 2 * 3 * 3
    first = runs[:3]
    assert [str(run.place) for run in first] == [
        f"tuning/full/lr0.001/seed-{end}" for end in ("21", "22", "21-nudge-1")
    ]
    assert str(runs[-1].place) == "tuning/lora_default/lr0.1-r8-a16/seed-21-nudge-1"
    assert first[0].label == "full lr0.001 seed 21"
    assert runs[-1].words == "LoRA default at rate 0.1, seed 21 nudge 1"
    assert not any(r.settings.evaluate_test or r.settings.evaluate_train for r in runs)
    assert len({run.key for run in runs}) == len(runs)


def test_alpha_and_rank_are_axes_of_lora():
    axes = {"learning_rate": [0.1, 0.2], "alpha": [1, 4], "rank": [2]}
    sweeps = SWEEPS | {"methods": {"lora_tuned": axes}, "seeds": [21], "nudges": 0}
    runs = trial_runs(make_workspace(Path(), sweeps=sweeps, grid=None))
    names = [run.settings.axes for run in runs]
    assert names == ["lr0.1-r2-a1", "lr0.1-r2-a4", "lr0.2-r2-a1", "lr0.2-r2-a4"]
    assert {run.settings.lora.targets for run in runs} == {("query", "value", "mlp")}


def chosen(correct, **faults):
    """Of the full method's trials with so many of 500 validation reviews right, in their order:
    each rate has seeds 21 and 22, then 21 nudged.
    """
    runs = trial_runs(workspace_in(Path()))[:9]
    records = [
        make_record(run, right, **{"test": None} | faults.get(run.settings.axes, {}))
        for run, right in zip(runs, correct, strict=True)
    ]
    return chosen_trial(trials_of(records)["full"], 5.0).settings.learning_rate


def test_the_best_mean_over_seeds_wins_and_of_equals_the_lowest_rate():
    assert chosen([400, 410, 400, 410, 402, 410, 400, 400, 400]) == OWN
    assert chosen([400, 410, 400, 410, 400, 400, 405, 405, 405]) == LOW


def test_what_moves_by_a_nudge_between_seeds_or_diverges_is_chosen_last():
    """25 of 500 reviews are 5 points, 26 are more."""
    assert chosen([400, 400, 400, 440, 440, 415, 400, 400, 401]) == OWN
    assert chosen([400, 400, 400, 440, 440, 414, 400, 400, 401]) == LOW
    assert chosen([400, 400, 400, 440, 414, 440, 401, 401, 401]) == HIGH
    assert chosen([400] * 6 + [440] * 3, **{"lr0.1": DIVERGED}) == LOW
    assert chosen([440, 400, 400, 400, 440, 440, 300, 400, 400]) in (LOW, OWN)


def test_a_trial_says_how_far_its_runs_part():
    """By hand: 0.80, 0.84 and, nudged, 0.78 of 500 reviews; then one run that diverged."""
    runs = trial_runs(workspace_in(Path()))[:3]
    records = [make_record(r, n) for r, n in zip(runs, (400, 420, 390), strict=True)]
    (trial,) = trials_of(records)["full"]
    facts = {k: v for k, v in asdict(trial).items() if k != "records"}
    assert facts == pytest.approx({"accuracy": 0.82, "spread": 0.06, "nudged": 0.02, "diverged": 0})
    records[1] = make_record(runs[1], **DIVERGED)
    (trial,) = trials_of(records)["full"]
    assert (trial.accuracy, trial.diverged) == (pytest.approx(0.65), 1)


def test_the_chosen_setting_runs_on_the_final_seeds_unless_it_is_the_methods_own(tmp_path):
    workspace = workspace_in(tmp_path)
    best = {"full": HIGH, "lora_default": OWN}
    said, ran = [], []

    def executor(packs):
        for run in (run for pack in packs for run in pack):
            is_best = run.settings.learning_rate == best[run.name]
            ran.append(run)
            yield write(workspace, run, 450 if is_best else 400)

    sweep(workspace, lambda _runs: 8, executor, said.append)
    trials, fresh = ran[:18], ran[18:]
    assert {run.role for run in trials} == {"trial"}
    assert [str(run.place) for run in fresh] == ["tuned/full/seed-1", "tuned/full/seed-2"]
    assert {run.settings.learning_rate for run in fresh} == {HIGH}
    assert all(run.settings.evaluate_test for run in fresh)
    assert "tuning: full is best at lr0.1" in said
    assert [run for run in progress(workspace).missing if run.role != "method"] == []


def test_nudged_repeats_of_the_first_seed_are_asked_for_and_have_keys_of_their_own():
    runs = method_runs(make_workspace(run={"seeds": [3, 4], "nudges": 2}), "full")
    names = [str(run.place) for run in runs]
    assert names == [f"full/seed-{end}" for end in ("3", "4", "3-nudge-1", "3-nudge-2")]
    assert len({run.key for run in runs}) == 4
    plain = method_runs(make_workspace(run={"seeds": [3]}), "full")
    assert plain[0].key == runs[0].key


def test_a_nudge_moves_one_element_of_each_tensor_another_for_another_number():
    def nudged(number):
        tensors = {"A": torch.zeros(40, 3), "B": torch.zeros(7)}
        nudge(tensors, 5, number)
        return tensors

    one, again, other = nudged(1), nudged(1), nudged(2)
    for name in one:
        assert one[name].count_nonzero() == 1
        assert one[name].max().item() == pytest.approx(NUDGE)
        assert torch.equal(one[name], again[name])
    assert not torch.equal(one["A"], other["A"])


@pytest.mark.parametrize(
    ("study", "budgets", "seeds", "fresh"),
    [
        ("minilm-rates", 4 * [7 * 3], {21, 22, 23}, 10),
        ("variants", 11 * [6 * 2], {21, 22}, 10),
        ("surface", [9 * 3, 9 * 6 * 2 * 3, 9 * 6 * 2 * 3], {21, 22, 23}, 5),  # full: rates alone
    ],
)
def test_committed_sweeps_have_equal_budgets_seeds_of_their_own_and_no_test_count(
    study, budgets, seeds, fresh
):
    records = [one for _, one in read_records(ROOT / "reports" / study / "records")]
    trials = [record for record in records if record.asked.role == "trial"]
    assert sorted(Counter(trial.asked.name for trial in trials).values()) == budgets
    final = {record.asked.seed for record in records if record.asked.role != "trial"}
    assert final == set(range(31, 31 + fresh))
    assert {trial.asked.seed for trial in trials} == seeds
    assert not any(trial.happened.test for trial in trials)
