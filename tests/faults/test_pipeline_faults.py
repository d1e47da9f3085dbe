"""Faults of the whole pipeline, with real processes: secrets, two at once, DVC killed, the reviews
prepared twice.
"""

import os
import shutil
import signal
import sqlite3
import stat
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
from lora_replication.process import kill_tree

SECRETS = {
    "HF_TOKEN": "canary-of-the-hub",
    "AWS_SECRET_ACCESS_KEY": "canary-of-a-cloud",
    "MLFLOW_TRACKING_PASSWORD": "canary-of-a-server",
}
ADDRESS = "http://somebody:canary-in-an-address@127.0.0.1:9"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A checkout in which a study ran with secrets in the environment and no tracking server, and
    all that was printed.
    """
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
    assert {
        "record.json",
        "report.html",
        "results.json",
        "mlflow.db",
        "dvc.lock",
        "params.yaml",
    } <= {file.name for file in files}
    assert not [file for file in files if b"canary" in file.read_bytes()]
    assert not [
        file for file in files if b"AWS_SECRET" in file.read_bytes()
    ]  # nor the names: there is no dump of the environment


@pytest.mark.fault(9, 34)
def test_a_study_without_a_tracking_server_is_whole_and_tracked_afterwards(finished):
    root, printed = finished
    assert root.name == "d 2 é"
    assert len(list((root / "build" / "small" / "runs").rglob("record.json"))) == 5
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute(
            "select count(*) from runs where status = 'FINISHED'"
        ).fetchone() == (6,)
    assert "lora-replication sync" in printed


READ = """
import sys
from pathlib import Path
from dvc.repo import Repo
from lora_replication.dvc_lock import check_lock
from lora_replication.errors import DataError
whole, refused, read = Path("dvc.lock").read_bytes(), 0, 0
check_lock(Path())
for cut in range(0, len(whole), 50):
    Path("dvc.lock").write_bytes(whole[:cut])
    try:
        check_lock(Path())
    except DataError:
        refused += 1
    else:
        Repo().index.stages
        read += 1
Path("dvc.lock").write_bytes(whole)
print(refused, read)
"""


@pytest.mark.fault(31)
def test_what_dvc_can_not_read_of_its_lock_file_is_told_before_it_tries(finished):
    """Cut at every fiftieth byte: what our look lets pass, DVC reads."""
    work = finished[0] / "build" / "small"
    command = [sys.executable, "-c", READ]
    done = subprocess.run(
        command,
        cwd=work,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, read = map(int, done.stdout.split())
    assert min(refused, read) > 20


MERGED = "<<<<<<< ours\nschema: '2.0'\n=======\nschema: '2.0'\n>>>>>>> theirs\nstages: {}\n"


@pytest.mark.fault(30, 31)
def test_nothing_is_trained_again_when_dvc_forgets_what_it_did(finished):
    """Its lock file is merged badly, then deleted as the message says, and its cache is lost; the
    records are not.
    """
    root, _ = finished
    work = root / "build" / "small"
    before = {file: file.read_bytes() for file in sorted((work / "runs").rglob("record.json"))}
    (work / "dvc.lock").write_text(MERGED)
    refused = run(root, "run", "small")
    assert refused.returncode == 3
    assert f"{work / 'dvc.lock'}: not whole" in refused.stderr
    assert "git checkout dvc.lock" in refused.stderr
    (work / "dvc.lock").unlink()
    shutil.rmtree(work / ".dvc" / "cache")
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train@full-1" in stages_run(done)
    assert {
        file: file.read_bytes() for file in sorted((work / "runs").rglob("record.json"))
    } == before


def test_dvcs_site_cache_is_open_to_its_owner_alone(finished):
    """Where others can write there, they can have us run their code: CVE-2025-69872 of diskcache,
    see supply_chain/waivers.toml.
    """
    folder = finished[0] / "build" / "small" / ".dvc" / "site-cache"
    assert list(folder.rglob("cache.db"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.fault(13)
def test_two_that_prepare_at_once_leave_one_whole_set_of_data(tmp_path):
    assert prepare(tmp_path, {}).returncode == 0
    expected = tree(tmp_path / "data")
    shutil.rmtree(tmp_path / "data")
    command = [sys.executable, str(ROOT / "stages" / "prepare.py")]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(
            command, cwd=tmp_path, env=environment(), stdout=pipe, stderr=pipe, text=True
        )
        for _ in "ab"
    ]
    ends = [(*process.communicate(timeout=120), process.returncode) for process in both]
    assert 0 in [code for *_, code in ends], ends
    for _, complaint, code in ends:
        assert code in (0, 4), complaint
        assert code == 0 or any(
            f"locked by process {process.pid};" in complaint for process in both
        )
    assert tree(tmp_path / "data") == expected
    manifest = read_manifest(tmp_path / "data" / "tiny")
    assert {
        part: len(read_tokens(tmp_path / "data" / "tiny", part, manifest)) for part in PARTS
    } == {"train": 48, "val": 24, "test": 24}


LONG = (
    SMALL.replace("study: small", "study: long")
    .replace("epochs: 1,", "epochs: 1000,")
    .replace("[last_layers, full]", "[full]")
)


@pytest.mark.fault(6)
def test_when_dvc_is_killed_its_stage_ends_or_a_second_start_names_it(tmp_path):
    root = checkout(tmp_path)
    (root / "studies" / "long.yaml").write_text(LONG)
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        told = (root / f"told-{len(started)}").open(
            "wb"
        )  # no pipe: a stage left behind would hold it open
        command = [COMMAND, "run", "long"]
        started.append(
            subprocess.Popen(
                command,
                cwd=root,
                env=environment(),
                stdout=told,
                stderr=told,
                start_new_session=True,
            )
        )
        return started[-1]

    lock = root / "build" / "long" / "build" / "state" / "long" / "full" / "seed-1.lock"
    try:
        first = start()
        wait_for(lambda: lock.is_file() and lock.read_text())
        stage = int(lock.read_text())
        (dvc,) = [
            process
            for process in psutil.Process(first.pid).children()
            if "dvc.cli" in " ".join(process.cmdline())
        ]
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
                kill_tree(process.pid)
        assert [process.wait(10) is not None for process in started] == [True] * len(started)


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
