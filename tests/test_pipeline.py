"""The whole way as people use it: ``lora-replication run`` in a checkout, through DVC, with real
processes.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_replication import machine, pipeline
from lora_replication.reading import merge_files

ROOT = Path(__file__).resolve().parents[1]
COMMAND = Path(sys.executable).with_name("lora-replication")

SMALL = """
study: small
title: A tiny random encoder on generated reviews, not IMDb (test)
data:
  source: generated
  reviews: {train: 24, val: 12, test: 12}
model: {encoder: tiny-distilbert, max_tokens: 64}
train: {epochs: 1, learning_rate: 1.0e-2, precision: fp32, device: cpu}
run: {methods: [last_layers, full], seeds: [1]}
grid:
  alpha: [1]
  rank: [1, 2]
  key: [false]
  projection: [false]
  mlp: [false]
  head: [false]
  winner_seeds: [101]
  runners_up: 0
"""


RUNS = [
    "full/seed-1",
    "grid/r1-a1-query-value/seed-1",
    "grid/r2-a1-query-value/seed-1",
    "grid_winner/seed-101",
    "last_layers/seed-1",
]


def checkout(folder: Path) -> Path:
    """A project to run in, at a path with a space and an accent."""
    root = folder / "d 2 é"
    root.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, root)
    for name in ("src", "stages"):
        (root / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "studies", root / "studies")
    (root / "studies" / "small.yaml").write_text(SMALL)
    return root


def environment(**more: str) -> dict[str, str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("MLFLOW_TRACKING_URI", "IMDB_ARCHIVE")
    }
    return clean | {"OMP_NUM_THREADS": "1"} | more


def run(
    root: Path, *arguments: str, timeout: float = 240, **more: str
) -> subprocess.CompletedProcess:
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=root,
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def dvc(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    site_cache = {"DVC_SITE_CACHE_DIR": str(root / ".dvc" / "site-cache")}
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(
        command,
        cwd=root,
        env=environment(**site_cache),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def stages_run(done: subprocess.CompletedProcess) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", done.stdout)


def tree(root: Path) -> dict[str, str]:
    return {
        str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(root.rglob("*"))
        if file.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkout in which the small study has run once."""
    root = checkout(tmp_path_factory.mktemp("pipeline"))
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done) == [
        "prepare",
        "train@last_layers-1",
        "train@full-1",
        "gridsearch",
        "report",
    ]
    return root


def test_a_study_leaves_records_a_report_and_tracked_runs(finished):
    work = finished / "build" / "small"
    records = sorted(
        str(file.parent.relative_to(work / "runs/small"))
        for file in (work / "runs").rglob("record.json")
    )
    assert records == RUNS
    for name in ("report.html", "report.md", "table.csv", "results.json"):
        assert "not IMDb" in (work / "reports/small" / name).read_text("utf-8"), name
    with sqlite3.connect(finished / "mlflow.db") as database:
        statuses = database.execute("select status from runs").fetchall()
    assert statuses == [("FINISHED",)] * 6  # five runs and the parent of the grid's configurations
    assert not (finished / "runs").exists()


def test_dvc_shows_the_metrics_and_plots_of_a_workspace(finished, tmp_path):
    work = finished / "build" / "small"
    shown = json.loads(dvc(work, "metrics", "show", "--json").stdout)[""]["data"]
    metrics = json.loads((work / "reports/small/metrics.json").read_text())
    assert {file: told["data"] for file, told in shown.items()} == {
        "reports/small/metrics.json": metrics
    }
    assert metrics["full"]["test_accuracy"] == read_correct(work / "runs/small/full/seed-1") / 12
    assert dvc(work, "plots", "show", "--out", str(tmp_path / "plots")).returncode == 0
    page = (tmp_path / "plots/index.html").read_text("utf-8")
    points, _ = json.JSONDecoder().raw_decode(page, page.index('"values": ') + len('"values": '))
    assert sorted((point["method"], point["seed"], point["epoch"]) for point in points) == [
        ("full", "1", "1"),
        ("grid_winner", "101", "1"),
        ("last_layers", "1", "1"),
    ]
    assert '"mark": {"type": "point"' in page
    without_git = dvc(work, "metrics", "diff")  # as the README says
    assert without_git.returncode != 0
    assert "Only supported for Git repositories" in without_git.stderr


def read_correct(folder: Path) -> int:
    return json.loads((folder / "record.json").read_text())["happened"]["test"]["correct"]


def test_a_second_time_nothing_runs(finished):
    done = run(finished, "run", "small")
    assert done.returncode == 0
    assert stages_run(done) == []


def test_a_changed_learning_rate_retrains_that_method_alone(finished):
    study = finished / "studies" / "small.yaml"
    study.write_text(SMALL + "methods: {full: {learning_rate: 1.0e-3}}\n")
    done = run(finished, "run", "small")
    study.write_text(SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done) == ["train@full-1", "report"]
    results = json.loads((finished / "build/small/runs/small/full/seed-1/record.json").read_text())
    assert results["asked"]["settings"]["learning_rate"] == 1e-3


def test_the_tracking_database_is_rebuilt_from_the_records_and_not_doubled(finished, tmp_path):
    uri = f"sqlite:///{tmp_path}/rebuilt.db"
    for _ in range(2):
        done = run(finished, "sync", MLFLOW_TRACKING_URI=uri)
        assert done.returncode == 0, done.stderr
        with sqlite3.connect(tmp_path / "rebuilt.db") as database:
            assert database.execute(
                "select count(*) from runs where status = 'FINISHED'"
            ).fetchone() == (6,)


def test_the_report_alone_is_made_again_where_it_was_deleted(finished):
    assert run(finished, "run", "small").returncode == 0
    page = finished / "build/small/reports/small/report.html"
    before = page.read_bytes()
    page.unlink()
    done = run(finished, "run", "small", "--publish")
    assert stages_run(done) == ["report"]
    assert page.read_bytes() == (finished / "reports/small/report.html").read_bytes() == before


@pytest.mark.slow
def test_what_is_published_is_the_current_records_and_nothing_of_before(finished):
    published, runs = finished / "reports/small", finished / "build/small/runs/small"
    (published / "records/gone/seed-1").mkdir(parents=True)
    (published / "records/gone/seed-1/record.json").write_text("{}")
    shutil.copytree(runs / "full/seed-1", runs / "full/seed-9")  # of a seed that nobody asks for
    done = run(finished, "run", "small", "--publish")
    shutil.rmtree(runs / "full/seed-9")
    assert done.returncode == 0, done.stdout + done.stderr
    files = sorted(
        str(file.relative_to(published / "records"))
        for file in (published / "records").rglob("*")
        if file.is_file()
    )
    folders = (
        "full/seed-1",
        "grid/r1-a1-query-value/seed-1",
        "grid/r2-a1-query-value/seed-1",
        "grid_winner/seed-101",
        "last_layers/seed-1",
    )
    assert files == [
        f"{folder}/{name}" for folder in folders for name in ("predictions.parquet", "record.json")
    ]
    assert [file.name for file in (finished / "reports").iterdir()] == ["small"]


@pytest.mark.slow
def test_a_study_that_fails_leaves_what_was_published_as_it_was(finished):
    before = tree(finished / "reports")
    assert before
    record = finished / "build/small/runs/small/last_layers/seed-1/record.json"
    whole = record.read_bytes()
    record.write_text("{}")
    (finished / "build/small/reports/small/report.html").unlink()
    done = run(finished, "run", "small", "--publish")
    record.write_bytes(whole)
    assert done.returncode == 3, done.stdout + done.stderr
    assert tree(finished / "reports") == before


def test_an_incomplete_study_is_reported_only_where_asked_for(finished):
    work = finished / "build/small"
    assert run(finished, "run", "small").returncode == 0
    before, record = tree(work / "reports"), work / "runs/small/last_layers/seed-1/record.json"
    whole = record.read_bytes()
    record.unlink()
    refused = run(finished, "report", "small")
    stage = subprocess.run(
        [sys.executable, "stages/report.py"],
        cwd=work,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for done in (refused, stage):
        assert done.returncode == 5
        assert "1 of 5 runs are missing: last_layers seed 1 (not run)" in done.stderr
    assert tree(work / "reports") == before
    partial = run(finished, "report", "small", "--allow-partial")
    assert partial.returncode == 0, partial.stderr
    assert (
        partial.stdout.splitlines()[0]
        == "partial: 1 of 5 runs are missing: last_layers seed 1 (not run)"
    )
    assert (
        "Incomplete: 4 of 5 runs have a result." in (work / "reports/small/report.md").read_text()
    )
    record.write_bytes(whole)
    assert run(finished, "report", "small").returncode == 0
    assert tree(work / "reports") == before


@pytest.mark.slow
def test_a_tracking_address_of_the_study_is_used_and_the_variable_overrules_it(finished, tmp_path):
    study = finished / "studies" / "small.yaml"
    study.write_text(
        SMALL
        + "tracking: {uri: 'sqlite:///own/small.db'}\nmethods: {full: {learning_rate: 2.0e-3}}\n"
    )
    assert run(finished, "run", "small").returncode == 0
    study.write_text(study.read_text().replace("2.0e-3", "3.0e-3"))
    assert run(finished, "run", "small", MLFLOW_TRACKING_URI="sqlite:///named.db").returncode == 0
    study.write_text(SMALL)
    for database in ("own/small.db", "named.db"):  # both from where the command was given
        with sqlite3.connect(finished / database) as opened:
            assert opened.execute("select status from runs").fetchall() == [("FINISHED",)], database
    assert not [file for file in (finished / "build").rglob("*.db") if ".dvc" not in file.parts]


@pytest.mark.slow
@pytest.mark.fault(32)
def test_a_second_run_of_the_same_study_is_refused_with_the_first_ones_pid(tmp_path):
    root = checkout(tmp_path)
    command = [COMMAND, "run", "small"]
    with subprocess.Popen(
        command,
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as first:
        while "prepare" not in first.stdout.readline():
            pass
        second = run(root, "run", "small")
        first.send_signal(signal.SIGHUP)
        out, _ = first.communicate(timeout=30)
    assert second.returncode == 4, second.stderr
    assert f"locked by process {first.pid}; wait for it" in second.stderr
    assert first.returncode == 129, out


@pytest.mark.slow
@pytest.mark.parametrize("git", [False, True])
def test_a_study_in_the_project_itself_runs_with_git_and_from_an_unpacked_archive(tmp_path, git):
    """The article's name, on something tiny: it runs in the root, whose DVC folder is tracked and
    expects git.
    """
    root = checkout(tmp_path)
    shutil.copytree(
        ROOT / ".dvc",
        root / ".dvc",
        ignore=shutil.ignore_patterns("cache", "tmp", "site-cache", "config.local"),
    )
    params = merge_files(root / "params.yaml", root / "studies/small.yaml") | {"study": "article"}
    params["grid"] |= {"rank": [1]}
    (root / "params.yaml").write_text(json.dumps(params))
    if git:
        subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
        shutil.copy(ROOT / ".gitignore", root)
    done = run(root, "run", "article", "--publish")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((root / "reports/article/records").rglob("record.json"))) == 4
    assert (root / "reports/article/report.html").is_file()
    assert (root / ".dvc/config.local").exists() != git
    plain = dvc(root, "status")
    assert "up to date" in plain.stdout, plain.stdout + plain.stderr
    if git:
        untracked = subprocess.run(
            ["git", "status", "--porcelain", "-uall", ".dvc"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
        assert sorted(untracked.stdout.split()) == [".dvc/.gitignore", ".dvc/config", "??", "??"]
        assert_metrics_are_compared_between_commits(root)


def assert_metrics_are_compared_between_commits(root: Path) -> None:
    """The study's own metrics, and those of a report that was published beside it and is in no
    graph.
    """
    (root / "reports/other").mkdir()
    shutil.copy(root / "reports/article/metrics.json", root / "reports/other")
    commit = [
        "git",
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "commit",
        "--quiet",
        "--message",
        "reports",
    ]
    for command in (["git", "add", "dvc.yaml", "params.yaml", "reports"], commit):
        subprocess.run(command, cwd=root, check=True)
    for name, more in (("article", []), ("other", ["--targets", "reports/other/metrics.json"])):
        file = root / f"reports/{name}/metrics.json"
        metrics = json.loads(file.read_text())
        before = metrics["full"]["runs"]
        file.write_text(json.dumps(metrics | {"full": metrics["full"] | {"runs": 7}}))
        changed = json.loads(dvc(root, "metrics", "diff", "--json", *more).stdout)
        assert changed == {
            f"reports/{name}/metrics.json": {
                "full.runs": {"old": before, "new": 7, "diff": 7 - before}
            }
        }
        file.write_text(json.dumps(metrics))


@pytest.mark.slow
def test_another_executor_retrains_nothing_and_other_configurations_run_in_it(finished):
    assert run(finished, "run", "small").returncode == 0
    study = finished / "studies" / "small.yaml"
    study.write_text(
        SMALL + "  executor: processes\n  workers: 1\n  pack: 1\n  pack_timeout: 600\n"
    )
    done = run(finished, "run", "small")
    assert (done.returncode, stages_run(done)) == (0, []), done.stdout + done.stderr
    study.write_text(study.read_text().replace("alpha: [1]", "alpha: [2]"))
    done = run(finished, "run", "small")
    study.write_text(SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done) == ["gridsearch", "report"]
    assert (
        "grid: 2 records are left unread: they are of other parameters, data, weights or code"
        in done.stdout
    )
    assert "grid: 2 of 2 configurations done" in done.stdout
    with sqlite3.connect(finished / "mlflow.db") as database:
        names = [
            name for (name,) in database.execute("select name from runs where status = 'FINISHED'")
        ]
    assert {"r1-a2-query-value seed-1", "r2-a2-query-value seed-1"} <= set(names)


@pytest.mark.parametrize(
    ("study", "arguments", "code", "message"),
    [
        (
            "train: {epochs: 0}\n",
            ["run", "bad"],
            2,
            "bad.yaml:2: train.epochs is 0; allowed: a whole number from 1 to 1000",
        ),
        (
            "train: {epocs: 1}\n",
            ["run", "bad"],
            2,
            "bad.yaml:2: unknown key train.epocs; did you mean train.epochs?",
        ),
        ("", ["run", "none"], 2, "study is 'none'; allowed: article, bad, demo"),
        (
            "",
            ["train", "--study", "bad", "--method", "ful"],
            2,
            "--method is 'ful'; allowed: last_layers",
        ),
    ],
)
@pytest.mark.fault(21)
def test_bad_parameters_are_told_in_two_seconds_and_change_nothing(
    tmp_path, study, arguments, code, message
):
    root = checkout(tmp_path)
    (root / "studies" / "bad.yaml").write_text(f"study: bad\n{study}")
    before = tree(root)
    started = time.monotonic()
    done = run(root, *arguments)
    assert time.monotonic() - started < 2
    assert done.returncode == code
    assert message in done.stderr
    if "train" not in arguments:
        assert tree(root) == before


def test_a_stage_that_fails_gives_its_own_code_and_message(tmp_path):
    root = checkout(tmp_path)
    (root / "studies" / "imdb.yaml").write_text(
        "study: imdb\ntitle: no archive\ndata: {source: archive}\nmodel: {encoder: tiny-bert}\ntrain: {device: cpu}\n"
    )
    done = run(root, "run", "imdb")
    assert done.returncode == 3, done.stderr
    assert "IMDB_ARCHIVE" in done.stderr
    assert not (root / "build/imdb/data").exists() or not list(
        (root / "build/imdb/data").rglob("*.parquet")
    )


@pytest.mark.fault(36)
def test_a_gpu_that_is_asked_for_and_missing_ends_with_4(tmp_path):
    root = checkout(tmp_path)
    (root / "studies" / "gpu.yaml").write_text(
        SMALL.replace("study: small", "study: gpu").replace("device: cpu", "device: cuda")
    )
    done = run(root, "run", "gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 4, done.stderr
    assert "train.device is cuda" in done.stderr
    assert not (root / "build").exists()


def test_a_precision_that_the_processor_computes_slowly_is_warned_of(
    tiny_study, monkeypatch, capsys
):
    monkeypatch.setattr(machine, "multiplies_bf16", lambda: False)
    for precision in ("fp32", "bf16-mixed"):
        pipeline._check_device(
            tiny_study.model_copy(
                update={"train": tiny_study.train.model_copy(update={"precision": precision})}
            )
        )
    told = "warning: train.device cpu, train.precision bf16-mixed, which this processor computes many times slower than fp32; set fp32\n"
    assert capsys.readouterr().err == told


def test_a_stage_names_a_method_that_is_unknown(finished):
    work = finished / "build/small"
    stage = [sys.executable, "stages/train.py", "--method", "nope", "--seed", "1"]
    done = subprocess.run(
        stage, cwd=work, env=environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--method is 'nope'; allowed: last_layers, lora_default, lora_tuned, full" in done.stderr


DEAF_AT_FIRST = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as DVC while a stage runs, here one that ends by itself at that moment
print("deaf", flush=True)
time.sleep(1)
signal.signal(signal.SIGINT, signal.default_int_handler)
time.sleep(60)
"""


@pytest.mark.fault(4, 5)
def test_a_stop_that_dvc_does_not_hear_at_the_end_of_a_stage_still_stops_it():
    waiting = f"""
import sys
from pathlib import Path
from lora_replication.pipeline import _wait
_wait([sys.executable, "-c", {DEAF_AT_FIRST!r}], Path(), {{}})
"""
    with subprocess.Popen(
        [sys.executable, "-c", waiting], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "deaf\n"
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=10)
    assert "Stopped" in told
    assert "KeyboardInterrupt" in told, "the child was stopped, not left behind"


@pytest.mark.slow
@pytest.mark.fault(4, 5)
def test_a_stop_in_the_middle_keeps_what_is_done_and_the_next_start_continues(tmp_path):
    root = checkout(tmp_path)
    stop_in_the_middle(root, signal.SIGINT, 130)
    stop_in_the_middle(root, signal.SIGTERM, 143)
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done) == ["train@full-1", "gridsearch", "report"]


def stop_in_the_middle(root: Path, number: int, code: int) -> None:
    """Start the small study and stop it in its second run."""
    with subprocess.Popen(
        [COMMAND, "run", "small"],
        cwd=root,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        while "train@full" not in (line := process.stdout.readline()):
            assert line, "it ended before"
        time.sleep(1.5)
        started = time.monotonic()
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal's Ctrl-C does
        else:
            process.send_signal(number)
        out, _ = process.communicate(timeout=30)
    assert time.monotonic() - started < 10, out
    assert process.returncode == code, out
    assert (root / "build/small/runs/small/last_layers/seed-1/record.json").is_file()
