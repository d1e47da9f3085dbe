"""The methods as data: what one run of a study trains and how, resolved to plain values."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from lora_replication.params import LoraParams, MethodParams, Study


@dataclass(frozen=True)
class RunSettings:
    """Everything asked of one training run but its seed. Two runs with equal settings, seed, data, weights and code are equal.

    Attributes:
        encoder: name of the encoder, see ``encoders``.
        max_tokens: longer reviews were cut there.
        epochs, batch_size, learning_rate, precision, device: as in ``params.TrainParams``.
        trains: "head" (the two layers after the encoder), "lora" or "all".
        lora: the LoRA configuration where ``trains`` is "lora".
        evaluate_train: whether the chosen epoch is also evaluated on the training reviews.
        stop_one_class: whether training is given up after an epoch that answers every validation review alike.
    """

    encoder: str
    max_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    precision: Literal["fp16-mixed", "bf16-mixed", "fp32"]
    device: Literal["cuda", "cpu"]
    trains: Literal["head", "lora", "all"]
    lora: LoraParams | None
    evaluate_train: bool
    stop_one_class: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(replace(self, lora=None)) | {"lora": self.lora.model_dump(mode="json") if self.lora else None}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """The settings that ``as_dict`` gave, such as a record's."""
        return cls(**content | {"lora": LoraParams(**content["lora"]) if content["lora"] else None})


def resolve(study: Study, method: MethodParams, *, evaluate_train: bool = True, stop_one_class: bool = False) -> RunSettings:
    """The settings of ``method`` with everything that it takes from the study."""
    return RunSettings(
        encoder=study.model.encoder,
        max_tokens=study.model.max_tokens,
        epochs=study.train.epochs,
        batch_size=study.train.batch_size,
        learning_rate=method.learning_rate or study.train.learning_rate,
        precision=study.train.precision,
        device=study.train.device,
        trains=method.trains,
        lora=method.lora,
        evaluate_train=evaluate_train,
        stop_one_class=stop_one_class,
    )
