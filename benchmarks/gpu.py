"""``make gpu MINUTES=9``: everything that a GPU is asked, in order of value, within the time given.

Each part has a share of the time, writes its results as it ends, and names what it left out.
"""

import argparse
import shlex
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.bench import GRID, cases_of, cuda_paths, measure, precisions
from benchmarks.contenders import missing_packages
from benchmarks.gpu_inputs import PIECES, join
from benchmarks.gpu_runs import at_work, labels, open_workspace, outcome, units
from benchmarks.gpu_smoke import smoke
from benchmarks.results import Beginning, Check, Measurement
from benchmarks.workers import Workers
from benchmarks.workload import SIZES, mean_tokens, model_of
from lora_replication import machine
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.process import run_command
from lora_replication.record import PREDICTIONS, RECORD
from lora_replication.workspace import Workspace

PARTS = {
    "smoke": (0.17, "methods, a pack of 8, each of CUDA's own paths: like the CPU, twice the same"),
    "speed": (0.27, "this project, the article's loop, the HF Trainer; packs; each path; memory"),
    "study": (0.40, "four methods, five seeds on the whole split, side by side, seed by seed"),
    "grid": (0.12, "the article's 576 configurations in packs, spread over their space"),
}
"""Shares of the time, the rest being for what comes back; what a part leaves is for the next."""

MOST_BYTES = 15_500_000
"""Of the archive that comes back: files of less than 16 MiB do."""

SECONDS_BETWEEN_STARTS = 1.5
"""Of processes on a GPU, whose contexts can't all be made at once."""


def main(words: Sequence[str]) -> None:
    """Run, or print, the plan.

    Raises:
        ParameterError: for words that make no sense.
        IncompleteError: a check does not hold, or a part failed; the others were done.
    """
    asked = _read(words)
    for (part, (share, what)), end in zip(PARTS.items(), _ends(0.0, asked.minutes), strict=True):
        print(f"{part:6} {60 * asked.minutes * share:5.0f} s, until {end:5.0f} s: {what}")
    if asked.dry_run:
        return
    began, wrong = time.monotonic(), list[str]()
    asked.out.mkdir(parents=True, exist_ok=True)
    if asked.inputs and (asked.inputs / PIECES).is_file():
        join(asked.inputs, asked.work / "inputs")
        asked.inputs = asked.work / "inputs"
    for part, until in zip(PARTS, _ends(began, asked.minutes), strict=True):
        begun = Beginning(asked.device, shlex.join(["python", "-m", "benchmarks.gpu", *words]))
        _say(asked, f"{part}: {max(0.0, until - time.monotonic()):.0f} s left for it")
        try:
            content = _content(part, asked, until)
        except Exception as problem:  # a part that fails must not cost the others
            content = {"skipped": [f"{part}: {type(problem).__name__}: {problem}"]}
            wrong += content["skipped"]
        results = begun.results(part, **content)
        results.write(asked.out / f"{part}.json")
        wrong += [f"{each.name}: {each.detail}" for each in results.checks if not each.passed]
        for line in results.skipped:
            _say(asked, f"{part}: not done: {line}")
        if part in ("study", "grid"):
            _bring_back(asked)
    _say(asked, f"{time.monotonic() - began:.0f} s in all; the results are in {asked.out}")
    if wrong:
        raise IncompleteError("; ".join(wrong))


def _read(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9.0, help="for everything")
    add("--inputs", type=Path, help="made by benchmarks.gpu_inputs; without it, of this project")
    add("--out", type=Path, default=Path("build/gpu/results"), help="gets at most eight files")
    add("--work", type=Path, default=Path("build/gpu/work"), help="of runs; recorded ones stay")
    add("--device", choices=["cuda", "cpu"], default="cuda", help=" ")
    add("--tiny", action="store_true", help="the study's encoder in every part, few turns")
    add("--at-once", type=int, default=8, help="processes of the study on one GPU")
    add("--pack", type=int, default=16, help="configurations of the grid together")
    add("--dry-run", action="store_true", help="print the plan")
    asked = parser.parse_args(words)
    if min(asked.minutes, asked.at_once, asked.pack) <= 0:
        raise ParameterError("--minutes, --at-once and --pack; allowed: above 0")
    return asked


def _ends(began: float, minutes: float) -> list[float]:
    shares = [share for share, _ in PARTS.values()]
    return [began + 60 * minutes * sum(shares[: place + 1]) for place in range(len(shares))]


def _say(asked: argparse.Namespace, line: str) -> None:
    """On the terminal and in the log, which takes what the parts' processes print too."""
    line = f"gpu: {time.strftime('%H:%M:%S')} {line}"
    print(line, flush=True)
    with (asked.out / "log.txt").open("a") as stream:
        print(line, file=stream)


def _content(part: str, asked: argparse.Namespace, until: float) -> dict[str, Any]:
    workspace = open_workspace(asked.inputs, asked.work)  # MiniLM's package is found from here on
    if part in ("study", "grid"):
        return _runs(part, workspace, asked, until)
    sizes = [str(workspace.encoder.folder)] if asked.tiny else SIZES[::-1]
    return (_smoke if part == "smoke" else _speed)(asked, sizes, until)


def _workers(asked: argparse.Namespace) -> Workers:
    return Workers(asked.out / "log.txt", forked=asked.tiny)


def _smoke(asked: argparse.Namespace, sizes: Sequence[str], until: float) -> dict[str, Any]:
    kinds = ("fp16-mixed", "bf16-mixed") if asked.device == "cuda" else ("fp32",)
    checks, skipped = list[Check](), list[str]()
    file = asked.work / "smoke.safetensors"
    with _workers(asked) as workers:
        for found in smoke(sizes, kinds, asked.device, file, workers, until):
            if isinstance(found, str):
                skipped.append(found)
            else:
                checks.append(found)
                word = "ok" if found.passed else "WRONG"
                _say(asked, f"smoke: {word}: {found.name}: {found.detail}")
    return {"checks": checks, "skipped": skipped}


def _speed(asked: argparse.Namespace, sizes: Sequence[str], until: float) -> dict[str, Any]:
    """Methods and packs at each size, those first that tell most."""
    packs, kind = (2,) if asked.tiny else (1, 8, 16, 32, 64), precisions(asked.device)[0]
    methods = ("lora_default", GRID, *([] if asked.tiny else ["full", "last_layers"]))
    measurements, skipped = list[Measurement](), list[str]()
    with _workers(asked) as workers:
        for method, size in [(method, size) for method in methods for size in sizes]:
            with model_of(size) as model:
                cases = cases_of(size, model, asked.device, kind, method, packs)
                lacking = {case.contender: missing_packages(case.contender) for case in cases}
                for name, missing in lacking.items():
                    if missing:
                        skipped.append(f"{size}, {method}, {name}: needs {', '.join(missing)}")
                cases = [case for case in cases if not lacking[case.contender]]
                # Packs one by one, so that one that memory does not hold costs no other.
                groups = [[case] for case in cases] if method == GRID else [cases]
                paths = cuda_paths(asked.device)
                if method == GRID and not asked.tiny:  # of packs, training alone is timed
                    middle, paths = cases[len(cases) // 2], [*paths[:2], paths[-1]]
                    groups += [[replace(middle, cuda=own)] for own in paths]
                if method == "lora_default":  # ours is the last
                    groups += [[replace(cases[-1], cuda=own)] for own in paths]
                for own in groups:
                    name = f"{Path(size).name}, {method}, packs of {len(own[0].settings)}"
                    name = ", ".join([name, *own[0].cuda.on])
                    try:
                        if time.monotonic() > until:
                            raise TimeoutError("out of time")
                        measurements += measure(own, 1 if asked.tiny else 2, workers, until)
                        _say(asked, f"speed: {name}")
                    except (TimeoutError, IncompleteError) as problem:
                        skipped.append(f"{name}: {problem}")
    return {
        "title": "Weights of DistilBERT's size are random: a speed, never an accuracy.",
        "matrix_precision": kind,
        "mean_tokens": mean_tokens(),
        "measurements": measurements,
        "skipped": skipped,
    }


def _runs(
    part: str, workspace: Workspace, asked: argparse.Namespace, until: float
) -> dict[str, Any]:
    """Runs of the study by several processes side by side, until time is up."""
    if workspace.study.train.device != asked.device:
        return {"skipped": [f"{part}: the study asks for {workspace.study.train.device}"]}
    todo = units(workspace, part, asked.pack)
    # Packs fill a GPU by themselves; two of them hide each other's evaluations.
    number = min(asked.at_once if part == "study" else max(1, asked.at_once // 4), len(todo))
    threads, problems = max(1, machine.cores() // number), list[str]()
    with _workers(asked) as workers:
        words = (asked.inputs, asked.work, part, asked.pack, until, threads)
        for place in range(number):
            workers.begin(str(place), at_work, *words)
            time.sleep(0 if asked.tiny else SECONDS_BETWEEN_STARTS)
        for place in range(number):
            try:
                workers.result(str(place), until)
            except (TimeoutError, IncompleteError) as problem:
                problems.append(f"{part}, process {place}: {problem}")
    finished = [outcome(record) for runs in todo for run in runs if (record := workspace.done(run))]
    for line in finished:
        _say(asked, f"{part}: {line}")
    missing = [labels(runs) for runs in todo if not all(map(workspace.done, runs))]
    orders = {"study": "By seed", GRID: "Packs, each configuration the farthest from those before"}
    title = f"{workspace.study.title}. {orders[part]}; {number} processes at once."
    return {"title": title, "finished": finished, "skipped": problems + missing}


def _bring_back(asked: argparse.Namespace) -> None:
    """Archive the records, then as many predictions as it may hold, methods' first."""
    runs = asked.work / "runs"
    records = sorted(runs.rglob(RECORD))
    predictions = sorted(runs.rglob(PREDICTIONS), key=lambda file: (GRID in file.parts, file))
    size = 0
    with tarfile.open(asked.out / "records.tar.gz", "w:gz") as archive:
        for file in [*records, *predictions]:
            size += file.stat().st_size
            if file.name == RECORD or size <= MOST_BYTES:
                archive.add(file, file.relative_to(runs))
            else:
                _say(asked, f"{file.relative_to(runs)} is too large to come back")


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "gpu"))
