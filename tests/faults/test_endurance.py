"""What shows in large numbers alone: the whole pipeline killed at random moments, and many runs of
several processes at once.

Run by `make test-endurance` alone, with 100 kills, 50 more edits with a kill soon after, and 500
runs; by hand with fewer.
"""

import io
import multiprocessing
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from lora_replication.files import file_digest, write_whole
from lora_replication.pipeline import IN_USE
from lora_replication.plan import method_run, progress
from lora_replication.reading import read_study
from lora_replication.record import read_records
from lora_replication.study import Study
from lora_replication.tracking.store import RECORD_DIGEST
from lora_replication.workspace import Workspace
from tests.grid_faults import left_behind
from tests.process_tree import is_running, soon
from tests.projects import COMMAND, checkout, environment, run
from tests.tiny_encoders import tiny_encoder

pytestmark = pytest.mark.endurance

KILLS = int(os.environ.get("KILLS", "4"))
RUNS = int(os.environ.get("SOAK", "24"))
PROCESSES = 4
Edit = Callable[[Path, random.Random], None]
PATIENCE = 120.0
"""Seconds for what a busy machine does in two; how fast a stop is, other tests show."""

PARAMETERS = {
    ("data", "generated_seed"): [8, 9],
    ("model", "max_tokens"): [32, 64],
    ("train", "learning_rate"): [0.01, 0.02],
    ("run", "methods"): [["last_layers"], ["last_layers", "full"]],
    ("run", "seeds"): [[1], [1, 2]],
    ("grid", "alpha"): [[1], [1, 2]],
}
"""What is edited of a study, and to what."""


def is_marked(root: Path) -> bool:
    """Whether the system has yet to clear away a killed DVC: DVC alone would take its remains for
    one at work.
    """
    with suppress(FileNotFoundError):
        pids = re.findall(r'"pid": (\d+)', (root / IN_USE).read_text())
        return any(psutil.pid_exists(int(pid)) for pid in pids)
    return False


def alive_in(root: Path) -> list[str]:
    """The processes that work in ``root``."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if Path(process.cwd()).is_relative_to(root) and is_running(process.pid):
                found.append(" ".join(process.cmdline()))
    return found


def end(process: subprocess.Popen, number: int, *, group: bool) -> None:
    """Send the signal to the process alone or to its group, and wait for its end."""
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    try:
        process.wait(12 if number == signal.SIGINT else PATIENCE)
    except subprocess.TimeoutExpired:
        assert number == signal.SIGINT  # DVC leaves it to its stage, as a terminal sends it to both
        process.terminate()
        process.wait(PATIENCE)


def start(
    root: Path, moments: random.Random, longest: float, meanwhile: Edit | None = None
) -> tuple[int | None, str]:
    """Bring the study up to date, by our command or by DVC alone in its folder; or kill that at a
    random moment before ``longest`` seconds (0: let it end), with ``meanwhile`` called at one
    before. Returns its exit code, None if killed, and its output.
    """
    ways = ([COMMAND, "run", "small"], root), (["dvc", "repro"], root / "studies/small")
    command, place = moments.choice(ways)
    assert place == root or soon(lambda: not is_marked(root), PATIENCE)
    env = environment(root, DVC_SITE_CACHE_DIR=str(root / ".dvc/site-cache"))
    printed = root.parent / "output"
    with printed.open("wb") as output:
        options = {"stdout": output, "stderr": output, "start_new_session": True}
        process = subprocess.Popen(command, cwd=place, env=env, **options)
    lasts = moments.uniform(0.1, longest) if longest else 10 * PATIENCE
    if meanwhile:
        before = lasts * moments.random()
        with suppress(subprocess.TimeoutExpired):
            process.wait(before)
        meanwhile(root, moments)
        lasts -= before
    try:
        process.wait(lasts)
    except subprocess.TimeoutExpired:
        number = moments.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        end(process, number, group=moments.random() < 0.5)
        assert soon(lambda: not alive_in(root), PATIENCE), alive_in(root)
        read_records(root / "runs" / "small")  # none is half
        return None, ""
    return process.returncode, printed.read_text("utf-8", "replace")


def edit(root: Path, moments: random.Random) -> None:
    """What a person could change: a parameter, the study's graph or a module that decides results
    (these without effect on any), or the weights of the encoder.
    """
    kind = moments.randrange(4)
    if kind == 0:
        section, key = moments.choice(list(PARAMETERS))
        change(root, section, **{key: moments.choice(PARAMETERS[section, key])})
    if kind in (1, 2):
        files = ("src/lora_replication/training/loop.py", "studies/small/dvc.yaml")
        with (root / files[kind - 1]).open("a") as file:
            file.write("# edited\n")
    if kind == 3:
        weights = (root / "encoder" / f"weights-{moments.randrange(2)}").read_bytes()
        write_whole(root / "encoder/model.safetensors", weights)


def change(root: Path, section: str, **values: object) -> None:
    """Write other parameters of the study, whole."""
    params, yaml = root / "studies/small/params.yaml", YAML(typ="safe", pure=True)
    content = yaml.load(params)
    content[section] |= values
    written = io.BytesIO()
    yaml.dump(content, written)
    write_whole(params, written.getvalue())


def own_encoder(root: Path) -> Path:
    """Give the study an encoder of its own, with two sets of weights to choose from."""
    own = shutil.copytree(tiny_encoder("distilbert"), root / "encoder")
    weights = (own / "model.safetensors").read_bytes()
    (own / "weights-0").write_bytes(weights)
    (own / "weights-1").write_bytes(weights[:-4] + b"\0\0\0\0")
    change(root, "model", path=str(own))
    return root


def timed_run(root: Path) -> float:
    """Seconds that a start takes, which must end well."""
    began = time.monotonic()
    done = run(root, "run", "small", timeout=10 * PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - began


def assert_as_unbroken(root: Path, unbroken: Path) -> None:
    """Bring ``unbroken`` to the parameters and weights of ``root``: table and records are equal,
    and nothing is half, double or RUNNING.
    """
    shutil.copy(root / "studies/small/params.yaml", unbroken / "studies/small")
    shutil.copy(root / "encoder/model.safetensors", unbroken / "encoder")
    change(unbroken, "model", path=str(unbroken / "encoder"))
    timed_run(unbroken)
    found, wanted = (
        {place: (record["asked"], record["happened"], files) for place, (record, files) in left}
        for left in (left_behind(one / "runs" / "small").items() for one in (root, unbroken))
    )
    asked = progress(Workspace(read_study("small", unbroken), unbroken)).asked
    places = [str(one.place) for one in asked]
    assert [found.get(place) for place in places] == [wanted[place] for place in places]
    tables = [(one / "reports/small/table.csv").read_text() for one in (root, unbroken)]
    assert tables[0] == tables[1]
    assert not list((root / "runs").rglob(".*.*"))
    assert run(root, "sync").returncode == 0  # a kill may come between a record and its mirror
    with sqlite3.connect(root / "mlflow.db") as database:
        ended = "select value, count(*) from tags join runs using (run_uuid) where key = ? and "
        ended += "status = 'FINISHED' and lifecycle_stage = 'active' group by value"
        tracked = dict(database.execute(ended, [RECORD_DIGEST]).fetchall())
        assert not database.execute("select * from runs where status = 'RUNNING'").fetchall()
    assert {tracked.get(file_digest(file)) for file in root.glob("runs/**/record.json")} == {1}


@pytest.mark.fault(1, 3, 4, 5, 6, 20, 30, 38)
@pytest.mark.parametrize(("times", "edits"), [(KILLS, False), (KILLS // 2, True)])
def test_kills_at_random_moments_end_in_the_table_of_an_unbroken_run(tmp_path, times, edits):
    for name in ("killed", "unbroken"):
        (tmp_path / name).mkdir()
    root, unbroken = (own_encoder(checkout(tmp_path / name)) for name in ("killed", "unbroken"))
    longest = 0.25 * timed_run(unbroken)  # each start goes on from the last
    moments, done = random.Random(50 + edits), 0  # noqa: S311  # not for secrets
    while done < times:
        code, output = start(root, moments, longest, edit if edits else None)
        assert code in (None, 0) or "Traceback" not in output, output
        done += edits or code is None
        is_due = done % 10 == 0 if edits else code == 0
        if not is_due and done < times:
            continue
        code, output = start(root, moments, 0.0)
        assert code == 0 or (edits and re.search("run again|lora-replication run", output)), output
        timed_run(root)
        assert_as_unbroken(root, unbroken)
        if not edits:
            for folder in ("build", "data", "runs", "reports"):
                shutil.rmtree(root / folder)
            (root / "mlflow.db").unlink()
            (root / "studies/small/dvc.lock").unlink()


def _runs(study: Study, root: Path, seeds: list[int]) -> None:
    """The runs of one process."""
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{root}/mlflow.db"
    import torch

    from lora_replication.tracking.mirror import open_mirror
    from lora_replication.training.run import perform

    torch.set_num_threads(1)
    workspace = Workspace(study, root)
    for seed in seeds:
        run = method_run(workspace, "last_layers", seed)
        perform(workspace, [run], partial(open_mirror, workspace))


@pytest.mark.fault(11)
def test_many_runs_of_several_processes_share_one_ledger_and_one_database(
    tiny_study, tiny_root, capfd
):
    seeds = list(range(1, RUNS + 1))
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_runs, args=(tiny_study, tiny_root, seeds[part::PROCESSES]))
        for part in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * PROCESSES
    recorded = read_records(tiny_root / "runs" / "tiny")
    assert sorted(record.asked.seed for _, record in recorded) == seeds
    runs = "select status, count(*), count(distinct name) from runs"
    runs += " where lifecycle_stage = 'active' group by status"
    accuracies = "select count(*) from latest_metrics where key = 'accuracy/test'"
    with sqlite3.connect(tiny_root / "mlflow.db") as database:
        assert database.execute(runs).fetchall() == [("FINISHED", RUNS + 1, RUNS + 1)]
        assert database.execute(accuracies).fetchall() == [(RUNS,)]
    assert "warning" not in capfd.readouterr().err.lower()
