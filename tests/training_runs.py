"""What the tests of training share: tiny runs of one configuration or a pack, and their weights."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.data.reviews import PARTS
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.record import Epoch, Record, Settings
from lora_replication.study import PLAIN, CudaParams, ModelParams
from lora_replication.training.checkpoints import Checkpoint, Training
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import read_encoder
from lora_replication.training.loop import train
from tests.tiny_encoders import Kind, tiny_model

CPU = torch.device("cpu")
KINDS: tuple[Kind, ...] = ("distilbert", "bert")
TIMES = {"training_seconds", "evaluation_seconds", "tokens_per_second", "peak_memory_bytes"}
Weights = dict[str, torch.Tensor]


class PowerCutError(Exception):
    """Ends a run where a test wants it."""


@cache
def encoder_of(kind: Kind = "distilbert") -> Encoder:
    return locate_encoder(ModelParams(**tiny_model(kind)))


def their_classifier(encoder: Encoder, classes: int = 2) -> torch.nn.Module:
    """The classifier of ``transformers`` with the weights of ``encoder``."""
    import transformers  # most tests need none of it

    kind = getattr(transformers, encoder.layout.classifier)
    model = kind(kind.config_class(**encoder.config, num_labels=classes)).to(torch.float32)
    head = encoder.layout.head
    named = {name: t for name, t in read_encoder(encoder).items() if not name.startswith(head)}
    missing, unknown = model.load_state_dict(named, strict=False)
    assert (all(name.startswith(head) for name in missing), unknown) == (True, [])
    return model


def prepared_tokens(root: Path) -> dict[str, Tokens]:
    """Of each part of the study in ``root``."""
    folder = root / "data" / "tiny"
    return {part: read_tokens(folder, part, read_manifest(folder)) for part in PARTS}


def random_tokens(lengths: Sequence[int], seed: int = 1) -> Tokens:
    """Reviews of random ids and labels."""
    draw = np.random.default_rng(seed)
    ids = draw.integers(5, 60, sum(lengths)).astype(np.int32)
    return Tokens(ids, np.cumsum([0, *lengths]), draw.integers(0, 2, len(lengths)))


def fill_b(classifier: Classifier, sd: float) -> None:
    """Draw every B, which starts at zero."""
    for model in classifier.models:
        for name, parameter in model.named_parameters():
            if name.endswith(".B"):
                drawn = torch.Generator().manual_seed(len(name))
                torch.nn.init.normal_(parameter, std=sd, generator=drawn)


def run_training(
    tokens: dict[str, Tokens],
    pack: Sequence[Settings],
    checkpoint: Path,
    seed: int = 1,
    encoder: Encoder | None = None,
    double: bool = False,
    cut_after: int | None = None,
    on_epoch: Callable[[int, Epoch], None] = lambda _index, _epoch: None,
    cuda: CudaParams = PLAIN,
) -> tuple[Classifier, list[Training]]:
    """Train a pack, in float64 if ``double``, until ``PowerCutError`` after an epoch if asked."""
    classifier = Classifier(encoder or encoder_of(), pack[0], seed, pack[1:], cuda=cuda)
    if double:
        for model in classifier.models:
            model.double()

    def ended(index: int, epoch: Epoch) -> None:
        on_epoch(index, epoch)
        if epoch.epoch == cut_after:
            raise PowerCutError

    state = Checkpoint(checkpoint, [str(settings) for settings in pack])
    train_tokens, val_tokens = tokens["train"], tokens["val"]
    return classifier, train(classifier, seed, train_tokens, val_tokens, state, ended, "test")


def weights_of(classifier: Classifier, index: int = 0) -> Weights:
    """What trains of a configuration, copied."""
    return {name: p.detach().clone() for name, p in classifier.trainable(index).items()}


def close(one: Weights, other: Weights, tolerance: float) -> bool:
    assert one.keys() == other.keys()
    return all(torch.allclose(one[name], other[name], rtol=0, atol=tolerance) for name in one)


def epochs_of(training: Training) -> list[dict[str, object]]:
    """Its epochs without times."""
    return [epoch.model_dump(exclude={"seconds"}) for epoch in training.epochs]


def without_times(record: Record) -> dict[str, Any]:
    """The content of a record that is the same for equal runs."""
    plain = record.model_dump(exclude={"where": {"started", "finished", "load"}, "happened": TIMES})
    for epoch in plain["happened"]["epochs"]:
        del epoch["seconds"]
    return plain


def spoil_outputs(monkeypatch: Any, step: int, factor: float, indices: Any = (0,)) -> None:
    """Multiply the logits of some configurations in one training step, counted from 1."""
    original, steps = Classifier.parts, []

    def spoiled(self: Classifier, batch: object) -> object:
        steps.extend([1] * torch.is_grad_enabled())
        factors = torch.ones(len(self.active), 1, 1)
        factors[list(indices)] = factor
        for logits in original(self, batch):
            own, factors = factors[: len(logits)], factors[len(logits) :]
            yield logits * own if torch.is_grad_enabled() and len(steps) == step else logits

    monkeypatch.setattr(Classifier, "parts", spoiled)
