"""What ending hopeless runs early would save and change, by replaying the curves of a study's
trials: ``python -m benchmarks.early_end``.

The trials of a method on one seed are ranked as the cells of a grid are.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.results import Beginning, numbers, write_page
from lora_replication import load_runs
from lora_replication.files import project_root
from lora_replication.process import run_command
from lora_replication.report.results import COLLAPSED_BELOW

FIRST = 20
"""Places that are to stay as they are."""


def ended(curve: Sequence[float], is_hopeless: Callable[[float], bool]) -> int:
    """After how many epochs a run with these validation accuracies ends."""
    return next((n for n, own in enumerate(curve, 1) if is_hopeless(own)), len(curve))


def replayed(runs: pd.DataFrame, is_hopeless: Callable[[float], bool]) -> list[str]:
    """What a rule does to finished runs, in cells of the table.

    Args:
        runs: of one study, with ``name``, ``seed``, ``trainable_parameters`` and
            ``epoch_val_accuracy``.
    """
    curves = runs["epoch_val_accuracy"]
    epochs, best = curves.map(len), curves.map(max)
    ends = curves.map(lambda curve: ended(curve, is_hopeless))
    kept = [max(curve[:end]) for curve, end in zip(curves, ends, strict=True)]
    changed = 0
    for _, search in runs.assign(best=-best, kept=np.negative(kept)).groupby(["name", "seed"]):
        whole, replay = (
            search.sort_values([by, "trainable_parameters"], kind="stable").index[:FIRST]
            for by in ("best", "kept")
        )
        changed += (whole != replay).sum()
    early, back = ends < epochs, (ends < epochs) & (best >= COLLAPSED_BELOW)
    saved = f"{100 * (1 - ends.sum() / epochs.sum()):.1f} %"
    return [str(early.sum()), str(back.sum()), saved, str(changed)]


def positives(study: str) -> float:
    """The share of class 1 among the validation reviews."""
    file = next((project_root() / "reports" / study / "records").rglob("predictions.parquet"))
    answers = pd.read_parquet(file)
    return float(answers.loc[answers["split"] == "val", "label"].mean())


def main(words: Sequence[str]) -> None:
    """Replay both rules, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.early_end", description=__doc__)
    parser.add_argument("--study", default="surface", help="a published report with trials")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/early_end.md"))
    asked = parser.parse_args(words)
    begun = Beginning("cpu", shlex.join(["python", "-m", "benchmarks.early_end", *words]))
    runs = load_runs(asked.study).query("role == 'trial' and status == 'ok'")
    share = positives(asked.study)
    alone = np.array([share, 1 - share])  # the accuracies of a single class
    collapsed = f"{100 * COLLAPSED_BELOW:.0f} %"
    rows = [
        ["a single class", *replayed(runs, lambda accuracy: min(abs(alone - accuracy)) < 1e-9)],
        [f"below {collapsed}", *replayed(runs, lambda accuracy: accuracy < COLLAPSED_BELOW)],
    ]
    heading = ["ends after", "ended early", "came back", "epochs saved", "changed"]
    searches = runs.groupby(["name", "seed"]).ngroups
    own = {"trials": len(runs), "searches": searches, "study": asked.study, "first": FIRST}
    own |= {"epochs": runs["epoch_val_accuracy"].map(len).max(), "collapsed": collapsed}
    own |= {"ran": begun.results("study"), "rules": numbers(heading, rows)}
    write_page("early_end", asked.out, **own)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
