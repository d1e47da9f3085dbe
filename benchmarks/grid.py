"""``python -m benchmarks.grid``: configurations of the article's grid trained in packs beside one
by one.

Seeds could share a pass too. They have batches of their own, so they would take no less time than
one of them with as many batches at once.
"""

import argparse
import multiprocessing
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.flops import empty_model, matrix_rate, needed_flops
from benchmarks.gate import finish
from benchmarks.results import Beginning, GridResults, PackMeasurement
from benchmarks.table import show
from benchmarks.tasks import PARAMS, SIZES, model_of, precisions
from benchmarks.workload import Workload, make_workload, review_lengths
from lora_replication.encoders import locate_encoder
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.grid.packs import packs_of
from lora_replication.grid.space import cell_jobs
from lora_replication.machine import peak_memory_bytes, reset_peak_memory
from lora_replication.process import keep_freed_memory, run_command
from lora_replication.reading import load_study
from lora_replication.record import Settings
from lora_replication.study import ModelParams

HERE = Path(__file__).resolve().parent
BATCHES = {"cpu": 4, "cuda": 30}
PACKS = (1, 2, 4, 8, 16, 32)


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.grid", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", choices=list(BATCHES), default="cpu", help=" ")
    parser.add_argument(
        "--size", default="minilm", choices=[*SIZES, "tiny-distilbert", "tiny-bert"], help=" "
    )
    parser.add_argument(
        "--packs", nargs="+", type=int, default=PACKS, help="configurations that train together"
    )
    parser.add_argument(
        "--batches",
        nargs="*",
        type=int,
        default=[],
        help="a pack of 1 on so many at once, as seeds in a pass",
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="has README.md; results/ is written into it"
    )
    asked = parser.parse_args(words)
    if asked.rounds < 1 or min(asked.packs) < 1:
        raise ParameterError(
            f"--rounds is {asked.rounds} and --packs {asked.packs}; allowed: 1 or more"
        )
    if wrong := [each for each in asked.batches if each < 2 or BATCHES[asked.device] % each]:
        raise ParameterError(
            f"--batches has {wrong[0]}; allowed: what divides the {BATCHES[asked.device]} of a turn, but not 1"
        )
    cases = [*((pack, 1) for pack in asked.packs), *((1, batches) for batches in asked.batches)]
    command = shlex.join(["python", "-m", "benchmarks.grid", *words])
    show(run(asked.device, asked.size, cases, asked.rounds, command), asked.folder)


def pack_settings(size: int, device: str, encoder: str) -> list[Settings]:
    """The pack in the middle of the article's grid, when it is cut into packs of ``size``."""
    packs = packs_of(cell_jobs(load_study(PARAMS)), size)
    precision = precisions(device)[0]
    return [
        replace(job.settings, device=device, encoder=encoder, precision=precision)
        for job in packs[len(packs) // 2]
    ]


def run(
    device: str, size: str, cases: Sequence[tuple[int, int]], rounds: int, command: str
) -> GridResults:
    """Measure turn by turn each of ``cases``, configurations of a pack and batches at once, then
    all again.
    """
    beginning = Beginning(device, command)
    seconds: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    rates: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    peaks: dict[tuple[int, int], int] = {}
    with model_of(size) as model:
        encoder = locate_encoder(model)
        network = empty_model(encoder)
        workload = make_workload(BATCHES[device], 12, int(network.config.vocab_size))
        for number in range(rounds):
            for pack, batches in cases:
                beginning.tell(f"round {number + 1}, packs of {pack}, batches at once: {batches}")
                settings = pack_settings(pack, device, model.encoder)
                took, peaks[pack, batches] = _turn(settings, model, workload, batches)
                seconds[pack, batches].append(
                    took / (len(workload.random.ids) / workload.mean_tokens) / len(settings)
                )
                rates[pack, batches].append(matrix_rate(device, precisions(device)[0]))
        lengths = review_lengths(1000)
        measurements = []
        for pack, batches in cases:
            flops = [
                needed_flops(network, encoder.layout, settings, lengths, training=True)
                for settings in pack_settings(pack, device, model.encoder)
            ]
            measurements.append(
                PackMeasurement(
                    pack=pack,
                    batches=batches,
                    seconds_per_review=tuple(seconds[pack, batches]),
                    matrix_flops_per_second=tuple(rates[pack, batches]),
                    flops_per_review=sum(flops) / len(flops) / len(lengths),
                    peak_memory_bytes=peaks[pack, batches],
                )
            )
    return GridResults(
        **beginning.origin(),
        size=size,
        matrix_precision=precisions(device)[0],
        mean_tokens=workload.mean_tokens,
        measurements=tuple(measurements),
    )


def _turn(
    settings: list[Settings], model: ModelParams, workload: Workload, batches: int
) -> tuple[float, int]:
    """Seconds and peak memory of one turn, in a process of its own: what a large pack held must not
    weigh on a small one.
    """
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_train, args=(settings, model, workload, batches, there)
    )
    process.start()
    there.close()
    try:
        took, peak = here.recv()
    except EOFError:
        process.join()
        raise IncompleteError(
            f"a pack of {len(settings)} ended with exit code {process.exitcode}; its own words stand above"
        ) from None
    process.join()
    return took, peak


def _train(
    settings: list[Settings],
    model: ModelParams,
    workload: Workload,
    batches: int,
    connection: Connection,
) -> None:
    from lora_replication.training.batches import collate
    from lora_replication.training.classifier import Classifier
    from lora_replication.training.loop import compute_reproducibly, new_state, train_step

    device = settings[0].device
    keep_freed_memory()
    compute_reproducibly()
    reset_peak_memory(device)
    classifier = Classifier(locate_encoder(model), settings[0], 1, settings[1:])
    states = [new_state(classifier, place) for place in range(len(settings))]
    classifier.start_epoch(1)
    rows = np.array(workload.rows()).reshape(workload.batches // batches, -1)
    train_step(
        classifier, states, collate(workload.random, rows[0], classifier.device)
    )  # libraries start, memory is taken
    finish(device)
    began = time.perf_counter()
    for batch_rows in rows:
        train_step(classifier, states, collate(workload.random, batch_rows, classifier.device))
    finish(device)
    connection.send((time.perf_counter() - began, peak_memory_bytes(device)))


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
