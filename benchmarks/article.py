"""The article's loop, rebuilt: Lightning, every review padded to 512 tokens, batches of 12, Adam,
mixed precision.
"""

import logging
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as lightning
import torch
import torchmetrics
import transformers
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.gate import Case, Gate
from benchmarks.workload import Workload
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.record import Settings
from lora_replication.training.lora import inject_lora
from lora_replication.training.randomness import generator

PRECISION = {"bf16-mixed": "bf16-mixed", "fp16-mixed": "16-mixed", "fp32": "32-true"}
"""Lightning's names of ours."""

AGAIN = 100_000
"""How often a data set repeats its reviews: more often than any run asks for."""


class Article:
    """The article's model, trainer and data for one case."""

    def __init__(self, case: Case, workload: Workload) -> None:
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        encoder = locate_encoder(case.model)
        self.module = Module(pretrained(encoder), encoder, case.settings)
        self.loader = DataLoader(
            PaddedReviews(workload.random, case.settings.max_tokens), batch_size=workload.batch_size
        )
        self._trainer = partial(
            lightning.Trainer,
            max_epochs=case.settings.epochs,
            precision=PRECISION[case.settings.precision],
            accelerator="gpu" if case.settings.device == "cuda" else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def train(self, gate: Gate) -> None:
        """Train until the gate ends it."""
        self.module.train()  # from_pretrained gives a model in eval mode
        self._trainer(callbacks=[AtGate(gate)]).fit(self.module, self.loader)

    def evaluate(self, gate: Gate) -> None:
        """Evaluate until the gate ends it."""
        self._trainer(callbacks=[AtGate(gate)]).validate(self.module, self.loader, verbose=False)


class AtGate(lightning.Callback):
    """Takes Lightning's loops through the gate."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_train_start(self, *_: Any) -> None:
        """The first turn."""
        self._gate.wait()

    def on_validation_start(self, *_: Any) -> None:
        """The first turn."""
        self._gate.wait()

    def on_train_batch_end(self, *_: Any) -> None:
        """After the optimizer's step."""
        self._gate.batch_done()

    def on_validation_batch_end(self, *_: Any) -> None:
        """After the accuracy is counted."""
        self._gate.batch_done()


class Module(lightning.LightningModule):
    """The classifier with what trains switched on."""

    def __init__(self, model: nn.Module, encoder: Encoder, settings: Settings) -> None:
        super().__init__()
        self.model, self.learning_rate = model, settings.learning_rate
        self.accuracy = torchmetrics.Accuracy(task="multiclass", num_classes=2)
        freeze(model, encoder, settings)
        if settings.lora:
            names = lora_sites(model, encoder, settings)
            inject_lora(
                model,
                names,
                settings.lora,
                lambda name: generator(1, "A", name),
                lambda _name: nn.Identity(),
            )

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        """The loss of a batch."""
        outputs = self.model(**batch)
        self.log("train_loss", outputs["loss"])
        loss: Tensor = outputs["loss"]
        return loss

    def validation_step(self, batch: dict[str, Tensor], _index: int) -> None:
        """Count what is right."""
        outputs = self.model(**batch)
        self.accuracy(outputs["logits"].argmax(1), batch["labels"])
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on all parameters; it passes by those without a gradient."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class PaddedReviews(Dataset[dict[str, Tensor]]):
    """Reviews as tensors of ``length`` tokens each, over and over."""

    def __init__(self, tokens: Tokens, length: int) -> None:
        self.ids = torch.zeros(len(tokens), length, dtype=torch.int64)
        for row, review in enumerate(np.split(tokens.ids, tokens.starts[1:-1])):
            self.ids[row, : len(review)] = torch.from_numpy(review)
        self.mask = (torch.arange(length) < torch.from_numpy(tokens.lengths)[:, None]).long()
        self.labels = torch.from_numpy(tokens.labels)

    def __len__(self) -> int:
        """Reviews, repetitions counted."""
        return AGAIN * len(self.labels)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        """One review."""
        row = place % len(self.labels)
        return {
            "input_ids": self.ids[row],
            "attention_mask": self.mask[row],
            "labels": self.labels[row],
        }


def pretrained(encoder: Encoder) -> Any:
    """The classifier of ``transformers`` as its users load it, in fp32, with the attention that it
    takes by default.
    """
    transformers.logging.set_verbosity_error()  # of course the head is new
    transformers.logging.disable_progress_bar()
    return transformers.AutoModelForSequenceClassification.from_pretrained(
        encoder.folder, num_labels=2, dtype=torch.float32
    )


def freeze(model: nn.Module, encoder: Encoder, settings: Settings) -> None:
    """Leave trainable what the method trains, low-rank terms aside."""
    model.requires_grad_(settings.trains == "all")
    for name in (encoder.layout.head_hidden, encoder.layout.head_output):
        model.get_submodule(name).requires_grad_(settings.trains != "lora")


def lora_sites(model: nn.Module, encoder: Encoder, settings: Settings) -> list[str]:
    """The linears that get a low-rank term."""
    depth = getattr(model.config, encoder.layout.depth)
    return (
        [name for target in settings.lora.targets for name in encoder.layout.linears(target, depth)]
        if settings.lora
        else []
    )
