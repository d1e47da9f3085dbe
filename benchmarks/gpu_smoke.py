"""Whether a GPU computes what a CPU does, twice the same, killed or not, by each of its paths."""

import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import GRID, cases_of, cuda_paths
from benchmarks.results import Check
from benchmarks.workers import Workers
from benchmarks.workload import model_of, random_reviews, review_lengths
from lora_replication.encoders import CONFIG, locate_encoder
from lora_replication.errors import IncompleteError
from lora_replication.record import Settings
from lora_replication.study import PLAIN, CudaParams, ModelParams

METHODS = ("lora_default", "full", "last_layers", GRID)
ON_PATHS = ("full", GRID)
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

    At the first size and precision each of CUDA's own paths follows, which is compared to the plain
    one. Of both the first check is also killed after an epoch and resumed. ``file`` is of
    checkpoints, ``until`` in monotonic seconds.
    """
    trials, paths = Trials(device, file, workers, until), cuda_paths(device)
    to_kill = [PLAIN, paths[0]]
    for size in sizes:
        jobs = [(kind, method, PLAIN) for kind in kinds for method in METHODS]
        if size == sizes[0]:
            also = [(kinds[0], method, path) for path in paths for method in ON_PATHS]
            jobs[len(METHODS) : len(METHODS)] = also
        with model_of(size) as model:
            for kind, method, path in jobs:
                (case,) = cases_of(size, model, device, kind, method, [PACK])[-1:]
                pack = f" in a pack of {PACK}" if method == GRID else ""
                name = ", ".join([Path(size).name, kind, f"{method}{pack}", *path.on])
                trial = model, _settings(case.settings), path
                try:
                    check, unbroken = trials.compare(name, *trial)
                    yield check
                    if path in to_kill:
                        to_kill.remove(path)
                        yield trials.kill_and_resume(name, unbroken, *trial)
                except TimeoutError as problem:
                    yield f"{name}: {problem}"
                except IncompleteError as problem:
                    yield Check(name=name, passed=False, detail=str(problem))


class Trials:
    """Trains briefly, in processes by name. Arguments as of ``smoke``."""

    def __init__(self, device: str, file: Path, workers: Workers, until: float) -> None:
        self._device, self._file, self._workers, self._until = device, file, workers, until
        self._known: dict[str, list[float]] = {}

    def _train(self, worker: str, *arguments: Any, resume: bool = False) -> tuple[list[float], str]:
        if not resume:
            self._file.unlink(missing_ok=True)
        words = train_briefly, self._file, *arguments
        outcome: tuple[list[float], str] = self._workers.call(worker, *words, until=self._until)
        return outcome

    def _quiet(self, worker: str, *trial: Any) -> list[float]:
        """Losses without dropout, from the first time that they were asked for."""
        if (name := repr((worker, *trial))) not in self._known:
            self._known[name] = self._train(worker, *trial, False)[0]
        return self._known[name]

    def compare(
        self, name: str, model: ModelParams, settings: Sequence[Settings], path: CudaParams
    ) -> tuple[Check, object]:
        """A path next to the plain one, or that next to the CPU; a pack next to its first alone;
        and the outcome, which must come twice.
        """
        began, allowed = time.monotonic(), TOLERANCE[settings[0].precision]
        if path.on:
            other, near = "the plain path", self._quiet(self._device, model, settings, PLAIN)
        else:
            on_cpu = _settings(settings, device="cpu", precision="fp32")
            other, near = "the CPU in fp32", self._quiet("cpu", model, on_cpu, PLAIN)
        distance = _distance(near, self._quiet(self._device, model, settings, path))
        twice = [self._train(self._device, model, settings, path) for _ in range(2)]
        same, passed, also = twice[0] == twice[1], distance <= allowed, ""
        if settings[1:]:  # its masks are those of each alone
            alone, _ = self._train(self._device, model, settings[:1], path)
            apart = _distance(alone, twice[0][0][: len(alone)])
            passed, also = passed and apart <= allowed, f", within {apart:.4f} of one alone"
        detail = (
            f"losses within {distance:.4f} of {other}, dropout off (allowed {allowed}); "
            f"{'the same' if same else 'OTHER'} bits twice{also}, dropout on; "
            f"{time.monotonic() - began:.0f} s"
        )
        return Check(name=name, passed=passed and same, detail=detail), twice[0]

    def kill_and_resume(self, name: str, unbroken: object, *trial: Any) -> Check:
        """Whether what is killed after an epoch and resumed has the ``unbroken`` outcome."""
        end = ""
        try:
            self._train("killed", *trial, True, True)
        except IncompleteError as problem:
            end = str(problem)
        killed = end.endswith(f"-{signal.SIGKILL.value}") and self._file.is_file()
        same = self._train(self._device, *trial, resume=True) == unbroken
        detail = f"{end}; {'the same' if same else 'OTHER'} bits as unbroken"
        name = f"{name}: killed after an epoch and resumed"
        return Check(name=name, passed=killed and same, detail=detail)


def _distance(one: Sequence[float], other: Sequence[float]) -> float:
    return float(np.abs(np.subtract(one, other)).max())


def _settings(pack: Sequence[Settings], **changes: str) -> list[Settings]:
    update = {"epochs": EPOCHS, "batch_size": BATCH} | changes
    return [each.model_copy(update=update) for each in pack]


def train_briefly(
    file: Path,
    model: ModelParams,
    settings: Sequence[Settings],
    path: CudaParams,
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
    classifier = Classifier(encoder, settings[0], 1, settings[1:], cuda=path)
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
