"""Whether a GPU computes what a CPU does, twice the same, killed or not."""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.bench import GRID, cases_of
from benchmarks.results import Check
from benchmarks.workers import Workers
from benchmarks.workload import model_of, random_reviews, review_lengths
from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS, locate_encoder
from lora_replication.errors import IncompleteError
from lora_replication.record import Settings
from lora_replication.study import ModelParams

BATCH, STEPS, EPOCHS, PACK = 4, 10, 2, 8
SHORTER = 4
"""Reviews are so many times shorter than IMDb's: the CPU computes each step too."""

TOLERANCE = {"fp32": 0.001, "fp16-mixed": 0.003, "bf16-mixed": 0.005}
"""How far any epoch's mean loss, in nats, may be from the CPU's in fp32. Twenty steps move MiniLM
by 0.02 to 0.06, and bf16 on a CPU by 0.0001.
"""


def smoke(
    sizes: Sequence[str], kinds: Sequence[str], device: str, folder: Path, log: Path, until: float
) -> Iterator[Check | str]:
    """A check for each size, precision, and method or pack; the name of each that is not done.

    The first one is also killed after an epoch and resumed.

    Args:
        folder: of checkpoints and encoders; ``log`` takes what processes print.
        until: monotonic seconds.
    """
    killed, expected = False, dict[tuple[str, str], list[float]]()
    with Workers(log) as workers:
        for size in sizes:
            with model_of(size) as model:
                quiet = without_dropout(model, folder / f"quiet-{Path(size).name}")
                for kind in kinds:
                    for method in ("lora_default", "full", "last_layers", GRID):
                        (case,) = cases_of(size, model, device, kind, method, [PACK])[-1:]
                        update = {"epochs": EPOCHS, "batch_size": BATCH}
                        settings = [each.model_copy(update=update) for each in case.settings]
                        pack = f" in a pack of {PACK}" if method == GRID else ""
                        name = f"{Path(size).name}, {kind}, {method}{pack}"
                        trial = Trial(model, quiet, settings, folder / "state", workers, until)
                        try:
                            if (size, method) not in expected:
                                expected[size, method] = trial.losses_on_cpu()
                            yield trial.compare(name, expected[size, method])
                            if not killed:
                                killed = True
                                yield trial.kill_and_resume(name)
                        except TimeoutError as problem:
                            yield f"{name}: {problem}"
                        except IncompleteError as problem:
                            yield Check(name=name, passed=False, detail=str(problem))


class Trial:
    """Twenty steps of one method or pack: ``model`` with dropout, and ``quiet`` without."""

    def __init__(
        self,
        model: ModelParams,
        quiet: ModelParams,
        settings: Sequence[Settings],
        file: Path,
        workers: Workers,
        until: float,
    ) -> None:
        self.model, self.quiet, self.settings = model, quiet, settings
        self._file, self._workers, self._until = file, workers, until

    def _train(self, model: ModelParams, **changes: str) -> tuple[list[float], str]:
        self._file.unlink(missing_ok=True)
        settings = [each.model_copy(update=changes) for each in self.settings]
        words = (settings[0].device, train_briefly, model, settings, self._file)
        return self._workers.call(*words, until=self._until)

    def losses_on_cpu(self) -> list[float]:
        """In fp32, without dropout."""
        return self._train(self.quiet, device="cpu", precision="fp32")[0]

    def compare(self, name: str, expected: list[float]) -> Check:
        """Losses near ``expected``, and the same bits twice with dropout on."""
        began, allowed = time.monotonic(), TOLERANCE[self.settings[0].precision]
        found, _ = self._train(self.quiet)
        distance = float(np.abs(np.subtract(expected, found)).max())
        same = self._train(self.model) == self._train(self.model)
        detail = (
            f"losses within {distance:.4f} of the CPU's in fp32, dropout off (allowed {allowed}); "
            f"{'the same' if same else 'OTHER'} bits twice, dropout on; "
            f"{time.monotonic() - began:.0f} s"
        )
        return Check(name=name, passed=distance <= allowed and same, detail=detail)

    def kill_and_resume(self, name: str) -> Check:
        """SIGKILL after the first epoch, then the rest from its checkpoint: the unbroken bits."""
        unbroken, end = self._train(self.model), ""
        self._file.unlink()
        words = (train_briefly, self.model, self.settings, self._file)
        try:
            self._workers.call("killed", *words, True, until=self._until)
        except IncompleteError as problem:
            end = str(problem)
        killed = end.endswith(f"-{signal.SIGKILL.value}") and self._file.is_file()
        same = self._workers.call(self.settings[0].device, *words, until=self._until) == unbroken
        detail = f"{end}; {'the same' if same else 'OTHER'} bits as unbroken"
        name = f"{name}: killed after an epoch and resumed"
        return Check(name=name, passed=killed and same, detail=detail)


def train_briefly(
    model: ModelParams, settings: Sequence[Settings], file: Path, die: bool = False
) -> tuple[list[float], str]:
    """Every epoch's losses of twenty steps, and a digest of the trained weights and of the logits.

    Args:
        file: of the checkpoint, from which it continues.
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


def without_dropout(model: ModelParams, folder: Path) -> ModelParams:
    """``model`` copied into ``folder`` with every dropout at 0: masks differ between devices."""
    encoder = locate_encoder(model)
    folder.mkdir(parents=True, exist_ok=True)
    layout, config = encoder.layout, json.loads((encoder.folder / CONFIG).read_text("utf-8"))
    names = (layout.hidden_dropout, layout.attention_dropout, layout.head_dropout)
    (folder / CONFIG).write_text(json.dumps(config | dict.fromkeys(names, 0.0)), "utf-8")
    for name in (WEIGHTS, VOCABULARY):
        shutil.copyfile(encoder.folder / name, folder / name)
    return ModelParams(encoder="folder", path=str(folder), max_tokens=model.max_tokens)
