"""Faults of the whole pipeline, with real processes: secrets, two at once, DVC killed, the reviews prepared twice."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from test_archives import prepare
from test_pipeline import COMMAND, ROOT, SMALL, checkout, environment, run, stages_run, tree

from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.data.reviews import PARTS

SECRETS = {"HF_TOKEN": "canary-of-the-hub", "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud", "MLFLOW_TRACKING_PASSWORD": "canary-of-a-server"}
ADDRESS = "http://somebody:canary-in-an-address@127.0.0.1:9"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkout in which a study ran with secrets in the environment and no tracking server, and all that was printed."""
    root = checkout(tmp_path_factory.mktemp("secrets"))
    done = run(root, "run", "small", "--publish", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    assert done.returncode == 0, done.stdout + done.stderr
    synced = run(root, "sync", MLFLOW_TRACKING_URI=f"sqlite:///{root}/mlflow.db", **SECRETS)
    assert synced.returncode == 0, synced.stderr
    failed = run(root, "sync", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    assert failed.returncode == 4
    looked = run(root, "doctor", "small", MLFLOW_TRACKING_URI=ADDRESS, **SECRETS)
    return root, "".join(one.stdout + one.stderr for one in (done, synced, failed, looked))


@pytest.mark.fault(42)
def test_secrets_are_in_no_file_and_no_output(finished):
    root, printed = finished
    assert "canary" not in printed
    assert "127.0.0.1:9" in printed  # the address itself is told
    files = [file for file in root.rglob("*") if file.is_file()]
    assert {"record.json", "report.html", "results.json", "mlflow.db", "dvc.lock", "params.yaml"} <= {file.name for file in files}
    assert not [file for file in files if b"canary" in file.read_bytes()]
    assert not [file for file in files if b"AWS_SECRET" in file.read_bytes()]  # nor the names: there is no dump of the environment


@pytest.mark.fault(9)
def test_a_study_without_a_tracking_server_is_whole_and_tracked_afterwards(finished):
    root, printed = finished
    assert len(list((root / "build" / "small" / "runs").rglob("record.json"))) == 5
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("select count(*) from runs where status = 'FINISHED'").fetchone() == (6,)
    assert "lora-replication sync" in printed


@pytest.mark.fault(30)
def test_nothing_is_trained_again_when_dvc_forgets_what_it_did(finished):
    """Its lock file and its cache are lost; the records are not."""
    root, _ = finished
    work = root / "build" / "small"
    before = {file: file.read_bytes() for file in sorted((work / "runs").rglob("record.json"))}
    (work / "dvc.lock").unlink()
    subprocess.run(["rm", "-rf", work / ".dvc" / "cache"], check=True)
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train@full-1" in stages_run(done)
    assert {file: file.read_bytes() for file in sorted((work / "runs").rglob("record.json"))} == before


@pytest.mark.fault(13)
def test_two_that_prepare_at_once_leave_one_whole_set_of_data(tmp_path):
    assert prepare(tmp_path, {}).returncode == 0
    expected = tree(tmp_path / "data")
    subprocess.run(["rm", "-rf", tmp_path / "data"], check=True)
    command = [sys.executable, str(ROOT / "stages" / "prepare.py")]
    both = [subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in "ab"]
    ends = [(*process.communicate(timeout=120), process.returncode) for process in both]
    assert 0 in [code for *_, code in ends], ends
    for _, complaint, code in ends:
        assert code in (0, 4), complaint
        # Both may ask before the first has written its number down.
        assert code == 0 or any(f"locked by process {number};" in complaint for number in ("unknown", *(process.pid for process in both)))
    assert tree(tmp_path / "data") == expected
    manifest = read_manifest(tmp_path / "data" / "tiny")
    assert {part: len(read_tokens(tmp_path / "data" / "tiny", part, manifest)) for part in PARTS} == {"train": 48, "val": 24, "test": 24}


LONG = SMALL.replace("study: small", "study: long").replace("epochs: 1,", "epochs: 1000,").replace("[last_layers, full]", "[full]")


@pytest.mark.fault(6)
def test_when_dvc_is_killed_its_stage_ends_or_a_second_start_names_it(tmp_path):
    root = checkout(tmp_path)
    (root / "studies" / "long.yaml").write_text(LONG)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        told = (root / f"told-{len(started)}").open("wb")  # no pipe: a stage left behind would hold it open
        started.append(subprocess.Popen([COMMAND, "run", "long"], cwd=root, env=environment(), stdout=told, stderr=told, start_new_session=True))
        return started[-1]

    lock = root / "build" / "long" / "build" / "state" / "long" / "full" / "seed-1.lock"
    try:
        first = start()
        wait_for(lambda: lock.is_file() and lock.read_text())
        stage = int(lock.read_text())
        (dvc,) = [process for process in psutil.Process(first.pid).children() if "dvc" in process.cmdline()]
        dvc.kill()
        assert first.wait(30) != 0
        second = start()
        wait_for(lambda: second.poll() is not None or lock.read_text() not in ("", str(stage)))
        if second.poll() is None:  # the stage went with DVC, and its work goes on
            assert not psutil.pid_exists(stage)
            os.killpg(second.pid, signal.SIGINT)
            assert second.wait(30) == 130
        else:
            assert second.returncode == 4
            assert f"locked by process {stage};" in (root / "told-1").read_text()
            assert psutil.pid_exists(stage)
    finally:
        for process in psutil.process_iter(["cwd"]):
            if (process.info["cwd"] or "").startswith(str(tmp_path)):
                process.kill()
        assert [process.wait(10) is not None for process in started] == [True] * len(started)


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
