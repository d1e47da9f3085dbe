"""The state of training between epochs, on disk: an interrupted run continues to the same bits.

Tensors go into safetensors, numbers into its JSON metadata: nothing is pickled. Random generators
need no state, because every epoch starts its own named streams.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
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
    """The outcome of the training of one configuration so far.

    Attributes:
        epochs: in order; ``best_epoch``: the first with the highest validation accuracy, None if
            none was finite.
        val_logits: (reviews, classes) of the best epoch.
        first_bad_step: the first step, from 1, whose loss was not finite, or None.
        diverged: the loss or a trained weight ended up not finite.
        stopped_early: a single class was predicted, and ``Settings.stop_one_class`` is on.
        seconds: of training, without evaluation; ``evaluation_seconds``; in a pack an equal share.
        tokens: real tokens trained on.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best_epoch: int | None = None
    val_logits: np.ndarray | None = None
    first_bad_step: int | None = None
    diverged: bool = False
    stopped_early: bool = False
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    tokens: int = 0

    @property
    def best_accuracy(self) -> float:
        """On the validation reviews, at the best epoch; -1 if there is none."""
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
        """One update along the gradient of the scaled loss; in fp16 skipped if it overflowed."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def keep_best(self) -> None:
        """Remember the weights as they are now."""
        self.best = {name: p.detach().to("cpu", copy=True) for name, p in self.parameters.items()}

    @torch.no_grad()
    def load_best(self) -> None:
        """Go back to the weights remembered."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])

    def tensors(self) -> dict[str, Tensor]:
        """Everything, as ``now/<name>``, ``best/<name>`` and ``adam/<name>/<moment>``."""
        result = {f"now/{name}": p.detach().cpu() for name, p in self.parameters.items()}
        result |= {f"best/{name}": tensor for name, tensor in self.best.items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            result |= {f"adam/{name}/{kind}": tensor.cpu() for kind, tensor in moments.items()}
        return result

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Tensor], scaler: dict[str, Any]) -> None:
        """Take back what ``tensors`` returned."""
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"now/{name}"])
            moments = _below(f"adam/{name}/", tensors)
            self.optimizer.state[parameter] = {
                kind: tensor.to(parameter.device) for kind, tensor in moments.items()
            }
        self.best = _below("best/", tensors)
        if scaler:
            self.scaler.load_state_dict(scaler)


class Checkpoint:
    """The file with the last whole epoch of the runs with these ``keys``.

    A file of other runs, or one that is damaged in any way, counts as none.
    """

    def __init__(self, file: Path, keys: Sequence[str]) -> None:
        self.file, self.keys = file, list(keys)

    def save(self, states: Sequence[State], trainings: Sequence[Training]) -> None:
        """Write the states after an epoch, whole or not at all."""
        tensors = {
            f"{index}/{name}": tensor
            for index, state in enumerate(states)
            for name, tensor in state.tensors().items()
        }
        numbers = []
        for index, training in enumerate(trainings):
            if training.val_logits is not None:
                tensors[f"{index}/val_logits"] = torch.from_numpy(training.val_logits)
            epochs = [epoch.model_dump() for epoch in training.epochs]
            numbers.append(asdict(training) | {"epochs": epochs, "val_logits": None})
        scalers = [state.scaler.state_dict() for state in states]
        state = json.dumps({"keys": self.keys, "trainings": numbers, "scalers": scalers})
        metadata = {"state": state, "sha256": _sha256(state, tensors)}
        write_whole(self.file, lambda temporary: save_file(tensors, temporary, metadata))

    def restore(self, states: Sequence[State]) -> list[Training] | None:
        """Load the last whole epoch into ``states``; None if there is none of these runs."""
        try:
            with safe_open(self.file, "pt") as stored:
                metadata = stored.metadata() or {}
                names = stored.keys()
                tensors = {name: stored.get_tensor(name) for name in names}
        except (OSError, SafetensorError):
            return None
        state = metadata.get("state", "")
        if metadata.get("sha256") != _sha256(state, tensors):
            return None
        content = json.loads(state)
        if content["keys"] != self.keys:
            return None
        trainings = []
        for index, own in enumerate(states):
            mine = _below(f"{index}/", tensors)
            training = Training(**content["trainings"][index])
            training.epochs = [Epoch.model_validate(epoch) for epoch in training.epochs]
            if "val_logits" in mine:
                training.val_logits = mine["val_logits"].numpy()
            own.load(mine, content["scalers"][index])
            trainings.append(training)
        return trainings

    def remove(self) -> None:
        """The runs are recorded; their state is no longer needed."""
        self.file.unlink(missing_ok=True)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = len(prefix)
    return {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _sha256(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Of everything in a checkpoint, so that no damage goes unseen."""
    total = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
