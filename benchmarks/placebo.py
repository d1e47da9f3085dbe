"""LoRA against LoRA under another name, and against effects of known size: ``python -m
benchmarks.placebo``.

The methods of the study ``placebo`` are trained: an hour of one core; a second start continues. How
often effects are found is counted on drawn runs: each review is as hard as for a method's recorded
runs in ``minilm-small``, and runs scatter as those do. An effect turns some wrong answers into
right ones.
"""

import argparse
import math
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import norm

from benchmarks.results import Beginning, numbers, write_page
from lora_replication.compare.command import Compared
from lora_replication.compare.decision import Pairs, Rule, decide, looks_until
from lora_replication.compare.more_seeds import compare_training
from lora_replication.compare.sides import read_side
from lora_replication.files import project_root
from lora_replication.process import run_command
from lora_replication.reading import read_study
from lora_replication.report.words import signed, signed_ends
from lora_replication.statistics import crossed_components

TRAINED, RECORDED = "placebo", "minilm-small"
"""Studies."""

SEEDS, MOST, STEP = 10, 30, 5
METHODS = ("lora_default", "full")
Array = NDArray[np.float64]


def recorded(method: str) -> Array:
    """(seeds, reviews), 1 where a recorded run is right."""
    side = read_side(f"{RECORDED}:{method}", RECORDED, project_root())
    return np.array([side.answers[seed] for seed in sorted(side.answers)])


def drawn(chance: np.random.Generator, known: Array, runs: int, effect: float = 0.0) -> Array:
    """(runs, reviews) of new runs like the ``known`` ones, ``effect`` (a fraction) better."""
    ease = ndtri((known.sum(0) + known.mean()) / (len(known) + 1))  # of a review: no 0, no 1
    sd = math.sqrt(crossed_components(known).of_seeds * len(known)) / norm.pdf(ease).mean()
    shifts = sd * chance.standard_normal((runs, 1))
    right = ease + shifts + chance.standard_normal((runs, len(ease))) > 0
    turned = chance.random(right.shape) < effect / (1 - norm.cdf(ease + shifts).mean())
    return np.asarray(right | turned, dtype=np.float64)


def trained(method: str, most: int = SEEDS) -> Compared:
    """LoRA and ``method`` of the study of placebos, trained until decided or on ``most`` seeds."""
    found = compare_training("lora", method, TRAINED, None, project_root(), most, STEP)
    print(f"{method}: {found.decision.word}", file=sys.stderr, flush=True)
    return found


def in_looks(first: Array, second: Array, looks: tuple[int, ...]) -> str:
    """The word at the first look that decides, or at the last."""
    runs, rule = tuple(zip(first, second, strict=True)), Rule(0.005, 0.95, 0.8, looks)
    words = (decide(Pairs(runs[:seeds]), rule, look).word for look, seeds in enumerate(looks))
    return next((word for word in words if word != "undecided"), "undecided")


def halves(chance: np.random.Generator, known: Array) -> list[str]:
    """What is said of the ``known`` runs, in every way that makes two halves of them."""
    words, everyone = [], set(range(len(known)))
    for half in combinations(range(1, len(known)), len(known) // 2):  # the other has the first run
        other = chance.permutation(sorted(everyone - {*half}))
        words.append(in_looks(known[chance.permutation(half)], known[other], (len(half),)))
    return words


def placebo_row(name: str, seeds: int, words: Sequence[str]) -> list[str]:
    """How many are called different, as good or undecided."""
    times = Counter(words)
    different = times["better"] + times["worse"]
    return [name, *map(str, (seeds, different, times["as good"], times["undecided"]))]


def effect_row(
    chance: np.random.Generator, known: Sequence[Array], found: Compared, loss: float, studies: int
) -> list[str]:
    """A trained comparison, and the power of drawn ones for the scatter of each of ``known``."""
    decision, cells = found.decision, [f"{100 * loss:.2f}"]
    difference = decision.difference
    cells.append(f"{decision.word}, {signed(difference.estimate)} ({signed_ends(difference)})")
    cells.append(str(decision.seeds))
    for own in known:
        for looks in ((SEEDS,), looks_until(SEEDS, MOST, STEP)):
            words = Counter(
                in_looks(drawn(chance, own, MOST), drawn(chance, own, MOST, loss), looks)
                for _ in range(studies)
            )
            share = [100 * words[word] / studies for word in ("better", "worse")]
            cells.append(f"{share[0]:.0f} ({share[1]:.0f})")
    return cells


def main(words: Sequence[str]) -> None:
    """Train, compare, and write the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.placebo", description=__doc__)
    parser.add_argument("--studies", type=int, default=500, help="for each power")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/placebo.md"))
    asked, chance = parser.parse_args(words), np.random.default_rng(1)
    begun = Beginning("cpu", shlex.join(["python", "-m", "benchmarks.placebo", *words]))
    methods = read_study(TRAINED, project_root()).methods
    options = {name: method.options for name, method in methods.items()}
    renamed = [trained(name) for name, own in options.items() if own.keys() == {"stream"}]
    shares = {name: own["swapped"] for name, own in options.items() if "swapped" in own}
    accuracy, known = renamed[0].accuracies[0], [recorded(method) for method in METHODS]
    placebos, parts = [found.decision.word for found in renamed], halves(chance, known[0])
    counted = [
        placebo_row(f"{len(placebos)} trained under other names", SEEDS, placebos),
        placebo_row(f"all {len(parts)} halves of recorded runs", SEEDS // 2, parts),
    ]
    heading = ["against itself", "runs a side", "different", "as good", "undecided"]
    effects = [
        effect_row(chance, known, trained(name, MOST), share * (2 * accuracy - 1), asked.studies)
        for name, share in shares.items()
    ]
    powers = [f"{method}, {n} seeds" for method in METHODS for n in (SEEDS, f"up to {MOST}")]
    tables = {
        "differences": ", ".join(signed(one.decision.difference.estimate) for one in renamed),
        "placebos": numbers(heading, counted),
        "effects": numbers(["points", "trained", "seeds", *powers], effects),
    }
    own = {"recorded": RECORDED, "seeds": SEEDS, "most": MOST, "step": STEP}
    own |= {"studies": asked.studies, "accuracy": 100 * accuracy}
    write_page("placebo", asked.out, ran=begun.results("study"), **own, **tables)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
