"""LoRA against LoRA under another name, and against effects of known size: ``python -m
benchmarks.placebo``.

Nothing is trained. Runs are recorded ones of ``minilm-small``, or drawn: each review is as hard as
for the method's recorded runs, and runs scatter as those do. An effect turns some wrong answers
into right ones.
"""

import argparse
import math
import shlex
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import norm

from benchmarks.coverage import table
from benchmarks.results import Beginning
from lora_replication.compare.command import compare_recorded
from lora_replication.compare.decision import Decision, Pairs, Rule, decide, looks_until
from lora_replication.compare.foreign import DESCRIPTION
from lora_replication.compare.sides import read_side
from lora_replication.files import write_whole
from lora_replication.process import run_command
from lora_replication.reading import project_root
from lora_replication.statistics import crossed_components

STUDY, SEEDS, MOST, STEP, VARIANTS = "minilm-small", 10, 30, 5, 20
METHODS = ("lora_default", "full")
EFFECTS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0)
"""Points."""

Array = NDArray[np.float64]
PAGE = """\
# Placebos and known effects through `compare`

`{ran.command}`, {ran.started}, {ran.seconds:.0f} seconds, commit {ran.commit}{changed};
numpy {ran.versions[numpy]}, scipy {ran.versions[scipy]}. Draws: `numpy.random.default_rng(1)`; \
`benchmarks/placebo.py` says how.
Nothing was trained: runs are recorded ones of `{study}`, or drawn so that reviews are as hard \
and runs scatter as recorded there.

## Placebos

LoRA default against itself under another name. The {variants} variants go through `compare` as \
folders of foreign predictions: right is
at most one called different. The recorded runs are compared with each other in every way that \
makes two halves: right is about one in twenty.

{placebos}

## Known effects

A share of the wrong answers of one side is turned into right ones. `one` is a single comparison \
by folders of foreign predictions, whose difference has a standard error of about 1.4 points;
the other columns are percent of {studies:,} drawn comparisons called better (worse): with \
{seeds} seeds, and from {seeds} to {most} in steps of {step}.

{effects}
"""


def recorded(method: str) -> Array:
    """(seeds, reviews), 1 where a recorded run is right."""
    side = read_side(f"{STUDY}:{method}", STUDY, project_root())
    return np.array([side.answers[seed] for seed in sorted(side.answers)])


def recorded_labels() -> Array:
    """Of the test reviews."""
    run = project_root() / "reports" / STUDY / "records" / METHODS[0] / "seed-3"
    tested = pd.read_parquet(run / "predictions.parquet").query("split == 'test'")
    return np.asarray(tested["label"], dtype=np.float64)


def drawn(chance: np.random.Generator, known: Array, runs: int, effect: float = 0.0) -> Array:
    """(runs, reviews) of new runs like the ``known`` ones, ``effect`` (a fraction) better."""
    ease = ndtri((known.sum(0) + known.mean()) / (len(known) + 1))  # of a review: no 0, no 1
    sd = math.sqrt(crossed_components(known).of_seeds * len(known)) / norm.pdf(ease).mean()
    shifts = sd * chance.standard_normal((runs, 1))
    right = ease + shifts + chance.standard_normal((runs, len(ease))) > 0
    turned = chance.random(right.shape) < effect / (1 - norm.cdf(ease + shifts).mean())
    return np.asarray(right | turned, dtype=np.float64)


def write_variant(folder: Path, name: str, right: Array, labels: Array) -> str:
    """A folder of foreign predictions with these answers; its path."""
    folder.mkdir()
    (folder / DESCRIPTION).write_text(f'{{"name": "{name}", "study": "{STUDY}"}}')
    for seed, answers in enumerate(right, start=1):
        positive = np.where(answers == 1, labels, 1 - labels)
        rows = {"split": "test", "row": np.arange(len(labels)), "label": labels}
        scores = {"score_0": 1 - positive, "score_1": positive}
        pd.DataFrame(rows | scores).to_parquet(folder / f"seed-{seed}.parquet", index=False)
    return str(folder)


def by_folders(first: Array, second: Array, labels: Array) -> Decision:
    """What ``compare`` says of these answers, written as two folders of foreign predictions."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        sides = [
            write_variant(folder / name, name, right, labels)
            for name, right in (("LoRA", first), ("variant", second))
        ]
        return compare_recorded(*sides, STUDY, None, project_root()).decision


def in_looks(first: Array, second: Array, looks: tuple[int, ...]) -> str:
    """The word at the first look that decides, or at the last."""
    runs, rule = tuple(zip(first, second, strict=True)), Rule(0.005, 0.95, 0.8, looks)
    words = (decide(Pairs(runs[:seeds]), rule, look).word for look, seeds in enumerate(looks))
    return next((word for word in words if word != "undecided"), "undecided")


def placebo_rows(chance: np.random.Generator, labels: Array) -> list[list[str]]:
    """How many are called different, as good or undecided: drawn runs, and recorded halves."""
    known = recorded(METHODS[0])
    pairs = [(drawn(chance, known, SEEDS), drawn(chance, known, SEEDS)) for _ in range(VARIANTS)]
    halves, everyone = [], set(range(len(known)))
    for half in combinations(range(1, len(known)), len(known) // 2):  # the other has the first run
        other = chance.permutation(sorted(everyone - {*half}))
        halves.append(in_looks(known[chance.permutation(half)], known[other], (len(half),)))
    rows = []
    for name, runs, words in (
        (f"{VARIANTS} variants of drawn runs", SEEDS, [by_folders(*p, labels).word for p in pairs]),
        (f"all {len(halves)} halves of the recorded runs", len(known) // 2, halves),
    ):
        times = Counter(words)
        different = times["better"] + times["worse"]
        rows.append([name, *map(str, (runs, different, times["as good"], times["undecided"]))])
    return rows


def effect_row(
    chance: np.random.Generator, labels: Array, effect: float, studies: int
) -> list[str]:
    """One comparison by folders, and the power of many, for each method's scatter."""
    known, cells = [recorded(method) for method in METHODS], [f"{effect:g}"]
    sides = drawn(chance, known[0], SEEDS), drawn(chance, known[0], SEEDS, effect / 100)
    one = by_folders(*sides, labels)
    cells.append(f"{one.word}, {100 * one.difference.estimate:+.1f}" if one.difference else "")
    for own in known:
        for looks in ((SEEDS,), looks_until(SEEDS, MOST, STEP)):
            words = Counter(
                in_looks(drawn(chance, own, MOST), drawn(chance, own, MOST, effect / 100), looks)
                for _ in range(studies)
            )
            share = [100 * words[word] / studies for word in ("better", "worse")]
            cells.append(f"{share[0]:.0f} ({share[1]:.0f})")
    return cells


def main(words: Sequence[str]) -> None:
    """Compare, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placebo", description=__doc__)
    parser.add_argument("--studies", type=int, default=500, help="for each power")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/placebo.md"))
    asked, chance = parser.parse_args(words), np.random.default_rng(1)
    begun = Beginning("cpu", shlex.join(["python", "-m", "benchmarks.placebo", *words]))
    labels = recorded_labels()
    heading = ["against itself", "runs a side", "different", "as good", "undecided"]
    placebos = table(heading, placebo_rows(chance, labels))
    rows = [effect_row(chance, labels, effect, asked.studies) for effect in EFFECTS]
    powers = [f"{method}, {n} seeds" for method in METHODS for n in (SEEDS, f"up to {MOST}")]
    effects = table(["points", "one", *powers], rows)
    ran = begun.results("study")
    own = {"study": STUDY, "variants": VARIANTS, "seeds": SEEDS, "most": MOST, "step": STEP}
    own |= {"changed": ", with local changes" if ran.changed else "", "studies": asked.studies}
    write_whole(asked.out, PAGE.format(ran=ran, placebos=placebos, effects=effects, **own).encode())


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
