"""The benchmark's parts on tiny encoders. How fast anything is, no test says."""

import importlib.util
import json
import os
from pathlib import Path
from unittest import mock

import pytest
import torch
from pydantic import ValidationError

from benchmarks import bench, executors, flops, grid, table
from benchmarks.gate import Case, PhaseOver
from benchmarks.results import (
    AblationResults,
    GridResults,
    PackMeasurement,
    Removal,
    Results,
    SamenessResults,
    WorkersResults,
    this_machine,
)
from benchmarks.tasks import METHODS, make_task, model_of, precisions
from benchmarks.worker import CONTENDERS, Turn, Worker, alternate, make_contender
from benchmarks.workload import make_workload
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.study import ModelParams

ROOT = Path(__file__).resolve().parents[1]


def case_of(contender, method, device="cpu", encoder="tiny-distilbert"):
    task = make_task(encoder, method, ModelParams(encoder=encoder, max_tokens=512), device)
    return next(
        case
        for case in task.cases
        if case.contender == contender and case.settings.precision in precisions(device)
    ), task.workload


class CountingGate:
    """Lets ``batches`` pass and keeps what ``look`` sees after each."""

    def __init__(self, batches, look=lambda: None):
        self.left, self.look, self.waits, self.seen = batches, look, 0, []

    def wait(self):
        self.waits += 1

    def batch_done(self, batches=1):
        self.seen.append(self.look())
        self.left -= batches
        if self.left <= 0:
            raise PhaseOver


def model_in(contender):
    return {
        "Article": lambda c: c.module.model,
        "HFTrainer": lambda c: c.model,
        "Ours": lambda c: c.classifier.models[0],
    }[type(contender).__name__](contender)


def trained(contender):
    return {
        name: p.detach().clone()
        for name, p in model_in(contender).named_parameters()
        if p.requires_grad
    }


@pytest.mark.parametrize("encoder", ["tiny-distilbert", "tiny-bert"])
@pytest.mark.parametrize("method", METHODS)
def test_every_contender_trains_the_same_parameters_and_evaluates_after(encoder, method):
    counts = {}
    for name in CONTENDERS:
        contender = make_contender(*case_of(name, method, encoder=encoder))
        before = trained(contender)
        counts[name] = sum(p.numel() for p in before.values())
        gate = CountingGate(2)
        with pytest.raises(PhaseOver):
            contender.train(gate)
        assert gate.waits == 1
        after = trained(contender)
        assert any(not torch.equal(before[key], after[key]) for key in before), name
        gate = CountingGate(4)
        with pytest.raises(PhaseOver):
            contender.evaluate(gate)
        assert gate.waits == 1
        assert all(torch.equal(after[key], value) for key, value in trained(contender).items()), (
            name
        )
    assert len(set(counts.values())) == 1, counts


@pytest.mark.parametrize("loop", ["train", "evaluate"])
@pytest.mark.parametrize("name", ["article", "peft"])
def test_peers_see_the_workload_as_their_users_would(name, loop):
    case, workload = case_of(name, "full")
    contender = make_contender(case, workload)
    shapes, modes = [], []

    def look(module, _arguments, keywords):
        shapes.append(tuple(keywords["input_ids"].shape))
        modes.append((module.training, int(keywords["attention_mask"].sum())))

    model_in(contender).register_forward_pre_hook(look, with_kwargs=True)
    with pytest.raises(PhaseOver):
        getattr(contender, loop)(CountingGate(3))
    tokens = workload.random if name == "article" else workload.grouped
    lengths = [tokens.lengths[rows] for rows in (*workload.rows(), workload.rows()[0])]
    assert shapes == [(12, 512 if name == "article" else own.max()) for own in lengths]
    assert modes == [(loop == "train", own.sum()) for own in lengths]


class Recorder:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def warm_up(self):
        self.log.append(self.name.lower())

    def turn(self):
        self.log.append(self.name)
        return Turn(len(self.log), 0)


@pytest.mark.parametrize(
    ("has_bf16", "cases"),
    [
        (
            True,
            [
                ("article", "fp32"),
                ("article", "bf16-mixed"),
                ("peft", "bf16-mixed"),
                ("ours", "bf16-mixed"),
            ],
        ),
        (False, [("article", "fp32"), ("peft", "fp32"), ("ours", "fp32")]),
    ],
)
def test_a_processor_without_bf16_is_measured_in_fp32(monkeypatch, has_bf16, cases):
    monkeypatch.setattr("lora_replication.machine.multiplies_bf16", lambda: has_bf16)
    task = make_task(
        "tiny-distilbert",
        "lora_default",
        ModelParams(encoder="tiny-distilbert", max_tokens=512),
        "cpu",
    )
    assert [(case.contender, case.settings.precision) for case in task.cases] == cases
    assert {settings.precision for settings in grid.pack_settings(8, "cpu", "tiny-bert")} == {
        cases[-1][1]
    }


def test_turns_alternate_once_all_have_warmed_up():
    log = []
    rounds = alternate(
        [Recorder(name, log) for name in "ABC"], 2, lambda: log.append("rate") or len(log)
    )
    assert log == ["a", "b", "c", *["A", "B", "C", "rate"] * 2]
    assert rounds == [
        ([Turn(4, 0), Turn(5, 0), Turn(6, 0)], 7),
        ([Turn(8, 0), Turn(9, 0), Turn(10, 0)], 11),
    ]


def test_a_worker_that_dies_is_named():
    case, workload = case_of("ours", "full")
    worker = Worker(
        Case(
            "ours", ModelParams(encoder="folder", path="/nowhere", max_tokens=512), case.settings, 1
        ),
        workload,
    )
    with pytest.raises(
        IncompleteError, match="benchmark of ours: its process ended with exit code 1"
    ):
        worker.turn()


def with_marks(folder, kind):
    begin, end = table.marks(kind)
    (folder / "README.md").write_text(f"before\n{begin}old\n{end}\nafter\n")


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    with_marks(folder, Results)
    words = [
        "--sizes",
        "tiny-distilbert",
        "--methods",
        "lora_default",
        "--rounds",
        "2",
        "--folder",
        str(folder),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(flops.MATRIX_SIDE, "cpu", 64)
        bench.main(words)
    return folder, Results.read_all(folder / "results")


@pytest.mark.slow
def test_a_whole_run_measures_every_contender_in_both_phases(whole_run):
    folder, (results,) = whole_run
    (precision,) = precisions("cpu")
    asked = [(name, precision) for name in ("article", "peft", "ours")]
    asked = asked if precision == "fp32" else [("article", "fp32"), *asked]
    assert [(m.phase, m.contender, m.precision) for m in results.measurements] == [
        (phase, *one) for phase in ("training", "evaluation") for one in asked
    ]
    assert all(
        len(m.seconds_per_review) == len(m.matrix_flops_per_second) == 2
        for m in results.measurements
    )
    assert all(1e8 < m.peak_memory_bytes < 1e11 for m in results.measurements)
    assert (folder / "results" / f"{results.machine.name}.json").is_file()
    profile = (folder / "results" / f"{results.machine.name}-profile.txt").read_text().splitlines()
    assert (
        profile[0]
        == f"A training step of this project, mean of 2: tiny-distilbert, lora_default, {precision}, cpu"
    )
    times = [float(line.split()[0]) for line in profile[4:]]
    assert times == sorted(times, reverse=True)
    assert 0 < sum(times) <= float(profile[3].split()[0]) * 1.01


@pytest.mark.slow
def test_the_readme_gets_the_tables_and_keeps_the_rest(whole_run):
    folder, results = whole_run
    begin, end = table.marks(Results)
    assert (
        folder / "README.md"
    ).read_text() == f"before\n{begin}{table.render(results)}{end}\nafter\n"


@pytest.mark.slow
def test_results_name_no_host_and_refuse_what_they_do_not_know(whole_run, tmp_path):
    _, (results,) = whole_run
    assert os.uname().nodename not in results.model_dump_json()
    results.write(tmp_path)
    assert Results.read_all(tmp_path) == [results]
    content = json.loads(results.model_dump_json())
    with pytest.raises(ValidationError, match="host"):
        Results.model_validate(content | {"host": "x"})
    content["measurements"][0]["seconds_per_review"] = [0.0]
    with pytest.raises(ValidationError, match="seconds_per_review"):
        Results.model_validate(content)


@pytest.mark.slow
def test_ratios_are_of_the_same_round_and_the_same_precision(whole_run):
    _, (results,) = whole_run
    training = {
        (m.contender, m.precision): m for m in results.measurements if m.phase == "training"
    }
    (precision,) = precisions("cpu")
    changed = [
        training["ours", precision].model_copy(update={"seconds_per_review": (0.1, 0.2, 0.1), "matrix_flops_per_second": (1e9, 2e9, 1e9),
                                                          "flops_per_review": 1e7, "peak_memory_bytes": 2**30}),
        training["article", "fp32"].model_copy(update={"seconds_per_review": (1.0, 1.0, 0.8), "matrix_flops_per_second": (1e9, 1e9, 1e9)}),
    ]  # fmt: skip
    rows = table.render(
        [results.model_copy(update={"measurements": tuple(changed), "mean_tokens": 250.0})]
    ).splitlines()
    own, peer = (line.split(" | ") for line in rows if line.startswith("| lora default"))
    assert own[1:] == [
        "this project",
        precision,
        "100 (100 to 200)",
        "2,500",
        "1.00 GiB",
        "10.0%",
        " |",
    ]
    assert peer[-1] == "8.0 (5.0 to 10.0) |"


def test_a_readme_without_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing\n")
    with pytest.raises(ValueError, match="lacks the line"):
        table.show(pack_results(), tmp_path)


@pytest.mark.parametrize(
    "kind", [Results, GridResults, AblationResults, WorkersResults, SamenessResults]
)
def test_the_committed_tables_are_those_of_the_committed_results(kind):
    text = (ROOT / "benchmarks" / "README.md").read_text("utf-8")
    begin, end = table.marks(kind)
    assert begin in text
    assert text.partition(begin)[2].partition(end)[0] == table.render(
        kind.read_all(ROOT / "benchmarks" / "results")
    )


def test_rounds_below_one_are_refused():
    with pytest.raises(ParameterError, match="--rounds is 0; allowed: 1 or more"):
        bench.main(["--rounds", "0"])


@pytest.mark.slow
def test_packs_are_measured_and_projected(tmp_path, monkeypatch):
    monkeypatch.setitem(flops.MATRIX_SIDE, "cpu", 64)
    with_marks(tmp_path, GridResults)
    grid.main(
        [
            "--size",
            "tiny-bert",
            "--packs",
            "1",
            "3",
            "--batches",
            "2",
            "--rounds",
            "1",
            "--folder",
            str(tmp_path),
        ]
    )
    (results,) = GridResults.read_all(tmp_path / "results")
    assert [(m.pack, m.batches) for m in results.measurements] == [(1, 1), (3, 1), (1, 2)]
    assert Results.read_all(tmp_path / "results") == []
    assert table.render([results]) in (tmp_path / "README.md").read_text()


def test_a_pack_is_charged_for_what_it_holds(monkeypatch):
    """576 configurations make 6 packs of 96 where 100 are asked for, and a turn takes a second for
    each of them here.
    """
    monkeypatch.setattr(
        grid, "_turn", lambda settings, _model, _workload, _batches: (float(len(settings)), 1)
    )
    monkeypatch.setattr(grid, "matrix_rate", lambda *_: 1.0)
    one, many = grid.run("cpu", "tiny-bert", [(1, 1), (100, 1)], 1, "x").measurements
    assert many.seconds_per_review == pytest.approx(one.seconds_per_review)


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_batches_at_once_are_the_turn_in_fewer_steps(monkeypatch, batches):
    """Every review of the turn once, ``batches`` times as many in a step, after a step of warming
    up.
    """
    steps = []
    monkeypatch.setattr(
        "lora_replication.training.loop.train_step",
        lambda _classifier, _states, batch: steps.append(sorted(batch.rows)),
    )
    with model_of("tiny-bert") as model:
        workload = make_workload(4, 12, 500)
        grid._train(
            grid.pack_settings(1, "cpu", "tiny-bert")[:1], model, workload, batches, mock.Mock()
        )
    assert [len(step) for step in steps] == [12 * batches] * (1 + 4 // batches)
    assert sorted(row for step in steps[1:] for row in step) == list(range(48))


def test_batches_that_do_not_divide_a_turn_are_refused():
    with pytest.raises(
        ParameterError, match=r"--batches has 3; allowed: what divides the 4 of a turn, but not 1"
    ):
        grid.main(["--batches", "2", "3"])


def pack_results():
    alone = PackMeasurement(
        pack=1,
        seconds_per_review=(0.1,),
        matrix_flops_per_second=(4e12,),
        flops_per_review=1e11,
        peak_memory_bytes=2**30,
    )
    pack = alone.model_copy(
        update={"pack": 8, "seconds_per_review": (0.05,), "peak_memory_bytes": 3 * 2**30}
    )
    return GridResults(
        machine=this_machine("cpu"), versions={}, commit="c" * 40, changed=False, command="x", started="now", seconds=60.0, size="minilm",
        matrix_precision="fp32", mean_tokens=270.0, measurements=(alone, pack),
    )  # fmt: skip


def test_a_pack_is_projected_from_its_share_of_a_step():
    row = table.render([pack_results()]).splitlines()[-1]
    hours = 3 * 35_000 * 0.05 / 3600
    assert (
        row
        == f"| 8 | 50 (50 to 50) | 2.00 (2.00 to 2.00) | 3.00 GiB | 50.0% | {1 / hours:.2g} | {576 * hours:,.3g} h |"
    )


def test_a_speed_up_is_told_by_how_much_longer_a_step_takes_without_it():
    results = AblationResults(
        machine=this_machine("cpu"), versions={}, commit="c" * 40, changed=False, command="x", started="now", seconds=60.0, size="minilm",
        method="lora_default", precision="fp32",
        removals=(
            Removal(
                name="no padding",
                expected="2: twice the tokens",
                phase="training",
                seconds_as_it_is=(0.1, 0.2),
                seconds_per_review=(0.2, 0.3),
            ),
        ),
    )  # fmt: skip
    rows = table.render([results]).splitlines()
    assert (
        rows[-1]
        == "| no padding | 2: twice the tokens | 1.75 (1.50 to 2.00) | 250 (200 to 300) | 150 (100 to 200) |"
    )
    assert "lora default, fp32." in rows


def test_two_workers_are_told_beside_one():
    results = WorkersResults(
        machine=this_machine("cpu"), versions={}, commit="c" * 40, changed=False, command="x", started="now", seconds=60.0,
        configurations=12, seconds_of_sweep={1: (10.0, 20.0), 2: (6.0, 10.0)},
    )  # fmt: skip
    one, two = table.render([results]).splitlines()[-2:]
    assert one == "| 1 | 12 | 15 (10 to 20) |  |"
    assert two == "| 2 | 12 | 8 (6 to 10) | 0.55 (0.50 to 0.60) |"


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("ray"), reason="needs the package ray (pip install 'ray>=2.52')"
)
def test_workers_are_measured_on_a_ray_of_this_machine(tmp_path):
    with_marks(tmp_path, WorkersResults)
    executors.main(["--rounds", "1", "--epochs", "1", "--folder", str(tmp_path)])
    (results,) = WorkersResults.read_all(tmp_path / "results")
    assert {workers: len(seconds) for workers, seconds in results.seconds_of_sweep.items()} == {
        1: 1,
        2: 1,
    }
    assert results.configurations == 12
    assert table.render([results]) in (tmp_path / "README.md").read_text()
