"""Training more seeds until a comparison is decided: which runs, where, stop and resume."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from lora_replication.cli import cli
from lora_replication.compare import more_seeds
from lora_replication.compare.command import terminal_text
from lora_replication.compare.more_seeds import compare_training
from lora_replication.errors import ParameterError, Stopped
from lora_replication.record import read_records
from lora_replication.report import verdicts
from lora_replication.training import run as training
from tests.study_files import ROOT, write_params
from tests.test_methods import CODE, LORA

SINGLES = ("singles", "tiny")
METHODS = ("last_layers", "full")


@pytest.fixture
def root(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the tiny study, whose 24 test reviews may decide; nothing is run."""
    write_params(tiny_root / "studies" / "tiny", root="../..")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tiny_root}/mlflow.db")
    monkeypatch.setattr(verdicts, "FEWEST_REVIEWS", 10)
    return tiny_root


def trained(root: Path) -> dict[str, int]:
    """When each run in ``singles`` was recorded, by its place."""
    folder = root.joinpath(*SINGLES)
    return {
        str(found.relative_to(folder)): (found / "record.json").stat().st_mtime_ns
        for found, _ in read_records(folder)
    }


def test_seeds_are_added_until_decided_and_an_interrupted_start_goes_on(root, monkeypatch) -> None:
    asked, perform_one = [], training.perform_one

    def interrupted(workspace, run, mirror):
        asked.append(run.label)
        if len(asked) == 4:
            raise Stopped(2)
        return perform_one(workspace, run, mirror)

    monkeypatch.setattr(training, "perform_one", interrupted)
    options = {"most": 5, "step": 1}
    with pytest.raises(Stopped):
        compare_training("last_layers", "full", "tiny", 60.0, root, **options)
    before = trained(root)
    assert sorted(before) == ["full/seed-1", "last_layers/seed-1", "last_layers/seed-2"]
    found = compare_training("last_layers", "full", "tiny", 60.0, root, **options)
    assert found.decision.word == "as good"
    number = found.looked[-1]
    assert found.looked == tuple(range(3, number + 1))
    assert found.seeds == (list(range(1, number + 1)),) * 2
    after = trained(root)
    assert len(after) == 2 * number
    assert before.items() <= after.items()
    assert asked.count("last_layers seed 1") == 1
    again = compare_training("last_layers", "full", "tiny", 60.0, root, **options)
    assert (again, trained(root)) == (found, after)
    assert not (root / "runs").exists()
    words = " ".join(terminal_text(found).split())
    assert "at most 5 seeds; over all looks the chance of a false verdict is at most 5 %" in words


def test_the_tutorials_method_is_compared(root) -> None:
    folder = root / "studies" / "tiny"
    (folder / "lora_xs.py").write_text(CODE)
    methods = {"mine": {"file": "lora_xs.py", "lora": LORA}, "full": {"trains": "all"}}
    write_params(folder, root="../..", methods=methods, run={"methods": ["full"]}, grid=None)
    found = compare_training("full", "mine", "tiny", 60.0, root, most=3, step=3)
    assert (found.names, found.decision.word) == (("full", "mine"), "as good")


def test_runs_of_the_study_are_taken_and_too_few_reviews_end_it(root, monkeypatch) -> None:
    (root / "dvc.yaml").touch()
    monkeypatch.chdir(root)
    (line,) = re.findall(r"compare .*--seeds-at-most \d.*", (ROOT / "docs/usage.md").read_text())
    words = line.replace("demo", "tiny").split()
    shown = CliRunner().invoke(cli, words, catch_exceptions=False).output
    assert "Looked at 3, 6 of at most 6 seeds" in shown
    mine = root.joinpath(*SINGLES)
    shutil.move(mine, root / "runs" / "tiny")
    found = compare_training("last_layers", "full", "tiny", 1e-3, root, most=3, step=5)
    assert (found.decision.word, found.looked) == ("undecided", (3,))
    monkeypatch.setattr(verdicts, "FEWEST_REVIEWS", 100)
    found = compare_training("last_layers", "full", "tiny", None, root, most=9, step=1)
    assert (found.decision.why, found.looked) == ("few_reviews", (3,))
    assert not mine.exists()


def test_seeds_by_which_something_was_chosen_are_left_out(root) -> None:
    """The grid of the tiny study has seed 1 and tries its winner on 101."""
    study = more_seeds.read_study("tiny", root)
    run = study.run.model_copy(update={"seeds": [99, 100]})
    assert more_seeds._seeds(study.model_copy(update={"run": run}), 4) == [99, 100, 102, 103]


def test_both_are_tuned_first_by_equal_trials_and_each_runs_at_its_own_rate(
    root, monkeypatch
) -> None:
    monkeypatch.setattr(more_seeds, "HALF_DECADES", range(-1, 2))
    options = {"most": None, "step": 5, "tune": True}
    found = compare_training("last_layers", "full", "tiny", 60.0, root, **options)
    runs = [record.asked for _, record in read_records(root.joinpath(*SINGLES))]
    trials = {name: [r for r in runs if (r.role, r.name) == ("trial", name)] for name in METHODS}
    seeds = [{run.seed for run in own} for own in trials.values()]
    rates = {name: {r.settings.learning_rate for r in own} for name, own in trials.items()}
    assert [len(own) for own in trials.values()] == [9, 9]
    assert seeds[0] == seeds[1]
    assert not seeds[0] & {1, 2, 3, 101}, "seeds of final runs and of the grid"
    assert not any(run.settings.evaluate_test for own in trials.values() for run in own)
    base = more_seeds.read_study("tiny", root).train.learning_rate
    assert rates["full"] == rates["last_layers"] == {0.32 * base, base, 3.2 * base}
    final = [run for run in runs if run.role != "trial"]
    assert {(run.name, run.seed) for run in final} == {(m, s) for m in METHODS for s in (1, 2, 3)}
    assert len({(r.name, r.settings.learning_rate) for r in final}) == 2
    assert found.names == ("tuned last layers", "tuned full")
    before = trained(root)
    assert compare_training("last_layers", "full", "tiny", 60.0, root, **options) == found
    assert trained(root) == before


@pytest.mark.parametrize(
    ("words", "most", "message"),
    [
        (("last_layers", "fulll"), 3, "--method is 'fulll'; allowed: full, last_layers"),
        (("tiny:full", "other:full"), 3,
         "trains tiny:full and other:full; allowed: two methods of"),
        (("predictions/", "full"), 3, "--method is 'predictions/'; allowed"),
        (("last_layers", "full"), 2,
         "--seeds-at-most is 2, --step 5; allowed: whole numbers from 3"),
        (("last_layers", "full"), 1001, r"is 1001, --step 5; .* to 1,000, and from 1"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused(root, words, most, message) -> None:
    with pytest.raises(ParameterError, match=message):
        compare_training(*words, "tiny", None, root, most, 5)
    with pytest.raises(ParameterError, match=message):
        compare_training(*words, "tiny", None, root, most, 5, tune=True)
    with pytest.raises(ParameterError, match="--margin is 0; allowed"):
        compare_training("last_layers", "full", "tiny", 0, root, 3, 5)
    assert not (root / "singles").exists()


def test_a_rate_too_high_to_be_tuned_around_is_told_before_anything_runs(root) -> None:
    write_params(root / "studies" / "tiny", root="../..", train={"learning_rate": 0.1})
    with pytest.raises(ParameterError, match="32 times a method's own learning rate"):
        compare_training("last_layers", "full", "tiny", None, root, None, 5, tune=True)
    assert not (root / "singles").exists()
