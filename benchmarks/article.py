"""The article's loop, rebuilt: Lightning, every review padded to 512 tokens, batches of 12, Adam,
mixed precision.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import torch
import torchmetrics
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.contenders import Case, Clock
from benchmarks.workload import BATCH_SIZE
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.record import Settings
from lora_replication.training.lora import inject_lora
from lora_replication.training.randomness import generator

try:
    import lightning.pytorch as lightning
except ImportError:
    import pytorch_lightning as lightning

PRECISION = {"bf16-mixed": "bf16-mixed", "fp16-mixed": "16-mixed", "fp32": "32-true"}
"""Lightning's names of ours."""


class Article:
    """The article's model, trainer and data for one case."""

    def __init__(self, case: Case) -> None:
        for name in ("pytorch_lightning", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        (settings,) = case.settings
        encoder = locate_encoder(case.model)
        self.module = Module(pretrained(encoder), encoder, settings)
        self._reviews = padded(case.workload.random, settings.max_tokens)
        self._trainer = partial(
            lightning.Trainer,
            precision=PRECISION[settings.precision],
            accelerator="gpu" if settings.device == "cuda" else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def _loader(self, clock: Clock) -> DataLoader[Any]:
        rows = [row % len(self._reviews) for row in range(clock.total * BATCH_SIZE)]
        return DataLoader(torch.utils.data.Subset(self._reviews, rows), batch_size=BATCH_SIZE)

    def train(self, clock: Clock) -> None:
        """For the clock's batches."""
        self.module.train()  # from_pretrained returns a model in eval mode
        trainer = self._trainer(max_epochs=1, callbacks=[Ticks(clock)])
        trainer.fit(self.module, self._loader(clock))

    def evaluate(self, clock: Clock) -> None:
        """For the clock's batches."""
        trainer = self._trainer(callbacks=[Ticks(clock)])
        trainer.validate(self.module, self._loader(clock), verbose=False)


class Ticks(lightning.Callback):
    """Has a clock count the batches of Lightning's loops."""

    def __init__(self, clock: Clock) -> None:
        self.on_train_start = self.on_validation_start = lambda *_: clock.batch_done(0)
        self.on_train_batch_end = self.on_validation_batch_end = lambda *_: clock.batch_done()


class Module(lightning.LightningModule):
    """The classifier with what trains switched on."""

    def __init__(self, model: nn.Module, encoder: Encoder, settings: Settings) -> None:
        super().__init__()
        self.model, self.learning_rate = model, settings.learning_rate
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)
        freeze(model, encoder, settings)
        if settings.lora:
            inject_lora(
                model,
                lora_sites(model, encoder, settings),
                settings.lora,
                lambda name: generator(1, "A", name),
                lambda _name: nn.Identity(),
            )

    def _outputs(self, batch: list[Tensor]) -> Any:
        ids, mask, labels = batch
        return self.model(input_ids=ids, attention_mask=mask, labels=labels)

    def training_step(self, batch: list[Tensor], _index: int) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self._outputs(batch)["loss"]
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: list[Tensor], _index: int) -> None:
        """Count the correct predictions."""
        self.accuracy(self._outputs(batch)["logits"].argmax(1), batch[2])
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on all parameters; it passes by those without a gradient."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def padded(tokens: Tokens, length: int) -> TensorDataset:
    """Ids (reviews, length), mask, and labels."""
    ids = torch.zeros(len(tokens), length, dtype=torch.int64)
    for row, review in enumerate(np.split(tokens.ids, tokens.starts[1:-1])):
        ids[row, : len(review)] = torch.from_numpy(review)
    mask = (torch.arange(length) < torch.from_numpy(tokens.lengths)[:, None]).long()
    return TensorDataset(ids, mask, torch.from_numpy(tokens.labels))


def pretrained(encoder: Encoder) -> Any:
    """The classifier of ``transformers`` as its users load it, in fp32, with the attention that it
    takes by default.
    """
    transformers.logging.set_verbosity_error()  # of course the head is new
    transformers.logging.disable_progress_bar()
    kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(encoder.folder, num_labels=2, dtype=torch.float32)


def freeze(model: nn.Module, encoder: Encoder, settings: Settings) -> None:
    """Leave trainable what the method trains, low-rank terms aside."""
    model.requires_grad_(settings.trains == "all")
    for name in (encoder.layout.head_hidden, encoder.layout.head_output):
        model.get_submodule(name).requires_grad_(settings.trains != "lora")


def lora_sites(model: nn.Module, encoder: Encoder, settings: Settings) -> list[str]:
    """The linears that get a low-rank term."""
    depth = getattr(model.config, encoder.layout.depth)
    targets = settings.lora.targets if settings.lora else ()
    return [name for target in targets for name in encoder.layout.linears(target, depth)]
