"""The whole way as people use it: ``lora-replication run`` in a project, with real processes."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from lora_replication import pipeline
from lora_replication.errors import IncompleteError, ReplicationError
from tests.projects import (
    COMMAND,
    PLACES,
    SMALL,
    add_study,
    changed,
    checkout,
    environment,
    places,
    run,
    tree,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project in which the small study has run once."""
    root = checkout(tmp_path_factory.mktemp("pipeline"))
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    return root


def records(root: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in sorted((root / "runs").rglob("record.json"))}


def test_a_study_leaves_records_a_report_and_tracked_runs(finished):
    assert places(finished) == PLACES
    for name in ("report.html", "report.md", "results.json"):
        assert "not IMDb" in (finished / "reports/small" / name).read_text("utf-8"), name
    with sqlite3.connect(finished / "mlflow.db") as database:
        statuses = database.execute("select status from runs").fetchall()
    assert statuses == [("FINISHED",)] * 9  # five runs, below two methods, the grid and its winner


def test_dvcs_own_words_are_shown_only_when_asked_for(finished):
    quiet, loud = run(finished, "run", "small"), run(finished, "run", "small", "--verbose")
    assert (quiet.returncode, loud.returncode) == (0, 0)
    assert "didn't change" not in quiet.stdout + quiet.stderr
    assert "didn't change, skipping" in loud.stdout
    *table, report, following, _, _ = quiet.stdout.splitlines()[-15:]
    assert any(line.startswith("Method  ") for line in table)
    assert report == f"report: {finished / 'reports/small/report.html'}"
    assert following == "next:"


def test_a_second_start_runs_nothing_and_a_deleted_report_alone_is_rebuilt(finished):
    before, page = records(finished), finished / "reports/small/report.html"
    content = page.read_bytes()
    page.unlink()
    assert run(finished, "run", "small").returncode == 0
    assert page.read_bytes() == content
    assert records(finished) == before


def test_status_tells_what_is_done_and_missing(finished):
    content = json.loads(run(finished, "status", "small", "--json").stdout)
    assert (content["asked"], content["done"], content["missing"]) == (5, 5, [])
    record = finished / "runs/small/last_layers/seed-1/record.json"
    whole = record.read_bytes()
    record.unlink()
    text = run(finished, "status", "small").stdout
    record.write_bytes(whole)
    assert text.startswith("small: 4 of 5 runs done")
    assert "\nmissing: last_layers seed 1\n" in text
    assert (
        "nothing is done yet; run: lora-replication run"
        in run(finished, "status", "article").stdout
    )


def test_an_incomplete_study_is_reported_only_where_asked_for(finished):
    before = tree(finished / "reports")
    record = finished / "runs/small/last_layers/seed-1/record.json"
    whole = record.read_bytes()
    record.unlink()
    refused = run(finished, "report", "small")
    assert refused.returncode == 5
    assert "1 of 5 runs" in refused.stderr
    assert "last_layers" in refused.stderr.replace("last layers", "last_layers")
    assert tree(finished / "reports") == before
    partial = run(finished, "report", "small", "--allow-partial")
    assert partial.returncode == 0, partial.stderr
    record.write_bytes(whole)
    assert run(finished, "report", "small").returncode == 0
    assert tree(finished / "reports") == before


@pytest.mark.slow
def test_what_is_published_is_rebuilt_byte_for_byte_in_a_clone_without_data(tmp_path):
    root = checkout(tmp_path)
    again = run(root, "run", "small", "--json")
    assert json.loads(again.stdout) == json.loads((root / "reports/small/results.json").read_text())
    assert run(root, "report", "small", "--publish").returncode == 0
    published = root / "reports/small"
    kept = sorted(
        str(f.parent.relative_to(published / "records")) for f in published.rglob("record.json")
    )
    assert kept == PLACES
    assert not list(published.rglob("adapter.safetensors"))
    before = tree(published)
    for folder in ("data", "runs"):
        shutil.rmtree(root / folder)
    for file in ("report.html", "results.json"):
        (published / file).unlink()
    done = run(root, "report", "small")
    assert done.returncode == 0, done.stderr
    assert tree(published) == before
    again = run(root, "run", "small", "--from-published")
    assert again.returncode == 0, again.stderr
    for record in published.rglob("record.json"):  # nothing was trained
        place = record.relative_to(published / "records")
        assert (root / "runs/small" / place).read_bytes() == record.read_bytes()
    synced = run(root, "sync", MLFLOW_TRACKING_URI=f"sqlite:///{tmp_path}/rebuilt.db")
    assert synced.returncode == 0, synced.stderr
    with sqlite3.connect(tmp_path / "rebuilt.db") as database:
        (count,) = database.execute(
            "select count(*) from runs where status = 'FINISHED'"
        ).fetchone()
    assert count == 10  # and the report


@pytest.mark.slow
def test_a_study_whose_report_git_ignores_leaves_the_work_tree_clean(tmp_path):
    root = checkout(tmp_path)
    add_study(root, "demo", **SMALL | {"study": "demo"})
    subprocess.run(["git", "add", "-A"], cwd=root, check=True)
    before = changed(root)
    assert run(root, "run", "demo").returncode == 0
    assert changed(root) == before
    again = run(root, "run", "demo", "--verbose")
    assert "Running stage" not in again.stdout, again.stdout


@pytest.mark.slow
def test_without_the_grid_the_report_is_partial(tmp_path):
    root = checkout(tmp_path)
    done = run(root, "run", "small", "--without-grid")
    assert done.returncode == 0, done.stderr
    assert places(root) == ["full/seed-1", "last_layers/seed-1"]
    assert (root / "reports/small/report.html").is_file()
    assert run(root, "run", "small").returncode == 0
    assert places(root) == PLACES


@pytest.mark.slow
def test_it_runs_without_git_and_without_a_home_for_nobody(tmp_path):
    root = checkout(tmp_path, git=False)
    done = run(root, "run", "small", HOME="/proc/none")  # where even root makes no folder
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no_scm" in (root / ".dvc/config.local").read_text()


def test_a_stage_that_fails_has_its_code_and_its_message_once(tmp_path):
    root = checkout(tmp_path)
    add_study(root, "imdb", data={"source": "archive"})
    done = run(root, "run", "imdb")
    assert done.returncode == 3
    assert done.stderr.count("IMDB_ARCHIVE") == 1
    assert "ERROR" not in done.stderr
    assert not list((root / "data").rglob("*.parquet"))


@pytest.mark.fault(36)
def test_a_gpu_that_is_asked_for_and_missing_ends_with_4(tmp_path):
    root = checkout(tmp_path)
    add_study(root, "gpu", train={"device": "cuda"})
    before = tree(root)
    done = run(root, "run", "gpu", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 4
    assert "train.device is cuda, but torch sees no GPU here" in done.stderr
    assert tree(root) == before


KILLED = (
    "failed to reproduce 'small/dvc.yaml:train@full': failed to run: exec python, exited with -9"
)


@pytest.mark.parametrize(
    ("told", "code", "kind", "words"),
    [
        (
            (1, KILLED),
            255,
            IncompleteError,
            "train@full was killed by SIGKILL, often by the system",
        ),
        ((1, "YAML is corrupted"), 255, ReplicationError, "dvc repro ended with 255: YAML"),
        ((143, "stopped by signal 15"), 255, IncompleteError, "train was stopped by signal 15"),
        (None, -signal.SIGKILL, IncompleteError, "DVC was killed by SIGKILL, often by the system"),
    ],
)
def test_what_ended_without_a_word_of_ours_is_put_in_words(tmp_path, told, code, kind, words):
    status = tmp_path / "status.json"
    if told:
        content = {"command": "train", "exit_code": told[0], "message": told[1]}
        status.write_text(json.dumps(content))
    failure = pipeline._failure(status, code)
    assert type(failure) is kind
    assert words in str(failure)


@pytest.mark.slow
@pytest.mark.fault(4, 5)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_in_the_middle_keeps_what_is_done_and_the_next_start_continues(
    tmp_path, number, code
):
    root = checkout(tmp_path)
    first = root / "runs/small/last_layers/seed-1/record.json"
    options = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    command, env = [COMMAND, "run", "small"], environment(root)
    with subprocess.Popen(command, cwd=root, env=env, **options) as process:
        while not list((root / "runs").rglob("record.json")) and process.poll() is None:
            time.sleep(0.2)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal's Ctrl-C does
        else:
            process.send_signal(number)
        _, message = process.communicate(timeout=60)
    assert process.returncode == code, message
    assert f"stopped by signal {number}; everything finished is kept" in message
    before = records(root)
    assert before
    assert run(root, "run", "small").returncode == 0
    after = records(root)
    assert {file: after[file] for file in before} == before
    assert first in after


@pytest.mark.slow
@pytest.mark.fault(32)
def test_a_second_run_of_the_same_study_is_refused_with_the_first_ones_pid(tmp_path):
    root = checkout(tmp_path)
    lock = root / "build/state/small/run.lock"
    with subprocess.Popen([COMMAND, "run", "small"], cwd=root, env=environment(root)) as first:
        while not (lock.is_file() and lock.read_text()):
            time.sleep(0.05)
        second = run(root, "run", "small")
        first.send_signal(signal.SIGTERM)
        first.wait(60)
    assert second.returncode == 4, second.stderr
    assert f"locked by process {first.pid}; wait for it" in second.stderr
