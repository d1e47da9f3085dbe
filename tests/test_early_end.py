"""Ending hopeless runs early, replayed on curves worked by hand."""

import pandas as pd

from benchmarks import early_end


def test_a_rule_ends_runs_saves_epochs_and_moves_places(monkeypatch):
    curves = [[0.5, 0.5, 0.9], [0.7, 0.6, 0.8], [0.5, 0.55, 0.5], [0.7, 0.75, 0.7]]
    runs = pd.DataFrame({"epoch_val_accuracy": curves}).assign(
        name="lora", seed=[1, 1, 1, 2], trainable_parameters=1
    )
    # Runs 0 and 2 end after one epoch, two of three saved each; the first would have been best.
    found = early_end.replayed(runs, lambda accuracy: accuracy < early_end.COLLAPSED_BELOW)
    assert found == ["2", "1", "33.3 %", "2"]
    # Of a single class are the same, for here half of the reviews are positive; one place of one.
    monkeypatch.setattr(early_end, "FIRST", 1)
    assert early_end.replayed(runs, lambda accuracy: accuracy == 0.5)[-1] == "1"
    assert early_end.replayed(runs, lambda accuracy: False) == ["0", "0", "0.0 %", "0"]


def test_the_command_writes_a_page(tmp_path):
    early_end.main(["--study", "minilm-rates", "--out", str(tmp_path / "page.md")])
    assert "| below 60 % |" in (tmp_path / "page.md").read_text("utf-8")
