"""The article's 576 configurations on a tiny encoder, through DVC, killed once on the way."""

import json
import subprocess
import time

import pytest
from test_pipeline import COMMAND, checkout, environment, run

from lora_replication.process import kill_tree

WHOLE = """
study: whole
title: A tiny random encoder on generated reviews, not IMDb (test)
data:
  source: generated
  reviews: {train: 24, val: 12, test: 12}
model: {encoder: tiny-distilbert, max_tokens: 64}
train: {epochs: 1, learning_rate: 1.0e-2, precision: fp32, device: cpu}
run: {methods: [last_layers], seeds: [1]}
grid: {evaluate_train: false, winner_seeds: [101], runners_up: 1, pack: 16}
"""


@pytest.mark.slow
def test_the_articles_grid_killed_once_comes_to_576_records_and_none_twice(tmp_path):
    root = checkout(tmp_path)
    (root / "studies" / "whole.yaml").write_text(WHOLE)
    cells = root / "build/whole/runs/whole/grid"
    process = subprocess.Popen(
        [COMMAND, "run", "whole"],
        cwd=root,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while len(list(cells.rglob("record.json"))) < 150:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    kill_tree(process.pid)
    process.wait(10)
    kept = {file: file.read_bytes() for file in cells.rglob("record.json")}
    assert 150 <= len(kept) < 576
    done = run(root, "run", "whole", timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    records = {file: file.read_bytes() for file in cells.rglob("record.json")}
    assert len(records) == 576
    assert {file: records[file] for file in kept} == kept
    results = json.loads((root / "build/whole/reports/whole/results.json").read_text())
    assert results["complete"]
    assert (results["grid"]["configurations_asked"], results["grid"]["configurations_done"]) == (
        576,
        576,
    )
    assert len({cell["key"] for cell in results["grid"]["cells"]}) == 576
