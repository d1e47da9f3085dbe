"""``python -m benchmarks.executors``: a tiny grid on Ray with one worker and with two, turn by turn
on this machine.
"""

import argparse
import multiprocessing
import os
import secrets
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory

from lora_replication.grid.executors import open_executor
from lora_replication.grid.executors.on_ray import Silent

from benchmarks.results import Beginning, WorkersResults
from benchmarks.table import show
from benchmarks.tasks import PARAMS
from lora_replication.data.prepare import prepare
from lora_replication.encoders import locate_encoder
from lora_replication.errors import ParameterError
from lora_replication.grid.space import cell_jobs
from lora_replication.process import run_command
from lora_replication.reading import check_study, merge_files
from lora_replication.study import Study
from lora_replication.training.run import Bench

HERE = Path(__file__).resolve().parent
TINY = PARAMS.parent / "studies" / "tiny.yaml"
WORKERS = (1, 2)
WARMING = 4
"""Configurations that are run first, so that every worker has loaded its libraries, the data and
the encoder.
"""


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.executors",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each number of workers")
    parser.add_argument(
        "--epochs", type=int, default=40, help="of each configuration, so that it takes seconds"
    )
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="has README.md; results/ is written into it"
    )
    asked = parser.parse_args(words)
    if min(asked.rounds, asked.epochs) < 1:
        raise ParameterError(
            f"--rounds is {asked.rounds} and --epochs {asked.epochs}; allowed: 1 or more"
        )
    show(
        run(
            asked.rounds, asked.epochs, shlex.join(["python", "-m", "benchmarks.executors", *words])
        ),
        asked.folder,
    )


def run(rounds: int, epochs: int, command: str) -> WorkersResults:
    """Measure turn by turn: one worker, two, one, two."""
    beginning = Beginning("cpu", command)
    seconds: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for number in range(rounds):
        for workers in WORKERS:
            beginning.tell(f"round {number + 1}, {workers} at work")
            # Each in a process of its own: Ray remembers an earlier cluster of its process.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                configurations, took = process.submit(turn, workers, epochs).result()
            seconds[workers].append(took)
    return WorkersResults(
        **beginning.origin(),
        configurations=configurations,
        seconds_of_sweep={workers: tuple(each) for workers, each in seconds.items()},
    )


def turn(workers: int, epochs: int) -> tuple[int, float]:
    """How many configurations ``workers`` trained in how many seconds."""
    with TemporaryDirectory() as folder, cluster(workers) as address:
        return sweep_seconds(tiny_grid(epochs, address), Path(folder))


def tiny_grid(epochs: int, address: str) -> Study:
    """The tiny study with 16 configurations, one in a pack, on the cluster at ``address``."""
    content = merge_files(PARAMS, TINY)
    content["train"] |= {"epochs": epochs}
    content["grid"] |= {"alpha": [1, 2, 4, 8], "pack": 1, "executor": "ray", "ray_address": address}
    return check_study(content)


@contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """A Ray on the loopback address with so many CPUs and a token of its own; gives its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    ray = Path(sys.executable).with_name("ray")
    head = subprocess.Popen(  # noqa: S603  # fixed words and numbers
        [ray, "start", "--head", f"--port={port}", "--node-ip-address=127.0.0.1", f"--num-cpus={cpus}", "--num-gpus=0", "--block",
         "--include-dashboard=false", "--disable-usage-stats", "--object-store-memory=100000000"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        next(line for line in head.stdout or () if "Ray runtime started" in line)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait()


def sweep_seconds(study: Study, root: Path) -> tuple[int, float]:
    """How many configurations were trained in how many seconds, once all workers were warm."""
    prepare(study, locate_encoder(study.model), root / "data" / study.study)
    packs = [[job] for job in cell_jobs(study)]
    with open_executor(Bench(study, root), lambda _asked: nullcontext(Silent())) as executor:
        list(executor(packs[:WARMING]))
        began = time.monotonic()
        done = list(executor(packs[WARMING:]))
        return len(done), time.monotonic() - began


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
