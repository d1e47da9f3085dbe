"""The state of a training run between epochs, kept on disk so that an interrupted run continues to the same bits.

Tensors go into safetensors, numbers into its JSON metadata: nothing is pickled. Random generators need no state, because
every epoch starts its own named streams.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_replication.records import Epoch, write_whole


@dataclass
class Training:
    """What training came to.

    Attributes:
        epochs: in order; ``best_epoch``: the first with the highest validation accuracy, null where none was finite.
        val_logits: (reviews, 2) of the best epoch.
        first_bad_step: the first step, from 1, whose loss was not finite, or null.
        diverged: the loss or a trained weight ended up not finite.
        seconds: of training, without evaluation; ``evaluation_seconds``; ``tokens``: real tokens trained on.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    val_logits: np.ndarray | None = None
    first_bad_step: int | None = None
    diverged: bool = False
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    tokens: int = 0


class State:
    """What training changes: weights, optimizer, gradient scaler, and the best weights so far."""

    def __init__(self, parameters: dict[str, nn.Parameter], optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler) -> None:
        self.parameters, self.optimizer, self.scaler = parameters, optimizer, scaler
        self.best: dict[str, Tensor] = {}

    def step(self, loss: Tensor) -> None:
        """One update along the gradient of ``loss``; in fp16 scaled, and skipped where a gradient overflowed."""
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self.best = {name: parameter.detach().to("cpu", copy=True) for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def load_best(self) -> None:
        """Go back to the weights remembered."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by names that tell what it is."""
        result = {f"now/{name}": parameter.detach().cpu() for name, parameter in self.parameters.items()}
        result |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            result |= {f"adam/{name}/{kind}": tensor.cpu() for kind, tensor in self.optimizer.state[parameter].items()}
        return result

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor], scaler: dict[str, Any]) -> None:
        """Take back what ``tensors`` gave."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"now/{name}"])
            start = f"adam/{name}/"
            self.optimizer.state[parameter] = {
                key.removeprefix(start): tensor.to(parameter.device) for key, tensor in tensors.items() if key.startswith(start)
            }
        self.best = {key.removeprefix("best/"): tensor for key, tensor in tensors.items() if key.startswith("best/")}
        if scaler:
            self.scaler.load_state_dict(scaler)


class Checkpoint:
    """The file that holds the last whole epoch of the run ``key``; a file of another run is not read."""

    def __init__(self, file: Path, key: str) -> None:
        self.file, self.key = file, key

    def save(self, state: State, training: Training) -> None:
        """Write the state after an epoch, whole or not at all."""
        tensors = state.tensors()
        if training.val_logits is not None:
            tensors["val_logits"] = torch.from_numpy(training.val_logits)
        numbers = asdict(training) | {"epochs": [epoch.model_dump() for epoch in training.epochs], "val_logits": None}
        content = json.dumps({"key": self.key, "training": numbers, "scaler": state.scaler.state_dict()})
        write_whole(self.file, lambda temporary: save_file(tensors, temporary, {"state": content}))

    def restore(self, state: State) -> Training | None:
        """Load the last whole epoch into ``state``; null where there is none of this run."""
        try:
            with safe_open(self.file, "pt") as stored:
                content = json.loads(stored.metadata()["state"])
                if content["key"] != self.key:
                    return None
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a dict
        except (FileNotFoundError, SafetensorError):
            return None
        training = Training(**content["training"])
        training.epochs = [Epoch(**epoch) for epoch in content["training"]["epochs"]]
        training.val_logits = tensors["val_logits"].numpy() if "val_logits" in tensors else None
        state.load(tensors, content["scaler"])
        return training

    def remove(self) -> None:
        """The run is recorded; its state is no longer needed."""
        self.file.unlink(missing_ok=True)
