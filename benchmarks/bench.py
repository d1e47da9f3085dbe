"""``make bench``: this project, the article's loop and the HF Trainer, turn by turn on the same
reviews; with ``--packs`` packs of the article's grid instead, with ``--mixed`` a pack of copies and
a mixed one.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

from benchmarks.contenders import CONTENDERS, Case, take_turn
from benchmarks.flops import empty_model, matrix_rate, needed_flops
from benchmarks.results import EQUAL, FOLDER, MIXED, Beginning, Measurement, Phase, Precision
from benchmarks.workers import FOREVER, Workers
from benchmarks.workload import SIZES, mean_tokens, model_of, review_lengths
from lora_replication import machine
from lora_replication.encoders import locate_encoder
from lora_replication.errors import ParameterError
from lora_replication.grid.packing import packs_of
from lora_replication.grid.space import grid_runs
from lora_replication.process import run_command
from lora_replication.reading import load_study
from lora_replication.record import Settings
from lora_replication.study import CudaParams, ModelParams

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"
METHODS = ("last_layers", "lora_default", "full")
GRID = "grid"
BATCHES = {"cpu": 2, "cuda": 50}
PADDED_BATCHES = {"cpu": 1, "cuda": 50}
"""Batches of a turn: few on a CPU, where a step takes seconds, and of padded ones, which all cost
the same, a single one.
"""
UNLIKE = ((4, 8, 16), (1e-5, 1e-4, 3e-4, 1e-3), ("article", "paper"))
"""Ranks, rates and scalings of a mixed pack, in turn: twelve differ."""

Turn = tuple[float, int, float]
"""Seconds, peak memory in bytes, and the matrix rate afterwards."""


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", choices=list(BATCHES), default="cpu", help=" ")
    parser.add_argument("--rounds", type=int, default=2, help="turns of each contender")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="or folders with an encoder")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help=" ")
    what.add_argument("--packs", nargs="+", type=int, help="of so many configurations: 1 8 16")
    what.add_argument("--mixed", type=int, help="size of a pack of copies and of a mixed one")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of results")
    asked = parser.parse_args(words)
    packs = asked.packs or ([] if asked.mixed is None else [asked.mixed])
    if min([asked.rounds, *packs]) < 1:
        raise ParameterError(f"--rounds {asked.rounds}, packs of {packs}; allowed: from 1")
    kind = "packs" if asked.packs else "mixed" if packs else "bench"
    methods = {"packs": [GRID], "mixed": [MIXED], "bench": asked.methods}[kind]
    begun = Beginning(asked.device, shlex.join(["python", "-m", "benchmarks.bench", *words]))
    precision, measurements = precisions(asked.device)[0], list[Measurement]()
    for size in asked.sizes:
        with model_of(size) as model:
            for method in methods:
                print(f"bench: {size}, {method}", file=sys.stderr)
                cases = cases_of(size, model, asked.device, precision, method, packs)
                with Workers() as workers:
                    measurements += measure(cases, asked.rounds, workers)
    content = {"matrix_precision": precision, "mean_tokens": mean_tokens()}
    begun.results(kind, measurements=measurements, **content).show(asked.folder)


def precisions(device: str) -> tuple[Precision, ...]:
    """Those to be measured on ``device``, that of its fastest matrix products first: a CPU without
    instructions for bf16 is measured in fp32.
    """
    if device == "cuda":
        return ("bf16-mixed", "fp16-mixed")
    return ("bf16-mixed",) if machine.multiplies_bf16() else ("fp32",)


def cuda_paths(device: str) -> list[CudaParams]:
    """CUDA's own paths, those first that promise most, then all of them together; on a CPU, for
    tests, those that it has kernels for.
    """
    names = ["graphs", "fused_attention", *(["ragged_evaluation"] if device == "cuda" else [])]
    return [CudaParams(**dict.fromkeys(on, True)) for on in (*([name] for name in names), names)]


def cases_of(
    size: str,
    model: ModelParams,
    device: str,
    precision: str,
    method: str,
    packs: Sequence[int] = (),
) -> list[Case]:
    """In the order of turns: each contender on ``method`` with the article's settings, or this
    project on the pack in the middle of the article's grid, cut into ``packs`` of each size, or on
    a pack of copies of default LoRA and on a mixed one, with ranks, rates and scalings as in
    ``UNLIKE``.
    """
    study = load_study(PARAMS)
    if method == GRID:
        # No data need be prepared for these, so they are no runs.
        bare = SimpleNamespace(study=study, run=_configuration)
        cuts = [packs_of(grid_runs(bare), number) for number in packs]
        asked = [(GRID, "ours", [each.settings for each in cut[len(cut) // 2]]) for cut in cuts]
    elif method == MIXED:
        copies = packs[0] * [Settings.of(study, study.methods["lora_default"])]
        unlike = [_unlike(*each) for each in zip(copies, *map(cycle, UNLIKE), strict=False)]
        asked = [(EQUAL, "ours", copies), (MIXED, "ours", unlike)]
    else:
        asked = [(method, name, [Settings.of(study, study.methods[method])]) for name in CONTENDERS]
    update = {"encoder": model.encoder, "device": device, "precision": precision}
    vocabulary = int(empty_model(locate_encoder(model)).config.vocab_size)
    cases = []
    for name, contender, pack in asked:
        settings = tuple(each.model_copy(update=update) for each in pack)
        batches = (PADDED_BATCHES if contender == "article" else BATCHES)[device]
        cases.append(Case(contender, size, name, model, settings, vocabulary, batches))
    return cases


def _unlike(settings: Settings, rank: int, rate: float, scaling: str) -> Settings:
    lora = settings.lora and settings.lora.model_copy(update={"rank": rank, "scaling": scaling})
    return settings.model_copy(update={"learning_rate": rate, "lora": lora})


def _configuration(_role: str, name: str, settings: Settings, seed: int) -> Any:
    return SimpleNamespace(label=name, settings=settings, seed=seed)


def measure(
    cases: Sequence[Case], rounds: int, workers: Workers, until: float = FOREVER
) -> list[Measurement]:
    """Training and evaluation (packs: training alone) of all ``cases``, A B C A B C.

    Each contender has a process of its own, which lives through its turns; on a CPU each turn of a
    pack has one, for what a large pack held must not weigh on a small one.

    Raises:
        TimeoutError: it would take beyond ``until`` (monotonic seconds).
        IncompleteError: a contender fails.
    """
    device, packs = cases[0].settings[0].device, cases[0].method in (GRID, EQUAL)
    measurements = []
    for phase in get_args(Phase)[: 1 if packs else 2]:
        found: list[list[Turn]] = [[] for _ in cases]
        for _ in range(rounds):
            for case, turns in zip(cases, found, strict=True):
                turn = workers.call(case.contender, take_turn, case, phase, until=until)
                precision = precisions(device)[0]
                rate = workers.call("rate", matrix_rate, device, precision, until=until)
                turns.append((*turn, rate))
                if packs and device == "cpu":
                    workers.stop(case.contender)
        pairs = zip(cases, found, strict=True)
        measurements += [_measurement(case, phase, turns) for case, turns in pairs]
    return measurements


def _measurement(case: Case, phase: Phase, turns: Sequence[Turn]) -> Measurement:
    encoder, lengths, pack = locate_encoder(case.model), review_lengths(1000), len(case.settings)
    network = empty_model(encoder)
    needed = [
        needed_flops(network, encoder.layout, each, lengths, training=phase == "training")
        for each in case.settings
    ]
    return Measurement(
        size=Path(case.size).name,
        method=case.method,
        phase=phase,
        contender=case.contender,
        precision=case.settings[0].precision,
        pack=pack,
        seconds_per_review=tuple(seconds / case.cost / pack for seconds, _, _ in turns),
        matrix_flops_per_second=tuple(rate for _, _, rate in turns),
        flops_per_review=sum(needed) / pack / len(lengths),
        peak_memory_bytes=max(peak for _, peak, _ in turns),
        cuda_paths=tuple(case.cuda.on),
    )


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "bench"))
