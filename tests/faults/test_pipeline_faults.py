"""Faults of the whole pipeline with real processes: secrets, two at once, DVC killed."""

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from tests.process_tree import is_running, kill_tree, soon
from tests.projects import COMMAND, ROOT, SMALL, add_study, checkout, environment, places, run, tree

SECRETS = {
    "HF_TOKEN": "canary-of-the-hub",
    "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud",
    "MLFLOW_TRACKING_PASSWORD": "canary-of-a-server",
}
ADDRESS = "http://somebody:canary-in-an-address@127.0.0.1:9"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study that ran with secrets in the environment and no tracking server, and its output."""
    root = checkout(tmp_path_factory.mktemp("secrets"))
    done = run(root, "run", "small", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    assert done.returncode == 0, done.stdout + done.stderr
    published = run(root, "report", "small", "--publish", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    assert published.returncode == 0, published.stderr
    synced = run(root, "sync", MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlflow.db", **SECRETS)
    assert synced.returncode == 0, synced.stderr
    failed = run(root, "sync", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    assert failed.returncode == 4
    looked = run(root, "doctor", "small", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    return root, "".join(
        one.stdout + one.stderr for one in (done, published, synced, failed, looked)
    )


@pytest.mark.fault(42)
def test_secrets_are_in_no_file_and_no_output(finished):
    root, printed = finished
    assert "canary" not in printed
    assert "127.0.0.1:9" in printed  # the address itself is told
    files = [file for file in root.rglob("*") if file.is_file()]
    written = {"record.json", "report.html", "results.json", "mlflow.db", "dvc.lock", "params.yaml"}
    assert written <= {file.name for file in files}
    for word in (b"canary", b"AWS_SECRET"):  # nor the names: the environment is not dumped
        assert not [file for file in files if word in file.read_bytes()]


@pytest.mark.fault(9, 34)
def test_a_study_without_a_tracking_server_is_whole_and_tracked_afterwards(finished):
    root, printed = finished
    assert root.name == "d 2 é"
    assert len(list((root / "runs" / "small").rglob("record.json"))) == 5
    with sqlite3.connect(root / "mlflow.db") as database:
        finished = database.execute("select count(*) from runs where status = 'FINISHED'")
        assert finished.fetchone() == (10,)  # five runs, their four parents, the report
    assert "lora-replication sync" in printed


@pytest.mark.slow
@pytest.mark.fault(34)
@pytest.mark.parametrize("where", ["50%25 #1?x ü", "with carriage returns", "of another owner"])
def test_a_study_runs_to_its_report_in_a_folder(where, tmp_path):
    root, made = tmp_path / where, checkout(tmp_path)
    crlf = ["-c", "core.autocrlf=true"] if "returns" in where else []
    subprocess.run(["git", "clone", "-q", *crlf, made, root], check=True)
    if "owner" in where:
        if os.geteuid():
            pytest.skip("needs root, who may give files away")
        subprocess.run(["chown", "-R", "12345:12345", root], check=True)
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(places(root)) == 5
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        assert database.execute("select count(*) from runs where status = 'FINISHED'").fetchone()[0]


MERGED = "<<<<<<< ours\nschema: '2.0'\n=======\nschema: '2.0'\n>>>>>>> theirs\nstages: {}\n"


@pytest.mark.fault(31)
def test_a_badly_merged_lock_is_named_and_without_it_nothing_is_trained_again(finished):
    root, _ = finished
    lock = root / "studies" / "small" / "dvc.lock"
    before = {file: file.read_bytes() for file in sorted((root / "runs").rglob("record.json"))}
    lock.write_text(MERGED)
    refused = run(root, "run", "small")
    assert refused.returncode == 3
    assert f"{lock}: not whole" in refused.stderr
    assert "git checkout dvc.lock" in refused.stderr
    lock.unlink()
    shutil.rmtree(root / ".dvc" / "cache")
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    after = {file: file.read_bytes() for file in sorted((root / "runs").rglob("record.json"))}
    assert after == before


def test_dvcs_site_cache_is_open_to_its_owner_alone(finished):
    """Who can write there can have us run his code: CVE-2025-69872, supply_chain/waivers.toml."""
    assert "dvc config --quiet --local core.site_cache_dir" in (ROOT / "Makefile").read_text()
    folder = finished[0] / ".dvc" / "site-cache"
    assert list(folder.rglob("cache.db"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def prepare(root: Path) -> list[str]:
    return [sys.executable, str(root / "stages" / "prepare.py")]


@pytest.mark.fault(13)
def test_two_that_prepare_at_once_leave_one_whole_set_of_data(tmp_path):
    root = checkout(tmp_path)
    folder, data = root / "studies" / "small", root / "data" / "small"
    subprocess.run(prepare(root), cwd=folder, env=environment(root), check=True)
    expected = tree(data)
    shutil.rmtree(data)
    options = {"cwd": folder, "env": environment(root), "stderr": subprocess.PIPE, "text": True}
    both = [subprocess.Popen(prepare(root), **options) for _ in "ab"]
    ends = [(process.communicate(timeout=240)[1], process.returncode) for process in both]
    assert 0 in [code for _, code in ends], ends
    holders = [f"locked by process {process.pid};" for process in both]
    for complaint, code in ends:
        assert code == 0 or (code == 4 and any(holder in complaint for holder in holders))
    assert tree(data) == expected


@pytest.mark.fault(6)
def test_when_dvc_is_killed_its_stage_ends_or_a_second_start_names_it(tmp_path):
    root = checkout(tmp_path)
    changes = {"train": {"epochs": 1000}, "run": {"methods": ["full"]}, "grid": None}
    add_study(root, "long", **SMALL | {"study": "long"} | changes)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        # No pipe: a stage left behind would hold it open.
        output = (root / f"output-{len(started)}").open("wb")
        options = {"cwd": root, "env": environment(root), "start_new_session": True}
        command = [COMMAND, "run", "long"]
        started.append(subprocess.Popen(command, stdout=output, stderr=output, **options))
        return started[-1]

    lock = root / "build" / "state" / "long" / "full" / "seed-1.lock"
    try:
        first = start()
        assert soon(lambda: lock.is_file() and lock.read_text(), 120)
        stage = int(lock.read_text())
        children = psutil.Process(first.pid).children()
        (dvc,) = [one for one in children if "dvc.cli" in " ".join(one.cmdline())]
        dvc.kill()
        assert first.wait(60) != 0
        second = start()
        mine = ("", str(stage))
        assert soon(lambda: second.poll() is not None or lock.read_text() not in mine, 120)
        if second.poll() is None:  # the stage went with DVC, and its work goes on
            assert soon(lambda: not is_running(stage))  # its lock is free before it has ended
            os.killpg(second.pid, signal.SIGINT)
            assert second.wait(60) == 130
        else:
            assert second.returncode == 4
            assert f"locked by process {stage};" in (root / "output-1").read_text()
    finally:
        for process in psutil.process_iter(["cwd"]):
            if (process.info["cwd"] or "").startswith(str(tmp_path)):
                kill_tree(process.pid)
        assert [process.wait(30) is not None for process in started] == [True] * len(started)
