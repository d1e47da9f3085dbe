"""``make gpu MINUTES=9``: everything that a GPU is asked, in order of value, within the time given.

Each part has a share of the time, writes its results as it ends, and names what it left out.
"""

import argparse
import hashlib
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import GRID, cases_of, measure, precisions
from benchmarks.contenders import missing_packages
from benchmarks.results import Beginning, Check, Measurement
from benchmarks.workers import Workers
from benchmarks.workload import SIZES, mean_tokens, model_of, random_reviews, review_lengths
from lora_replication.encoders import CONFIG, locate_encoder
from lora_replication.errors import IncompleteError, ParameterError
from lora_replication.process import run_command
from lora_replication.record import Settings
from lora_replication.study import ModelParams

PARTS = {
    "smoke": (0.35, "methods and a pack of 8: like the CPU, twice the same, killed and resumed"),
    "speed": (0.60, "this project, the article's loop, the HF Trainer; packs; matrix rate; memory"),
}
"""Shares of the time; what a part leaves is for the next."""

METHODS = ("lora_default", "full", "last_layers", GRID)
BATCH, STEPS, EPOCHS, PACK = 4, 10, 2, 8
SHORTER = 4
"""Reviews are so many times shorter than IMDb's: the CPU computes each step too."""

TOLERANCE = {"fp32": 0.001, "fp16-mixed": 0.003, "bf16-mixed": 0.005}
"""How far any epoch's mean loss, in nats, may be from the CPU's in fp32. Twenty steps move MiniLM
by 0.02 to 0.06, and bf16 on a CPU by 0.0001.
"""


def main(words: Sequence[str]) -> None:
    """Run, or print, the plan.

    Raises:
        ParameterError: for words that make no sense.
        IncompleteError: a check does not hold, or a part failed; the others were done.
    """
    asked = _read(words)
    ends = np.cumsum([60 * asked.minutes * share for share, _ in PARTS.values()])
    for (part, (share, what)), end in zip(PARTS.items(), ends, strict=True):
        print(f"{part:6} {60 * asked.minutes * share:5.0f} s, until {end:5.0f} s: {what}")
    if asked.dry_run:
        return
    began, wrong = time.monotonic(), list[str]()
    asked.out.mkdir(parents=True, exist_ok=True)
    for part, until in zip(PARTS, began + ends, strict=True):
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


def smoke(
    sizes: Sequence[str],
    kinds: Sequence[str],
    device: str,
    file: Path,
    workers: Workers,
    until: float,
) -> Iterator[Check | str]:
    """A check for each size, precision, and method or pack; the name of each that is not done.

    The first one is also killed after an epoch and resumed. ``file`` is of checkpoints, ``until``
    in monotonic seconds.
    """
    killed, expected = False, dict[tuple[str, str], list[float]]()

    def train(worker: str, *arguments: Any, resume: bool = False) -> tuple[list[float], str]:
        if not resume:
            file.unlink(missing_ok=True)
        return workers.call(worker, train_briefly, file, *arguments, until=until)

    def kill_and_resume(name: str, unbroken: object, *arguments: Any) -> Check:
        end = ""
        try:
            train("killed", *arguments, True, True)
        except IncompleteError as problem:
            end = str(problem)
        killed = end.endswith(f"-{signal.SIGKILL.value}") and file.is_file()
        same = train(device, *arguments, resume=True) == unbroken
        detail = f"{end}; {'the same' if same else 'OTHER'} bits as unbroken"
        name = f"{name}: killed after an epoch and resumed"
        return Check(name=name, passed=killed and same, detail=detail)

    for size in sizes:
        with model_of(size) as model:
            for kind, method in [(kind, method) for kind in kinds for method in METHODS]:
                (case,) = cases_of(size, model, device, kind, method, [PACK])[-1:]
                settings = _settings(case.settings)
                pack = f" in a pack of {PACK}" if method == GRID else ""
                name, began = f"{Path(size).name}, {kind}, {method}{pack}", time.monotonic()
                try:
                    if (size, method) not in expected:
                        plain = _settings(case.settings, device="cpu", precision="fp32")
                        expected[size, method] = train("cpu", model, plain, False)[0]
                    quiet, _ = train(device, model, settings, False)
                    twice = [train(device, model, settings) for _ in range(2)]
                    distance = float(np.abs(np.subtract(expected[size, method], quiet)).max())
                    allowed, same = TOLERANCE[kind], twice[0] == twice[1]
                    detail = (
                        f"losses within {distance:.4f} of the CPU's in fp32, dropout off "
                        f"(allowed {allowed}); {'the same' if same else 'OTHER'} bits twice, "
                        f"dropout on; {time.monotonic() - began:.0f} s"
                    )
                    yield Check(name=name, passed=distance <= allowed and same, detail=detail)
                    if not killed:
                        killed = True
                        yield kill_and_resume(name, twice[0], model, settings)
                except TimeoutError as problem:
                    yield f"{name}: {problem}"
                except IncompleteError as problem:
                    yield Check(name=name, passed=False, detail=str(problem))


def _settings(pack: Sequence[Settings], **changes: str) -> list[Settings]:
    update = {"epochs": EPOCHS, "batch_size": BATCH} | changes
    return [each.model_copy(update=update) for each in pack]


def train_briefly(
    file: Path,
    model: ModelParams,
    settings: Sequence[Settings],
    dropout: bool = True,
    die: bool = False,
) -> tuple[list[float], str]:
    """Every epoch's losses of twenty steps, and a digest of the trained weights and of the logits.

    Args:
        file: of the checkpoint, from which it continues.
        dropout: off where devices are compared, whose masks differ.
        die: whether the process kills itself once the first epoch is in the checkpoint.
    """
    from lora_replication.training.checkpoints import Checkpoint
    from lora_replication.training.classifier import Classifier
    from lora_replication.training.loop import train

    def after_epoch(_place: int, _epoch: object) -> None:
        if die:
            os.kill(os.getpid(), signal.SIGKILL)

    encoder, draw = locate_encoder(model), np.random.default_rng(1)
    words = json.loads((encoder.folder / CONFIG).read_text("utf-8"))["vocab_size"]
    lengths = draw.permutation(review_lengths(BATCH * STEPS) // SHORTER)
    parts = [random_reviews(each, words, draw) for each in (lengths, lengths[:16])]
    classifier = Classifier(encoder, settings[0], 1, settings[1:])
    if not dropout:
        classifier.start_epoch = lambda _epoch: None  # type: ignore[method-assign]
    checkpoint = Checkpoint(file, [each.model_dump_json() for each in settings])
    trainings = train(classifier, 1, *parts, checkpoint, after_epoch, "smoke")
    state, losses = hashlib.sha256(), list[float]()
    for place, training in enumerate(trainings):
        for each in training.epochs:
            losses += [each.train_loss or np.inf, each.val_loss or np.inf]
        for tensor in classifier.trainable(place).values():
            state.update(tensor.detach().cpu().numpy().tobytes())
        state.update(b"" if training.val_logits is None else training.val_logits.tobytes())
    return losses, state.hexdigest()


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
