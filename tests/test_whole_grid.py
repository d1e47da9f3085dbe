"""The article's 576 configurations on a tiny encoder, killed once on the way."""

import time

import pytest

from lora_replication.plan import progress
from tests.grid_faults import Faults, make_workspace, start_sweep
from tests.study_files import read_params

GRID = read_params()["grid"] | {"evaluate_train": False, "winner_seeds": [101], "runners_up": 1}


@pytest.mark.slow
@pytest.mark.fault(3)
def test_the_articles_grid_killed_once_has_576_records_and_none_twice(tiny_root):
    cells = tiny_root / "runs/tiny/grid"
    deadline = time.monotonic() + 300
    with start_sweep(tiny_root, pack=16, **GRID) as process:
        while len(list(cells.rglob("record.json"))) < 150:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        process.kill()
    kept = {file: file.read_bytes() for file in cells.rglob("record.json")}
    assert 150 <= len(kept) < 576
    before = len(Faults(tiny_root).started)
    with start_sweep(tiny_root, pack=16, **GRID) as process:
        _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    records = {file: file.read_bytes() for file in cells.rglob("record.json")}
    assert len(records) == 576
    assert {file: records[file] for file in kept} == kept
    state = progress(make_workspace(tiny_root, **GRID))
    fresh = len(state.done) - 576
    assert {run.role for run in state.missing} == {"method"}
    assert len(Faults(tiny_root).started) - before == 576 - len(kept) + fresh
    assert fresh in (2, 3)  # the winner, what is next to it, and the article's choice
