import math
from types import SimpleNamespace

import numpy as np
import pytest

from lora_replication.article import rate_claims
from lora_replication.errors import DataError
from lora_replication.files import file_digest
from lora_replication.grid.space import trial_runs
from lora_replication.plan import progress
from lora_replication.record import PREDICTIONS, Count
from lora_replication.report.figures import accuracy_by_rate, rate_heatmaps
from lora_replication.report.predictions import Predictions
from lora_replication.report.tables import tables
from lora_replication.report.tuning import tuning
from lora_replication.study import SweepParams
from lora_replication.training.run import write_predictions
from tests import report_records as made
from tests.made_runs import DIVERGED, make_workspace, write
from tests.worlds import summed

RATES = [1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0]
REVIEWS = 500


def swept(root, peak, methods, seeds=(21, 22, 23, 24, 25), nudges=0, diverged=()):
    """A study whose sweeps are finished. ``peak``: log10 of a run's best rate by its settings; a
    decade away from it costs 15 points of 90 %. Seeds scatter by half a point.
    """
    sweeps = {"seeds": list(seeds), "nudges": nudges, "unstable_beyond": 5.0, "methods": methods}
    workspace = make_workspace(root, sweeps=sweeps, grid=None, data={"reviews": {"val": REVIEWS}})
    draw = np.random.default_rng(3)
    labels, hard = np.arange(REVIEWS) % 2, draw.permutation(REVIEWS)
    for run in trial_runs(workspace):
        if run.settings.learning_rate in diverged:
            write(workspace, run, **DIVERGED)
            continue
        away = abs(math.log10(run.settings.learning_rate) - peak(run.settings))
        accuracy = 0.9 - 0.15 * away + draw.normal(0, 0.005)
        right = hard < round(REVIEWS * accuracy)
        logits = np.eye(2, dtype=np.float32)[np.where(right, labels, 1 - labels)]
        file = workspace.folder(run) / PREDICTIONS
        file.parent.mkdir(parents=True)
        write_predictions(file, {"val": logits}, {"val": SimpleNamespace(labels=labels)})
        count = Count(correct=int(right.sum()), reviews=REVIEWS, ones=250)
        write(workspace, run, val=count, test=None, predictions_sha256=file_digest(file))
    return workspace


def swept_tuning(workspace, accuracies=()):
    """``accuracies``: on test, of methods at their own rates, by name, on five seeds."""
    draw, right, rows = np.random.default_rng(4), {}, []
    for name, accuracy in dict(accuracies).items():
        own = {"role": "tuned", "name": name, "status": "ok", "test": True}
        runs = [SimpleNamespace(seed=seed, **own) for seed in range(5)]
        right |= {("tuned", name, run.seed): draw.random(1000) < accuracy for run in runs}
        rows.append(SimpleNamespace(name=name, runs=runs))
    results = SimpleNamespace(tuned=rows, runs_of=lambda row: row.runs)
    return tuning(workspace, progress(workspace), results, Predictions(right=right))


RATE = {"learning_rate": RATES}
BOTH = {"full": RATE, "lora_default": RATE}
AXES = {"lora_default": {"learning_rate": [0.1], "alpha": [1, 4]}}
SWEEP = {"seeds": [21], "nudges": 0, "unstable_beyond": 5, "methods": AXES}


def test_every_setting_has_its_interval_and_the_chosen_one_is_marked(tmp_path):
    workspace = swept(tmp_path, lambda _: -2, {"full": RATE, "last_layers": RATE}, nudges=1,
                      diverged=[0.1])  # fmt: skip
    made = swept_tuning(workspace)
    assert (made.trials, made.nudges, made.runs, made.findings) == (6, 1, 2 * 6 * 6, [])
    rows = [one for one in made.tried if one.method == "full"]
    assert [one.learning_rate for one in rows] == RATES
    assert [one.chosen for one in rows] == [False, False, False, True, False, False]
    assert [one.may_be_best for one in rows] == [False, False, False, True, False, False]
    assert [one.diverged for one in rows] == [0, 0, 0, 0, 6, 0]
    assert [one.stable for one in rows] == [True, True, True, True, False, True]
    best = rows[3]
    assert best.val.estimate == pytest.approx(0.9, abs=0.01)
    assert best.val.low < best.val.estimate < best.val.high
    assert (best.alpha, best.rank, best.runs) == (None, None, 6)
    assert rows[4].val.estimate == 0.5
    bars = accuracy_by_rate(made.tried).axes[0].collections
    xs = [segment[0, 0] for bar in bars for segment in bar.get_segments()]
    assert len(set(xs)) == len(xs) == 2 * len(RATES)  # no interval hides another


def test_a_ratio_of_ten_is_reproduced_others_not_and_a_best_rate_at_an_end_leaves_it_open(tmp_path):
    def ratio(lora):
        workspace = swept(tmp_path / str(lora), lambda own: lora if own.lora else -3, BOTH)
        found = swept_tuning(workspace).findings
        return next(one for one in found if one.claim.name == "lora_rate_over_full_rate")

    ten, hundred, end = ratio(-2), ratio(-1), ratio(0)
    assert (ten.word, ten.measured) == ("reproduced", pytest.approx(10, rel=0.1))
    assert 8 < ten.low < ten.measured < ten.high < 12
    assert (hundred.word, hundred.measured) == ("not reproduced", pytest.approx(100, rel=0.1))
    assert (end.word, end.low, end.high) == ("not reproduced", pytest.approx(1000, rel=0.1), None)
    flat = swept_tuning(swept(tmp_path / "flat", lambda _: 0, BOTH, diverged=RATES)).findings[0]
    assert (flat.word, flat.low, flat.high, flat.seeds_needed) == ("inconclusive", *[None] * 3)


def test_slopes_and_the_gain_of_alpha_follow_from_the_best_rates(tmp_path):
    """Alpha alone scales the rate: best at 1e-1 / alpha, whatever the rank. Training everything has
    the rates alone.
    """
    axes = {"full": RATE, "lora_default": RATE | {"alpha": [1, 10, 100], "rank": [2, 4]}}
    workspace = swept(tmp_path, lambda s: -1 - math.log10(s.lora.alpha) if s.lora else -3, axes)
    made = swept_tuning(workspace)
    assert (made.trials, len(made.tried)) == (36, 36 + 6)
    findings = {one.claim.name: one for one in made.findings}
    assert {name: one.word for name, one in findings.items()} == {
        "lora_rate_over_full_rate": "inconclusive",
        "rate_against_alpha": "reproduced",
        "rate_against_rank": "not reproduced",
        "rate_against_rank_stabilised": "inconclusive",
        "rate_against_rank_as_in_the_article": "reproduced",
        "gain_of_alpha": "inconclusive",
        "gain_of_alpha_beyond_the_rate": "inconclusive",
    }
    assert findings["rate_against_rank"].measured == pytest.approx(1, abs=0.05)  # by s alone
    assert findings["rate_against_rank_stabilised"].measured == pytest.approx(0.5, abs=0.05)
    circles = rate_heatmaps([one for one in made.tried if one.alpha]).axes[0].lines[0]
    assert circles.get_xdata().tolist() == [4.5, 3.5, 2.5]  # of RATES: 1e-1, 1e-2, 1e-3
    against = findings["rate_against_alpha"]
    assert -1.03 < against.low < against.measured < against.high < -0.97
    gain = findings["gain_of_alpha"]
    assert gain.low < 0 < gain.high
    assert gain.seeds_needed is None or gain.seeds_needed >= 2


def test_a_gain_of_alpha_beyond_its_rate_is_found(tmp_path):
    """Alpha 100 peaks between the tried rates, half a decade off, so it stays 7.5 points behind."""
    axes = RATE | {"alpha": [1, 100]}
    peaks = {1: -2, 100: -2.5}

    def gain_of(axes):
        root, methods = tmp_path / str(len(axes["learning_rate"])), {"lora_default": axes}
        return swept_tuning(swept(root, lambda own: peaks[own.lora.alpha], methods)).findings[-2:]

    gains, unknown = gain_of(axes), gain_of(axes | {"learning_rate": RATES[:2]})
    assert [(one.word, one.low, one.high) for one in unknown] == [("inconclusive", None, None)] * 2
    assert [one.word for one in gains] == ["not reproduced", "reproduced"]  # nothing, something
    assert gains[0].measured == gains[1].measured == pytest.approx(7.5, abs=1)


@pytest.mark.parametrize(
    ("tuned", "word"), [(0.9, "reproduced"), (0.8, "inconclusive"), (0.7, "not reproduced")]
)
def test_tuned_above_default_is_judged_at_the_rates_of_their_own(tmp_path, tuned, word):
    workspace = swept(tmp_path, lambda _: -3, {"full": RATE}, seeds=[21])
    made = swept_tuning(workspace, {"lora_default": 0.8, "lora_tuned": tuned})
    (order,) = made.findings
    assert (order.claim.name, order.word) == ("tuned_above_default_at_own_rates", word)
    assert order.low < 100 * (tuned - 0.8) < order.high


def test_a_study_without_sweeps_or_with_unfinished_ones_says_nothing(tmp_path):
    assert swept_tuning(make_workspace(tmp_path)) is None
    workspace = swept(tmp_path, lambda _: -2, {"full": RATE})
    (workspace.folder(trial_runs(workspace)[0]) / "record.json").unlink()
    assert swept_tuning(workspace) is None


def test_predictions_that_were_altered_are_refused(tmp_path):
    workspace = swept(tmp_path, lambda _: -2, {"full": RATE})
    (workspace.folder(trial_runs(workspace)[0]) / PREDICTIONS).write_bytes(b"")
    with pytest.raises(DataError, match="altered"):
        swept_tuning(workspace)


def test_every_claim_has_its_source_and_a_name_of_its_own():
    names = [claim.name for claim in rate_claims()]
    assert len(set(names)) == len(names) == 8
    assert all(claim.source for claim in rate_claims())


def test_a_tuned_method_is_named_by_what_was_chosen_and_may_have_one_seed_and_a_nudge():
    study = made.make_study(run={"methods": ["lora_default"], "seeds": [1]})
    study = study.model_copy(update={"sweeps": SweepParams.model_validate(SWEEP)})
    workspace = made.make_workspace(study)
    settings = trial_runs(workspace)[1].settings.model_copy(update={"evaluate_test": True})
    runs = [workspace.run("tuned", "lora_default", settings, 1, nudge) for nudge in (0, 1)]
    results = summed(study, [made.make_record(run, 400 + run.nudge, 9) for run in runs])
    table = tables(results)["tuned"]
    ((method, _, rate, *_, over_nudges),) = table.rows
    assert (method.note, rate.text) == ("LoRA, rank 8, alpha 4, on query and value", "0.1")
    assert (over_nudges.text, over_nudges.alert) == ("0.10", False)
    assert "Spread over seeds" not in [column.heading for column in table.columns]
