"""``make gpu MINUTES=9``: everything that a GPU is asked, in order of value, within the time given.

Each part has a share of the time, writes its results as it ends, and names what it left out.
"""

import argparse
import shlex
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.bench import METHODS, measure, method_cases, pack_cases, precisions
from benchmarks.contenders import missing_packages
from benchmarks.gpu_inputs import PIECES, join
from benchmarks.gpu_runs import at_work, labels, open_workspace, outcome, units
from benchmarks.gpu_smoke import smoke
from benchmarks.results import Beginning, Check, Measurement
from benchmarks.workers import Workers
from benchmarks.workload import SIZES, model_of, review_lengths
from lora_replication import machine
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.process import run_command
from lora_replication.record import PREDICTIONS, RECORD

PARTS = {
    "smoke": (
        0.14,
        "each method and a pack of 8: like the CPU, twice the same, killed and resumed",
    ),
    "speed": (0.24, "this project, the article's loop, the HF Trainer; packs; matrix rate; memory"),
    "study": (0.46, "minilm-gpu: four methods, five seeds, side by side, seed by seed"),
    "grid": (0.12, "minilm-gpu: the article's 576 configurations in packs, spread over the space"),
}
"""Shares of the time, the rest being for what comes back; what a part leaves is for the next."""

MOST_BYTES = 15_500_000
"""Of the archive that comes back: files of less than 16 MiB do."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""

    minutes: float
    inputs: Path | None
    out: Path
    work: Path
    device: str
    tiny: bool
    at_once: int
    pack: int

    @property
    def log(self) -> Path:
        """Takes what the parts' processes print."""
        return self.out / "log.txt"

    def say(self, line: str) -> None:
        """On the terminal and in the log."""
        line = f"gpu: {time.strftime('%H:%M:%S')} {line}"
        print(line, flush=True)
        with self.log.open("a") as stream:
            print(line, file=stream)


def main(words: Sequence[str]) -> None:
    """Run, or print, the plan.

    Raises:
        ParameterError: for words that make no sense.
        IncompleteError: a check does not hold, or a part failed; the others were done.
    """
    asked, dry_run = _read(words)
    until = 0.0
    for name, (share, what) in PARTS.items():
        until += 60 * asked.minutes * share
        print(f"{name:6} {60 * asked.minutes * share:5.0f} s, until {until:5.0f} s: {what}")
    if dry_run:
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.inputs and (asked.inputs / PIECES).is_file():
        asked = _joined(asked)
    command = shlex.join(["python", "-m", "benchmarks.gpu", *words])
    began, until, wrong = time.monotonic(), 0.0, list[str]()
    for name, (share, _) in PARTS.items():
        until += 60 * asked.minutes * share
        begun = Beginning(asked.device, command)
        asked.say(f"{name}: {max(0.0, began + until - time.monotonic()):.0f} s left for it")
        try:
            content = globals()[f"_{name}"](asked, began + until)
        except Exception as problem:  # a part that fails must not cost the others
            content = {"skipped": [f"{name}: {type(problem).__name__}: {problem}"]}
            wrong.append(content["skipped"][0])
        results = begun.results(name, **content)
        results.write(asked.out / f"{name}.json")
        wrong += [f"{each.name}: {each.detail}" for each in results.checks if not each.passed]
        for line in results.skipped:
            asked.say(f"{name}: not done: {line}")
        if name in ("study", "grid"):
            _bring_back(asked)
    asked.say(f"{time.monotonic() - began:.0f} s in all; the results are in {asked.out}")
    if wrong:
        raise IncompleteError("; ".join(wrong))


def _read(words: Sequence[str]) -> tuple[Asked, bool]:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything")
    parser.add_argument(
        "--inputs", type=Path, help="made by benchmarks.gpu_inputs; else this project"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/gpu/results"), help="at most 8 files"
    )
    parser.add_argument("--work", type=Path, default=Path("build/gpu/work"), help="runs; kept")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help=" ")
    parser.add_argument("--tiny", action="store_true", help="the study's encoder, for every part")
    parser.add_argument("--at-once", type=int, default=8, help="processes of the study on one GPU")
    parser.add_argument("--pack", type=int, default=16, help="configurations of the grid together")
    parser.add_argument("--dry-run", action="store_true", help="print the plan")
    found = vars(parser.parse_args(words))
    dry_run = found.pop("dry_run")
    asked = Asked(**found)
    if min(asked.minutes, asked.at_once, asked.pack) <= 0:
        raise ParameterError("--minutes, --at-once and --pack; allowed: above 0")
    return asked, dry_run


def _joined(asked: Asked) -> Asked:
    join(asked.inputs, asked.work / "inputs")
    return Asked(**vars(asked) | {"inputs": asked.work / "inputs"})


def _sizes(asked: Asked) -> tuple[str, ...]:
    workspace = open_workspace(asked.inputs, asked.work)  # MiniLM's package is found from here on
    return (str(workspace.encoder.folder),) if asked.tiny else SIZES[::-1]


def _smoke(asked: Asked, until: float) -> dict[str, Any]:
    folder = asked.work / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("fp16-mixed", "bf16-mixed") if asked.device == "cuda" else ("fp32", "bf16-mixed")
    checks, skipped = list[Check](), list[str]()
    for found in smoke(_sizes(asked), kinds, asked.device, folder, asked.log, until):
        if isinstance(found, str):
            skipped.append(found)
        else:
            checks.append(found)
            asked.say(f"smoke: {'ok' if found.passed else 'WRONG'}: {found.name}: {found.detail}")
    return {"checks": checks, "skipped": skipped}


def _speed(asked: Asked, until: float) -> dict[str, Any]:
    """Methods and packs at each size, those first that tell most."""
    sizes, packs = _sizes(asked), (2,) if asked.tiny else (1, 8, 16, 32, 64)
    kind = precisions(asked.device)[0]
    measurements, skipped = list[Measurement](), list[str]()
    order = [
        (task, size) for task in ("lora_default", "packs", "full", "last_layers") for size in sizes
    ]
    with Workers(asked.log) as workers:
        for task, size in order[: 2 if asked.tiny else None]:
            label = f"{Path(size).name}, {task}"
            with model_of(size) as model:
                here = (size, model, asked.device, kind)
                cases = method_cases(*here, task) if task in METHODS else pack_cases(*here, packs)
                for name in sorted({case.contender for case in cases}):
                    if missing := missing_packages(name):
                        skipped.append(f"{label}, {name}: needs {', '.join(missing)}")
                cases = [case for case in cases if not missing_packages(case.contender)]
                # Packs one by one, so that one that memory does not hold costs no other.
                for own in [cases] if task in METHODS else [[case] for case in cases]:
                    label = f"{Path(size).name}, {task}, {len(own[0].settings)} together"
                    try:
                        if time.monotonic() > until:
                            raise TimeoutError("out of time")
                        measurements += measure(own, 1 if asked.tiny else 2, workers, until)
                        asked.say(f"speed: {label}")
                    except (TimeoutError, IncompleteError) as problem:
                        skipped.append(f"{label}: {problem}")
    mean = float(review_lengths(10_000).mean())
    return {
        "title": "Random weights of DistilBERT's size: a speed, never an accuracy.",
        "matrix_precision": kind,
        "mean_tokens": mean,
        "measurements": measurements,
        "skipped": skipped,
    }


def _runs(part: str, at_once: Callable[[Asked], int], asked: Asked, until: float) -> dict[str, Any]:
    """Runs of the study side by side, each worker in a process of its own, until time is up."""
    workspace = open_workspace(asked.inputs, asked.work)
    if workspace.study.train.device != asked.device:
        return {"skipped": [f"{part}: the study asks for {workspace.study.train.device}"]}
    todo = units(workspace, part, asked.pack)
    number = min(at_once(asked), len(todo))
    threads = max(1, machine.cores() // number)
    with Workers(asked.log) as workers:
        for place in range(number):
            words = (asked.inputs, asked.work, part, asked.pack, until, threads)
            workers[str(place)].begin(at_work, *words)
            time.sleep(0 if asked.tiny else 1.5)  # as many contexts at once could not start
        problems = []
        for place in range(number):
            try:
                workers[str(place)].result(until)
            except (TimeoutError, IncompleteError) as problem:
                problems.append(f"{part}, process {place}: {problem}")
    finished = [outcome(record) for runs in todo for run in runs if (record := workspace.done(run))]
    for line in finished:
        asked.say(f"{part}: {line}")
    missing = [labels(runs) for runs in todo if not all(map(workspace.done, runs))]
    title = f"{workspace.study.title}. {'Packs in an order' if part == 'grid' else 'Seed by seed'}"
    title += f" that is balanced at any beginning, {number} processes at once."
    return {"title": title, "finished": finished, "skipped": problems + missing}


_study = partial(_runs, "study", lambda asked: asked.at_once)
_grid = partial(_runs, "grid", lambda asked: max(1, asked.at_once // 4))


def _bring_back(asked: Asked) -> None:
    """Archive the records, then as many predictions as it may hold, methods' first."""
    runs = asked.work / "runs"
    records = sorted(runs.rglob(RECORD))
    predictions = [file.with_name(PREDICTIONS) for file in records]
    predictions.sort(key=lambda file: (file.parts[-4] == "grid", file))
    size = left_out = 0
    with tarfile.open(asked.out / "records.tar.gz", "w:gz") as archive:
        for file in [*records, *filter(Path.is_file, predictions)]:
            size += file.stat().st_size
            if size > MOST_BYTES and file.name == PREDICTIONS:
                left_out, size = left_out + 1, size - file.stat().st_size
            else:
                archive.add(file, file.relative_to(runs))
    asked.say(f"{len(records)} records; predictions of {left_out} runs are too large to come back")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "gpu"))
