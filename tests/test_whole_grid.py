"""The article's 576 configurations on a tiny encoder, killed once on the way."""

import pytest

from lora_replication.plan import progress
from tests.grid_faults import Faults, left_behind, make_workspace, start_sweep, wait_for
from tests.study_files import read_params

GRID = read_params()["grid"] | {"evaluate_train": False, "winner_seeds": [101], "runners_up": 1}


@pytest.mark.slow
@pytest.mark.fault(3)
def test_the_articles_grid_killed_once_has_576_records_and_none_twice(tiny_root):
    with start_sweep(tiny_root, pack=16, **GRID) as process:
        wait_for(process, "grid: 160 of 576")
        process.kill()
    kept = left_behind(tiny_root / "runs/tiny")
    assert 160 <= len(kept) < 576
    before = len(Faults(tiny_root).started)
    with start_sweep(tiny_root, pack=16, **GRID) as process:
        _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    after = left_behind(tiny_root / "runs/tiny")
    assert {place: after[place] for place in kept} == kept
    assert len(Faults(tiny_root).started) - before == len(after) - len(kept)
    state = progress(make_workspace(tiny_root, **GRID))
    assert sum(record.asked.role == "cell" for record in state.done) == 576
    assert {run.role for run in state.missing} == {"method"}
