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

from benchmarks.bench import METHODS, method_cases, pack_cases
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

TOLERANCE = {"fp32": 0.002, "fp16-mixed": 0.01, "bf16-mixed": 0.03}
"""How far any epoch's mean loss, in nats, may be from the CPU's in fp32. Losses are near 0.7;
products are rounded to 24, 11 and 8 bits.
"""


def smoke(
    sizes: Sequence[str],
    precisions: Sequence[str],
    device: str,
    folder: Path,
    log: Path,
    until: float,
) -> Iterator[Check | str]:
    """A check for each size, precision, and method or pack; the name of each that is not done."""
    killed = False
    with Workers(log) as workers:
        for size in sizes:
            with model_of(size) as model:
                quiet = without_dropout(model, folder / f"quiet-{Path(size).name}")
                for precision in precisions:
                    for subject in ("lora_default", "full", "last_layers", f"pack of {PACK}"):
                        name = f"{Path(size).name}, {precision}, {subject}"
                        settings = _settings(size, model, device, precision, subject)
                        check = Trial(name, model, quiet, settings, folder, workers, until)
                        try:
                            yield check.compare()
                            if not killed:
                                killed = True
                                yield check.kill_and_resume()
                        except TimeoutError as problem:
                            yield f"{name}: {problem}"
                        except IncompleteError as problem:
                            yield Check(name=name, passed=False, detail=str(problem))


def _settings(
    size: str, model: ModelParams, device: str, precision: str, subject: str
) -> tuple[Settings, ...]:
    if subject in METHODS:
        cases = method_cases(size, model, device, precision, subject)
    else:
        cases = pack_cases(size, model, device, precision, [PACK])
    update = {"epochs": EPOCHS, "batch_size": BATCH}
    return tuple(settings.model_copy(update=update) for settings in cases[-1].settings)


class Trial:
    """One method or pack: twenty steps on the CPU without dropout, and here without and with."""

    def __init__(
        self,
        name: str,
        model: ModelParams,
        quiet: ModelParams,
        settings: tuple[Settings, ...],
        folder: Path,
        workers: Workers,
        until: float,
    ) -> None:
        self.name, self.model, self.quiet, self.settings = name, model, quiet, settings
        self._file, self._workers, self._until = folder / "smoke.safetensors", workers, until

    def _train(self, model: ModelParams, **changes: str) -> tuple[list[float], str]:
        self._file.unlink(missing_ok=True)
        settings = tuple(each.model_copy(update=changes) for each in self.settings)
        worker = settings[0].device
        return self._workers.call(
            worker, train_briefly, model, settings, self._file, until=self._until
        )

    def compare(self) -> Check:
        """Losses near the CPU's, and the same bits twice with dropout on."""
        began, precision = time.monotonic(), self.settings[0].precision
        expected, _ = self._train(self.quiet, device="cpu", precision="fp32")
        found, _ = self._train(self.quiet)
        first, again = (self._train(self.model) for _ in range(2))
        distance = float(np.abs(np.subtract(expected, found)).max())
        same, allowed = first == again, TOLERANCE[precision]
        return Check(
            name=self.name,
            passed=distance <= allowed and same,
            detail=f"losses within {distance:.4f} of the CPU's in fp32, dropout off (allowed "
            f"{allowed}); {'the same' if same else 'OTHER'} bits twice, dropout on; "
            f"{time.monotonic() - began:.0f} s",
        )

    def kill_and_resume(self) -> Check:
        """SIGKILL after the first epoch, then the rest from its checkpoint: the unbroken bits."""
        unbroken = self._train(self.model)
        self._file.unlink(missing_ok=True)
        words = (train_briefly, self.model, self.settings, self._file)
        try:
            self._workers.call("killed", *words, True, until=self._until)
        except IncompleteError as problem:
            end = str(problem)
        resumed = self._workers.call(self.settings[0].device, *words, until=self._until)
        killed = end.endswith(f"{-signal.SIGKILL.value}") and self._file.is_file()
        detail = f"{end}; {'the same' if resumed == unbroken else 'OTHER'} bits as unbroken"
        name = f"{self.name}: killed after an epoch and resumed"
        return Check(name=name, passed=killed and resumed == unbroken, detail=detail)


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
    reviews, held_out = (random_reviews(each, words, draw) for each in (lengths, lengths[:16]))
    classifier = Classifier(encoder, settings[0], 1, settings[1:])
    keys = [each.model_dump_json() for each in settings]
    checkpoint = Checkpoint(file, keys)
    trainings = train(classifier, 1, reviews, held_out, checkpoint, after_epoch, "smoke")
    state = hashlib.sha256()
    losses: list[float] = []
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
    config = json.loads((encoder.folder / CONFIG).read_text("utf-8"))
    layout = encoder.layout
    names = (layout.hidden_dropout, layout.attention_dropout, layout.head_dropout)
    (folder / CONFIG).write_text(json.dumps(config | dict.fromkeys(names, 0.0)), "utf-8")
    for name in (WEIGHTS, VOCABULARY):
        shutil.copyfile(encoder.folder / name, folder / name)
    return ModelParams(encoder="folder", path=str(folder), max_tokens=model.max_tokens)
