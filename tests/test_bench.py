"""The benchmark's parts on tiny encoders. How fast anything is, no test says."""

import itertools
import json
import os
import signal

import pytest
import torch
from pydantic import ValidationError

from benchmarks import bench, flops
from benchmarks.bench import GRID, METHODS, cases_of, measure
from benchmarks.contenders import CONTENDERS, Clock, make_contender
from benchmarks.results import FOLDER, MIXED, Beginning, Results, page, render
from benchmarks.workers import Workers
from benchmarks.workload import batch_rows
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.study import ModelParams
from tests.tiny_encoders import tiny_encoder


def tiny(kind="distilbert"):
    return ModelParams(encoder="folder", path=str(tiny_encoder(kind)), max_tokens=512)


def case_of(contender, method, kind="distilbert"):
    cases = cases_of(kind, tiny(kind), "cpu", "fp32", method)
    return next(case for case in cases if case.contender == contender)


def model_in(contender):
    return {
        "Article": lambda c: c.module.model,
        "HFTrainer": lambda c: c.model,
        "Ours": lambda c: c.classifier.models[0],
    }[type(contender).__name__](contender)


@pytest.mark.parametrize("kind", ["distilbert", "bert"])
@pytest.mark.parametrize("method", METHODS)
def test_every_contender_trains_the_same_parameters_and_evaluates_after(kind, method):
    counts = {}
    for name in CONTENDERS:
        contender = make_contender(case_of(name, method, kind))
        trained = [p for p in model_in(contender).parameters() if p.requires_grad]
        counts[name] = sum(p.numel() for p in trained)
        weights = [[p.detach().clone() for p in trained]]
        for loop in (contender.train, contender.evaluate):
            clock = Clock(1, 1, "cpu")
            loop(clock)
            assert clock.seconds > 0
            weights.append([p.detach().clone() for p in trained])
        same = [all(map(torch.equal, *pair)) for pair in itertools.pairwise(weights)]
        assert same == [False, True], name
    assert len(set(counts.values())) == 1, counts


@pytest.mark.parametrize("loop", ["train", "evaluate"])
@pytest.mark.parametrize("name", ["article", "peft"])
def test_peers_see_the_workload_as_their_users_would(name, loop):
    case = case_of(name, "full")
    contender, shapes, modes = make_contender(case), [], []

    def look(module, _arguments, keywords):
        shapes.append(tuple(keywords["input_ids"].shape))
        modes.append((module.training, int(keywords["attention_mask"].sum())))

    model_in(contender).register_forward_pre_hook(look, with_kwargs=True)
    getattr(contender, loop)(Clock(case.batches, 1, "cpu"))
    rows = batch_rows(case.reviews)
    lengths = [case.reviews.lengths[own] for own in (*rows, rows[0])]
    assert shapes == [(12, 512 if name == "article" else own.max()) for own in lengths]
    assert modes == [(loop == "train", own.sum()) for own in lengths]


def test_a_clock_times_what_follows_the_untimed_batches(monkeypatch):
    times = iter([1.0, 4.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(times))
    clock = Clock(batches=3, untimed=2, device="cpu")
    for batches in (0, 1, 1, 1, 2):
        clock.batch_done(batches)
    assert (clock.total, clock.seconds) == (5, 3.0)


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, "bf16-mixed"), (False, "fp32")])
def test_a_processor_without_bf16_is_measured_in_fp32_and_numbers_start_at_one(
    monkeypatch, has_bf16, precision
):
    monkeypatch.setattr("lora_replication.machine.multiplies_bf16", lambda: has_bf16)
    assert bench.precisions("cpu") == (precision,)
    for words in (["--rounds", "0"], ["--packs", "8", "0"], ["--mixed", "0"]):
        with pytest.raises(ParameterError, match="allowed: from 1"):
            bench.main(words)


class Recorder(Workers):
    """Writes down who is called."""

    def __init__(self):
        super().__init__()
        self.log = []

    def call(self, name, function, *arguments, until=0.0):
        self.log.append((name, *arguments[1:]))
        return 1e12 if name == "rate" else (24.0 * len(arguments[0].settings), 2**30)

    def stop(self, name):
        self.log.append(f"{name} ends")


def test_turns_alternate_and_a_rate_follows_each():
    workers = Recorder()
    measurements = measure(cases_of("tiny", tiny(), "cpu", "fp32", "full"), 2, workers)
    assert [name for name, *_ in workers.log[::2]] == list(CONTENDERS) * 4
    assert [phase for _, phase in workers.log[::2]] == ["training"] * 6 + ["evaluation"] * 6
    assert {name for name, *_ in workers.log[1::2]} == {"rate"}
    article = measurements[0]
    assert article.seconds_per_review == (2.0, 2.0)  # one batch of 12
    assert article.matrix_flops_per_second == (1e12, 1e12)


def test_a_pack_is_charged_for_what_it_holds():
    """576 configurations make 6 packs of 96 where 100 are asked for."""
    workers = Recorder()
    cases = cases_of("tiny", tiny(), "cpu", "fp32", GRID, [1, 100])
    one, many = measure(cases, 1, workers)
    assert (one.pack, many.pack) == (1, 96)
    assert many.seconds_per_review == pytest.approx(one.seconds_per_review)
    assert workers.log[2] == "ours ends"
    equal, mixed = cases_of("tiny", tiny(), "cpu", "fp32", MIXED, [12])
    assert [len({each.model_dump_json() for each in c.settings}) for c in (equal, mixed)] == [1, 12]


def raise_or_die(how):
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hang":
        signal.pause()
    raise ValueError(how)


@pytest.mark.parametrize("forked", [True, False])
def test_a_worker_that_fails_dies_or_hangs_is_named_and_the_next_call_works(tmp_path, forked):
    with Workers(tmp_path / "log", forked=forked) as workers:
        with pytest.raises(IncompleteError, match="ValueError: wrong"):
            workers.call("one", raise_or_die, "wrong")
        assert "ValueError: wrong" in (tmp_path / "log").read_text()
        with pytest.raises(IncompleteError, match="ended with -9"):
            workers.call("one", raise_or_die, "die")
        with pytest.raises(TimeoutError, match="out of time"):
            workers.call("one", raise_or_die, "hang", until=0.0)
        assert workers.call("one", abs, -1) == 1


ALONE = [(phase, name, 1) for phase in ("training", "evaluation") for name in CONTENDERS]
WHOLE = {
    "--methods lora_default": ALONE,
    "--packs 1 2": [("training", "ours", 1), ("training", "ours", 2)],
    "--mixed 2": 2 * [("training", "ours", 2)],
}


@pytest.mark.slow
@pytest.mark.parametrize("words", WHOLE)
def test_a_whole_run_is_kept_and_shown(tmp_path, monkeypatch, capsys, words):
    monkeypatch.setitem(flops.MATRIX_SIDE, "cpu", 64)
    size = tiny_encoder("distilbert")
    bench.main(["--sizes", str(size), "--rounds", "1", "--folder", str(tmp_path), *words.split()])
    (results,) = Results.read_all(tmp_path)
    found = [(m.phase, m.contender, m.pack) for m in results.measurements]
    assert found == WHOLE[words]
    assert all(1e8 < m.peak_memory_bytes < 1e11 for m in results.measurements)
    assert os.uname().nodename not in results.model_dump_json()
    assert render(results) in (tmp_path / "README.md").read_text()
    assert render(results) in capsys.readouterr().out


def test_the_committed_tables_are_those_of_the_committed_results():
    assert (FOLDER / "README.md").read_text("utf-8") == page(Results.read_all(FOLDER))


def test_results_come_back_as_written_have_ratios_of_the_same_round_and_refuse_the_unknown(
    tmp_path,
):
    one = next(iter(Results.read_all(FOLDER))).measurements[0]
    own = one.model_copy(
        update={"contender": "ours", "precision": "fp32", "seconds_per_review": (0.1, 0.2, 0.1)}
        | {"matrix_flops_per_second": (1e9, 2e9, 1e9), "flops_per_review": 1e7}
    )
    slow = {"contender": "peft", "precision": "bf16-mixed", "seconds_per_review": (1.0, 1.0, 0.8)}
    fast = {"pack": 8, "seconds_per_review": (0.05, 0.05, 0.05)}
    mixed = fast | {"method": "mixed", "seconds_per_review": (0.1, 0.05, 0.05)}
    unlike = [slow, {}, fast, fast | {"method": "equal"}, mixed]
    five = tuple(own.model_copy(update=each) for each in unlike)
    content = {"measurements": five, "mean_tokens": 250.0, "skipped": ("packs of 64: no memory",)}
    written = Beginning("cpu", "make gpu").results("speed", **content)
    written.write(tmp_path / "one.json")
    assert Results.read_all(tmp_path) == [written]
    text = render(written)
    rows = [row.strip("| ").split(" | ") for row in text.splitlines() if f"| {one.size}" in row]
    assert [rows[1][6], rows[1][7], rows[1][9]] == ["100 (100 to 200)", "2,500", "10.0%"]
    ratios = ["8.00 (5.00 to 10.00)", "0.50 (0.25 to 0.50)", "1.00 (1.00 to 2.00)"]
    assert [rows[at][-1] for at in (0, 2, 4)] == ratios
    assert "- not done: packs of 64: no memory" in text
    content = json.loads((tmp_path / "one.json").read_text())
    with pytest.raises(ValidationError, match="host"):
        Results.model_validate(content | {"host": "x"})
