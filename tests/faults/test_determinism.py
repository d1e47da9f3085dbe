"""The goal of determinism, and faults 33 and 34: where, when and in which order runs are made
changes no bit of their results.
"""

import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lora_replication.record import read_record
from tests.faults.interrupted import METHODS, result
from tests.study_files import ROOT, link_data

RUNS = [f"{name}:1" for name in METHODS]

CIRCUMSTANCES = {
    "again": {},
    "another folder": {"folder": "d 2 é/" + "long " * 30},
    "another time zone": {"TZ": "Pacific/Kiritimati"},
    "a clock that is set back": {"TZ": "America/St_Johns", "CLOCK": "back"},
    "hash seed 0": {"PYTHONHASHSEED": "0"},
    "hash seed 1": {"PYTHONHASHSEED": "1"},
    "a random hash seed": {"PYTHONHASHSEED": "random"},
    "another order": {"runs": [RUNS[::-1]]},
    "two processes at once": {"runs": [RUNS[:1], RUNS[1:]]},
    "another locale and mask": {"LC_ALL": "C", "umask": 0o077},
}
"""What differs from the first time: variables, the folder, or the runs of each process."""


def perform(study, tiny_data, root, runs, umask=-1, **variables):
    """Make the runs in ``root``, each list in a process of its own, all at once; returns their
    results in the order of METHODS.
    """
    link_data(root, tiny_data)
    script = Path(__file__).with_name("interrupted.py")
    command = [sys.executable, str(script), study.model_dump_json(), str(root)]
    source = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    started = [
        subprocess.Popen([*command, *names], cwd=root, env=source | variables, umask=umask)
        for names in runs
    ]
    assert [process.wait(120) for process in started] == [0] * len(started)
    return [result(study, root, name) for name in METHODS]


@pytest.fixture(scope="module")
def first(tiny_study, tiny_data, tmp_path_factory):
    return perform(tiny_study, tiny_data, tmp_path_factory.mktemp("first") / "root", [RUNS])


@pytest.mark.fault(33, 34)
@pytest.mark.goal("determinism")
@pytest.mark.parametrize("what", CIRCUMSTANCES)
def test_every_rerun_gives_the_same_bits(first, tiny_study, tiny_data, tmp_path, what):
    changed = {"folder": "root", "runs": [RUNS]} | CIRCUMSTANCES[what]
    root = tmp_path / changed.pop("folder")
    assert perform(tiny_study, tiny_data, root, **changed) == first
    for name in METHODS:
        record = read_record(root / "runs" / tiny_study.study / name / "seed-1")
        for stamp in (record.where.started, record.where.finished):
            assert datetime.fromisoformat(stamp).utcoffset() == timedelta(0)
        happened = record.happened
        durations = [happened.training_seconds, happened.evaluation_seconds]
        assert min(durations + [epoch.seconds for epoch in happened.epochs]) >= 0
