"""``make bench``: this project beside the article's loop and the HF Trainer, turn by turn on the
same machine.
"""

import argparse
import multiprocessing
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.profile_step import write_profile
from benchmarks.results import Beginning, Measurement, Results
from benchmarks.table import show
from benchmarks.tasks import BATCHES, METHODS, SIZES, Task, make_task, measure, model_of, precisions
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.process import run_command

HERE = Path(__file__).resolve().parent

PROFILED = "lora_default"
"""The method whose step is profiled, at the first size."""


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", choices=list(BATCHES), default="cpu", help=" ")
    parser.add_argument(
        "--rounds", type=int, default=2, help="turns of each contender, after a batch of warming up"
    )
    parser.add_argument(
        "--sizes",
        nargs="+",
        default=SIZES,
        choices=[*SIZES, "tiny-distilbert", "tiny-bert"],
        help=" ",
    )
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help=" ")
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="has README.md; results/ is written into it"
    )
    asked = parser.parse_args(words)
    if asked.rounds < 1:
        raise ParameterError(f"--rounds is {asked.rounds}; allowed: 1 or more")
    command = shlex.join(["python", "-m", "benchmarks.bench", *words])
    show(
        run(asked.device, asked.rounds, asked.sizes, asked.methods, asked.folder, command),
        asked.folder,
    )


def run(
    device: str,
    rounds: int,
    sizes: Sequence[str],
    methods: Sequence[str],
    folder: Path,
    command: str,
) -> Results:
    """Measure, and write the profile into ``folder``."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the HF Trainer would take all
    beginning = Beginning(device, command)
    measurements: list[Measurement] = []
    for size in sizes:
        with model_of(size) as model:
            for method in methods:
                beginning.tell(f"{size}, {method}")
                task = make_task(size, method, model, device)
                measurements += measure(task, rounds)
                if (size, method) == (sizes[0], PROFILED):
                    _profile(task, folder / "results" / f"{beginning.machine.name}-profile.txt")
    return Results(
        **beginning.origin(),
        batch_size=task.workload.batch_size,
        batches_per_turn=task.workload.batches,
        matrix_precision=precisions(device)[0],
        mean_tokens=task.workload.mean_tokens,
        measurements=tuple(measurements),
    )


def _profile(task: Task, file: Path) -> None:
    case = next(case for case in task.cases if case.contender == "ours")
    parts = [task.size, task.method, case.settings.precision, case.settings.device]
    heading = f"A training step of this project, mean of {case.batches}: {', '.join(parts)}"
    # In a process of its own, for what it leaves behind would weigh on the turns to come.
    process = multiprocessing.get_context("spawn").Process(
        target=write_profile, args=(case, task.workload, file, heading)
    )
    process.start()
    process.join()
    if process.exitcode:
        raise IncompleteError(
            f"benchmark's profile: its process ended with exit code {process.exitcode}, see above"
        )


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "bench"))
