"""The article's loop, rebuilt: Lightning, every review padded to 512 tokens, batches of 12, Adam,
mixed precision.
"""

import logging
from functools import partial
from typing import Any

import torch
import torchmetrics
import transformers
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.utils.data import DataLoader

from benchmarks.contenders import Case, Clock
from benchmarks.workload import BATCH_SIZE, reviews_in
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.record import Settings
from lora_replication.training.classifier import make_trainable

try:
    import lightning.pytorch as lightning
except ImportError:
    import pytorch_lightning as lightning

PRECISION = {"bf16-mixed": "bf16-mixed", "fp16-mixed": "16-mixed", "fp32": "32-true"}
"""Lightning's names of ours."""

Batch = dict[str, Tensor]


class Article:
    """The article's model, trainer and data for one case."""

    def __init__(self, case: Case) -> None:
        for name in ("pytorch_lightning", "lightning.pytorch"):
            logging.getLogger(name).setLevel(logging.ERROR)
        (settings,), encoder = case.settings, locate_encoder(case.model)
        self.module = Module(pretrained(encoder), encoder, settings)
        self._reviews = [
            {name: _padded(value, settings.max_tokens) for name, value in review.items()}
            for review in reviews_in(case.reviews)
        ]
        self._trainer = partial(
            lightning.Trainer,
            max_epochs=1,
            precision=PRECISION[settings.precision],
            accelerator="gpu" if settings.device == "cuda" else "cpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def _loader(self, clock: Clock) -> DataLoader[Any]:
        count = clock.total * BATCH_SIZE
        return DataLoader((self._reviews * count)[:count], batch_size=BATCH_SIZE)

    def train(self, clock: Clock) -> None:
        """For the clock's batches."""
        self.module.train()  # from_pretrained returns a model in eval mode
        self._trainer(callbacks=[Ticks(clock)]).fit(self.module, self._loader(clock))

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
        make_trainable(model, encoder.layout, settings, 1, lambda _dropout: None)

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The loss of a batch."""
        loss: Tensor = self.model(**batch)["loss"]
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Count the correct predictions."""
        self.accuracy(self.model(**batch)["logits"].argmax(1), batch["labels"])
        self.log("val_acc", self.accuracy)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam on all parameters; it passes by those without a gradient."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


def _padded(value: Any, length: int) -> Tensor:
    tensor = torch.tensor(value)
    return pad(tensor, (0, length - len(tensor))) if tensor.dim() else tensor


def pretrained(encoder: Encoder) -> Any:
    """The classifier of ``transformers`` as its users load it, in fp32, with the attention that it
    takes by default.
    """
    transformers.logging.set_verbosity_error()  # of course the head is new
    transformers.logging.disable_progress_bar()
    kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(encoder.folder, num_labels=2, dtype=torch.float32)
