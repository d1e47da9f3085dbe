"""``make gpu MINUTES=9``: everything that a GPU is asked, in order of value, within the time given.

Each part has a share of the time, writes its results as it ends, and names what it left out.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.bench import GRID, cases_of, measure, precisions
from benchmarks.contenders import missing_packages
from benchmarks.gpu_smoke import smoke
from benchmarks.results import Beginning, Check, Measurement
from benchmarks.workers import Workers
from benchmarks.workload import SIZES, mean_tokens, model_of
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.process import run_command

PARTS = {
    "smoke": (0.35, "methods and a pack of 8: like the CPU, twice the same, killed and resumed"),
    "speed": (0.60, "this project, the article's loop, the HF Trainer; packs; matrix rate; memory"),
}
"""Shares of the time; what a part leaves is for the next."""


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
    for part, until in zip(PARTS, _ends(began, asked.minutes), strict=True):
        begun = Beginning(asked.device, shlex.join(["python", "-m", "benchmarks.gpu", *words]))
        _say(asked, f"{part}: {max(0.0, until - time.monotonic()):.0f} s left for it")
        try:
            content = (_smoke if part == "smoke" else _speed)(asked, until)
        except Exception as problem:  # a part that fails must not cost the other
            content = {"skipped": [f"{part}: {type(problem).__name__}: {problem}"]}
            wrong += content["skipped"]
        results = begun.results(part, **content)
        results.write(asked.out / f"{part}.json")
        wrong += [f"{each.name}: {each.detail}" for each in results.checks if not each.passed]
        for line in results.skipped:
            _say(asked, f"{part}: not done: {line}")
    _say(asked, f"{time.monotonic() - began:.0f} s in all; the results are in {asked.out}")
    if wrong:
        raise IncompleteError("; ".join(wrong))


def _read(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--minutes", type=float, default=9.0, help="for everything")
    add("--out", type=Path, default=Path("build/gpu"), help="of the results")
    add("--device", choices=["cuda", "cpu"], default="cuda", help=" ")
    add("--tiny", type=Path, help="an encoder's folder, for a few turns with it alone")
    add("--dry-run", action="store_true", help="print the plan")
    asked = parser.parse_args(words)
    if asked.minutes <= 0:
        raise ParameterError(f"--minutes {asked.minutes}; allowed: above 0")
    asked.sizes = [str(asked.tiny)] if asked.tiny else SIZES[::-1]
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


def _workers(asked: argparse.Namespace) -> Workers:
    return Workers(asked.out / "log.txt", forked=bool(asked.tiny))


def _smoke(asked: argparse.Namespace, until: float) -> dict[str, Any]:
    kinds = ("fp16-mixed", "bf16-mixed") if asked.device == "cuda" else ("fp32",)
    checks, skipped = list[Check](), list[str]()
    file = asked.out / "smoke.safetensors"
    with _workers(asked) as workers:
        for found in smoke(asked.sizes, kinds, asked.device, file, workers, until):
            if isinstance(found, str):
                skipped.append(found)
            else:
                checks.append(found)
                word = "ok" if found.passed else "WRONG"
                _say(asked, f"smoke: {word}: {found.name}: {found.detail}")
    file.unlink(missing_ok=True)
    return {"checks": checks, "skipped": skipped}


def _speed(asked: argparse.Namespace, until: float) -> dict[str, Any]:
    """Methods and packs at each size, those first that tell most."""
    packs, kind = (2,) if asked.tiny else (1, 8, 16, 32, 64), precisions(asked.device)[0]
    methods = ("lora_default", GRID, *([] if asked.tiny else ["full", "last_layers"]))
    measurements, skipped = list[Measurement](), list[str]()
    with _workers(asked) as workers:
        for method, size in [(method, size) for method in methods for size in asked.sizes]:
            with model_of(size) as model:
                cases = cases_of(size, model, asked.device, kind, method, packs)
                lacking = {case.contender: missing_packages(case.contender) for case in cases}
                for name, missing in lacking.items():
                    if missing:
                        skipped.append(f"{size}, {method}, {name}: needs {', '.join(missing)}")
                cases = [case for case in cases if not lacking[case.contender]]
                # Packs one by one, so that one that memory does not hold costs no other.
                for own in [[case] for case in cases] if method == GRID else [cases]:
                    name = f"{Path(size).name}, {method}, packs of {len(own[0].settings)}"
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


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "gpu"))
