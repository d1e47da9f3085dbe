"""The article's published numbers, each with where it says so.

Sebastian Raschka, "Code LoRA from Scratch", Lightning AI Studio, December 2023: DistilBERT on the
whole of IMDb, one unseeded run per method, best of 3 epochs by validation accuracy.
"""

from dataclasses import dataclass
from typing import Literal

from lora_replication.study import LoraParams, MethodParams, Target

CITATION = 'Sebastian Raschka, "Code LoRA from Scratch", Lightning AI Studio, December 2023'

SETTING = "DistilBERT on the whole of IMDb"
"""What every number here was measured on."""


@dataclass(frozen=True)
class PublishedNumber:
    """A number as it was published, and where."""

    value: float
    source: str


@dataclass(frozen=True)
class PublishedMethod:
    """What the article says of one method.

    Attributes:
        name: the method's name in this project.
        trains: "head", "lora" or "all".
        rank, alpha, targets: the LoRA configuration, null and empty without LoRA; alpha is not
            divided by the rank.
        trainable_parameters: number of scalars that training changes.
        train_percent, val_percent, test_percent: accuracy of the best epoch by validation, in
            percent, one run.
        minutes: training time on one A10G GPU, null where not stated.
    """

    name: str
    trains: Literal["head", "lora", "all"]
    rank: int | None
    alpha: float | None
    targets: tuple[Target, ...]
    trainable_parameters: PublishedNumber
    train_percent: PublishedNumber
    val_percent: PublishedNumber
    test_percent: PublishedNumber
    minutes: PublishedNumber | None

    def configures(self, method: MethodParams) -> bool:
        """Whether ``method`` trains what the article's method of this name trains."""
        return method.trains == self.trains and method.lora == self._lora

    def is_lora(self, lora: LoraParams | None) -> bool:
        """Whether ``lora`` is the configuration of the article's method of this name."""
        return lora is not None and lora == self._lora

    @property
    def _lora(self) -> LoraParams | None:
        return (
            LoraParams(rank=self.rank, alpha=self.alpha, targets=self.targets)
            if self.rank and self.alpha
            else None
        )


def published() -> dict[str, PublishedMethod]:
    """The article's methods by name: last layers, LoRA default, full, LoRA tuned, in the article's
    order.
    """
    methods = (_last_layers(), _lora_default(), _full(), _lora_tuned())
    return {method.name: method for method in methods}


def _last_layers() -> PublishedMethod:
    run = "article, run that trains only the last two layers"
    return PublishedMethod(
        name="last_layers",
        trains="head",
        rank=None,
        alpha=None,
        targets=(),
        trainable_parameters=PublishedNumber(592_130, run),
        train_percent=PublishedNumber(86.68, run),
        val_percent=PublishedNumber(87.26, run),
        test_percent=PublishedNumber(86.22, run),
        minutes=PublishedNumber(6.02, run),
    )


def _lora_default() -> PublishedMethod:
    run = "article, LoRA run with its default settings"
    return PublishedMethod(
        name="lora_default",
        trains="lora",
        rank=8,
        alpha=16,
        targets=("query", "value"),
        trainable_parameters=PublishedNumber(147_456, run),
        train_percent=PublishedNumber(92.15, run),
        val_percent=PublishedNumber(89.98, run),
        test_percent=PublishedNumber(89.44, run),
        minutes=PublishedNumber(13.28, run),
    )


def _full() -> PublishedMethod:
    run = "article, run that trains all layers"
    return PublishedMethod(
        name="full",
        trains="all",
        rank=None,
        alpha=None,
        targets=(),
        trainable_parameters=PublishedNumber(66_955_010, run),
        train_percent=PublishedNumber(96.41, run),
        val_percent=PublishedNumber(92.80, run),
        test_percent=PublishedNumber(92.31, run),
        minutes=PublishedNumber(15.68, run),
    )


def _lora_tuned() -> PublishedMethod:
    run = "article, best LoRA configuration found"
    return PublishedMethod(
        name="lora_tuned",
        trains="lora",
        rank=8,
        alpha=1,
        targets=("query", "value", "mlp"),
        trainable_parameters=PublishedNumber(
            516_096, 'exact count of the configuration; the article says "500k"'
        ),
        train_percent=PublishedNumber(96.22, "results file published with the article"),
        val_percent=PublishedNumber(92.96, run),
        test_percent=PublishedNumber(92.39, run),
        minutes=None,
    )
