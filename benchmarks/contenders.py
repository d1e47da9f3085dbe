"""The contenders as the benchmark drives them: this project's own loop, and turns on a clock."""

import itertools
import os
import time
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks.results import Phase
from benchmarks.workload import BATCH_SIZE, batch_rows, make_workload, mean_tokens
from lora_replication import machine
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import locate_encoder
from lora_replication.process import set_up_libraries
from lora_replication.record import Settings
from lora_replication.study import PLAIN, CudaParams, ModelParams

CONTENDERS = {
    "article": ("benchmarks.article", "Article", ("torchmetrics",)),
    "peft": ("benchmarks.peft_trainer", "HFTrainer", ("peft", "accelerate")),
    "ours": ("benchmarks.contenders", "Ours", ()),
}
"""Module, class and needed packages of each, in the order of turns.

A class takes a ``Case``; its ``train`` and ``evaluate`` take a ``Clock``, start it, and run for its
``total`` of batches.
"""


@dataclass(frozen=True)
class Case:
    """One contender on one method at one size.

    Attributes:
        settings: the method, precision and device; more than one for a pack.
        vocabulary: how many tokens the encoder knows.
        batches: of a turn, training or evaluating.
        cuda: paths of CUDA's own, for this project.
    """

    contender: str
    size: str
    method: str
    model: ModelParams
    settings: tuple[Settings, ...]
    vocabulary: int
    batches: int
    cuda: CudaParams = PLAIN

    @property
    def reviews(self) -> Tokens:
        """What a turn is about: batches of similar length for the HF Trainer, else random ones."""
        return make_workload(self.batches, self.vocabulary)[self.contender == "peft"]

    @property
    def cost(self) -> float:
        """Reviews of IMDb's mean length that cost as much as a turn: padding makes all cost the
        same, else cost follows tokens.
        """
        if self.contender == "article":
            return float(self.batches * BATCH_SIZE)
        return len(self.reviews.ids) / mean_tokens()


class Clock:
    """Times ``batches`` batches that follow ``untimed`` ones; a contender counts them.

    From the word to go until the device has finished the last of them, with all that a loop does
    between two batches.
    """

    def __init__(self, batches: int, untimed: int, device: str) -> None:
        self.untimed, self.total, self._device = untimed, untimed + batches, device
        self._done, self._times = 0, list[float]()

    def batch_done(self, batches: int = 1) -> None:
        """So many more are done; 0 as the loop is about to take its first."""
        self._done += batches
        if self._done in (self.untimed, self.total):
            finish(self._device)
            self._times.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Of the timed batches."""
        return self._times[-1] - self._times[0]


def finish(device: str) -> None:
    """Wait until the device has done all that it was given."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class Ours:
    """Training and evaluation of this project."""

    def __init__(self, case: Case) -> None:
        from lora_replication.training.classifier import Classifier
        from lora_replication.training.loop import compute_reproducibly, new_state

        compute_reproducibly()
        self.reviews = case.reviews
        first, *others = case.settings
        encoder = locate_encoder(case.model)
        self.classifier = Classifier(encoder, first, 1, others, cuda=case.cuda)
        self.states = [new_state(self.classifier, place) for place in range(len(case.settings))]

    def train(self, clock: Clock) -> None:
        """As ``lora_replication.training.loop`` does."""
        from lora_replication.training.loop import train_step

        self.classifier.start_epoch(1)
        if self.classifier.replays and clock.untimed:  # until each size of batch is captured
            for own in 2 * batch_rows(self.reviews):
                train_step(self.classifier, self.states, self.reviews, own)
        rows = itertools.cycle(batch_rows(self.reviews))
        clock.batch_done(0)
        for own in itertools.islice(rows, clock.total):
            train_step(self.classifier, self.states, self.reviews, own)
            clock.batch_done()

    def evaluate(self, clock: Clock) -> None:
        """All reviews of a turn at once."""
        from lora_replication.training.evaluation import predict_logits

        clock.batch_done(0)
        for batches in filter(None, (clock.untimed, clock.total - clock.untimed)):
            predict_logits(self.classifier, self.reviews)
            clock.batch_done(batches)


def missing_packages(contender: str) -> list[str]:
    """What must be installed for ``contender`` and is not."""
    missing = [name for name in CONTENDERS[contender][2] if find_spec(name) is None]
    lightning = contender != "article" or find_spec("lightning") or find_spec("pytorch_lightning")
    return missing if lightning else ["lightning", *missing]


def make_contender(case: Case) -> Any:
    """The contender of ``case``; only its own libraries are imported."""
    module, name, _ = CONTENDERS[case.contender]
    return getattr(import_module(module), name)(case)


_built: list[tuple[Case, Any, set[Phase]]] = []
"""Of this process: its latest case, the contender, and the phases in which it is warm."""


def take_turn(case: Case, phase: Phase) -> tuple[float, int]:
    """Seconds of a turn, after an untimed batch in the first one, and the process's peak memory."""
    device = case.settings[0].device
    if not _built or _built[0][0] != case:
        set_up_libraries()
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the HF Trainer would take all
        _built.clear()
        machine.reset_peak_memory(device)
        _built.append((case, make_contender(case), set()))
    _, contender, warm = _built[0]
    clock = Clock(case.batches, 0 if phase in warm else 1, device)
    warm.add(phase)
    (contender.train if phase == "training" else contender.evaluate)(clock)
    return clock.seconds, machine.peak_memory_bytes(device)
