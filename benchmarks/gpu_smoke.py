"""Whether a GPU computes what a CPU does, twice the same, killed or not."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import GRID, cases_of
from benchmarks.results import Check
from benchmarks.workers import Workers
from benchmarks.workload import model_of, random_reviews, review_lengths
from lora_replication.encoders import CONFIG, locate_encoder
from lora_replication.errors import IncompleteError
from lora_replication.record import Settings
from lora_replication.study import ModelParams

METHODS = ("lora_default", "full", "last_layers", GRID)
BATCH, STEPS, EPOCHS, PACK = 4, 10, 2, 8
SHORTER = 4
"""Reviews are so many times shorter than IMDb's: the CPU computes each step too."""

TOLERANCE = {"fp32": 0.001, "fp16-mixed": 0.003, "bf16-mixed": 0.005}
"""How far any epoch's mean loss, in nats, may be from the CPU's in fp32. Twenty steps move MiniLM
by 0.02 to 0.06, and bf16 on a CPU by 0.0001.
"""


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
