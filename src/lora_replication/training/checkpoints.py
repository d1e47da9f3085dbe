"""The state of a training run between epochs, kept on disk so that an interrupted run continues to
the same bits.

Tensors go into safetensors, numbers into its JSON metadata: nothing is pickled. Random generators
need no state, because every epoch starts its own named streams.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_replication.files import write_whole
from lora_replication.record import Epoch


@dataclass
class Training:
    """What training came to.

    Attributes:
        epochs: in order; ``best_epoch``: the first with the highest validation accuracy, null where
            none was finite.
        val_logits: (reviews, 2) of the best epoch.
        first_bad_step: the first step, from 1, whose loss was not finite, or null.
        diverged: the loss or a trained weight ended up not finite.
        gave_up: training was stopped for answering one class, as ``Settings.stop_one_class``
            asks.
        seconds: of training, without evaluation; ``evaluation_seconds``; ``tokens``: real tokens
            trained on. In a pack the seconds are this run's equal share.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    val_logits: np.ndarray | None = None
    first_bad_step: int | None = None
    diverged: bool = False
    gave_up: bool = False
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    tokens: int = 0

    @property
    def best_accuracy(self) -> float:
        """On the validation reviews, at the best epoch; -1 where there is none."""
        return self.epochs[self.best_epoch - 1].val_accuracy or 0.0 if self.best_epoch else -1.0


class State:
    """What training changes: weights, optimizer, gradient scaler, and the best weights so far."""

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
    ) -> None:
        self.parameters, self.optimizer, self.scaler = parameters, optimizer, scaler
        self.best: dict[str, Tensor] = {}

    def step(self) -> None:
        """One update along the gradient of the scaled loss; in fp16 skipped where a gradient
        overflowed.
        """
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self.best = {
            name: parameter.detach().to("cpu", copy=True)
            for name, parameter in self.parameters.items()
        }

    @torch.no_grad()
    def load_best(self) -> None:
        """Go back to the weights remembered."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by names that tell what it is."""
        result = {
            f"now/{name}": parameter.detach().cpu() for name, parameter in self.parameters.items()
        }
        result |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            result |= {
                f"adam/{name}/{kind}": tensor.cpu()
                for kind, tensor in self.optimizer.state[parameter].items()
            }
        return result

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], scaler: dict[str, Any]) -> None:
        """Take back what ``tensors`` gave."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"now/{name}"])
            start = f"adam/{name}/"
            self.optimizer.state[parameter] = {
                key.removeprefix(start): tensor.to(parameter.device)
                for key, tensor in tensors.items()
                if key.startswith(start)
            }
        self.best = {
            key.removeprefix("best/"): tensor
            for key, tensor in tensors.items()
            if key.startswith("best/")
        }
        if scaler:
            self.scaler.load_state_dict(scaler)


class Checkpoint:
    """The file that holds the last whole epoch of the runs of a pack, known by their ``keys``; a
    file of other runs is not read.
    """

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self.file, self.keys = file, list(keys)

    def save(self, states: Sequence[State], trainings: Sequence[Training]) -> None:
        """Write the states after an epoch, whole or not at all."""
        tensors = {
            f"{place}/{name}": tensor
            for place, state in enumerate(states)
            for name, tensor in state.tensors().items()
        }
        numbers = []
        for place, training in enumerate(trainings):
            if training.val_logits is not None:
                tensors[f"{place}/val_logits"] = torch.from_numpy(training.val_logits)
            numbers.append(
                asdict(training)
                | {"epochs": [epoch.model_dump() for epoch in training.epochs], "val_logits": None}
            )
        scalers = [state.scaler.state_dict() for state in states]
        content = json.dumps({"keys": self.keys, "trainings": numbers, "scalers": scalers})
        write_whole(self.file, lambda temporary: save_file(tensors, temporary, {"state": content}))

    def restore(self, states: Sequence[State]) -> list[Training] | None:
        """Load the last whole epoch into ``states``; null where there is none of these runs."""
        try:
            with safe_open(self.file, "pt") as stored:
                content = json.loads(stored.metadata()["state"])
                if content.get("keys") != self.keys:
                    return None
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a dict
        except (FileNotFoundError, SafetensorError):
            return None
        trainings = []
        for place, (state, scaler, numbers) in enumerate(
            zip(states, content["scalers"], content["trainings"], strict=True)
        ):
            own = {
                name.removeprefix(f"{place}/"): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{place}/")
            }
            training = Training(**numbers)
            training.epochs = [Epoch(**epoch) for epoch in numbers["epochs"]]
            training.val_logits = own["val_logits"].numpy() if "val_logits" in own else None
            state.load(own, scaler)
            trainings.append(training)
        return trainings

    def remove(self) -> None:
        """The runs are recorded; their state is no longer needed."""
        self.file.unlink(missing_ok=True)
