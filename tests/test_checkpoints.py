import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lora_replication.record import Epoch
from lora_replication.training.checkpoints import Checkpoint, State, Training

EPOCH = Epoch(
    epoch=1, train_loss=0.5, train_accuracy=0.5, val_loss=None, val_accuracy=0.5, seconds=1.0
)


def new_state() -> State:
    parameters = {"w": torch.nn.Parameter(torch.ones(3))}
    optimizer = torch.optim.Adam(parameters.values(), lr=0.1, fused=True)
    return State(parameters, optimizer, torch.amp.GradScaler("cpu", enabled=False))


def train_on(state: State) -> torch.Tensor:
    (state.parameters["w"] ** 2).sum().backward()
    state.step()
    return state.parameters["w"].detach().clone()


@pytest.fixture
def saved(tmp_path):
    state, training = new_state(), Training(epochs=[EPOCH], best_epoch=1)
    train_on(state)
    state.keep_best()
    train_on(state)
    checkpoint = Checkpoint(tmp_path / "state.safetensors", ["key"])
    checkpoint.save([state], [training])
    return checkpoint, state, training


def test_what_was_saved_comes_back_trains_on_alike_and_is_no_other_runs(saved):
    checkpoint, state, training = saved
    other = new_state()
    assert checkpoint.restore([other]) == [training]
    assert torch.equal(state.parameters["w"], other.parameters["w"])
    assert torch.equal(state.best["w"], other.best["w"])
    assert torch.equal(train_on(state), train_on(other))
    other.load_best()
    assert torch.equal(other.parameters["w"], state.best["w"])
    assert not torch.equal(other.parameters["w"], state.parameters["w"])
    assert Checkpoint(checkpoint.file, ["another"]).restore([new_state()]) is None
    checkpoint.remove()
    assert checkpoint.restore([new_state()]) is None
    checkpoint.remove()


def best_epoch_7(metadata: dict[str, str]) -> dict[str, str]:
    content = json.loads(metadata["state"])
    content["trainings"][0]["best_epoch"] = 7
    return metadata | {"state": json.dumps(content)}


BYTES = {
    "cut in the header": lambda content: content[:7],
    "cut in the tensors": lambda content: content[:-1],
    "a flipped bit": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
}
PARTS = {
    "no metadata": lambda _metadata, tensors: (None, tensors),
    "no digest": lambda metadata, tensors: ({"state": metadata["state"]}, tensors),
    "no JSON": lambda metadata, tensors: (metadata | {"state": "{"}, tensors),
    "another number": lambda metadata, tensors: (best_epoch_7(metadata), tensors),
    "no tensors": lambda metadata, _tensors: (metadata, {}),
    "another shape": lambda metadata, tensors: (metadata, tensors | {"0/now/w": torch.ones(4)}),
    "another type": lambda metadata, tensors: (
        metadata,
        tensors | {"0/now/w": tensors["0/now/w"].double()},
    ),
}


@pytest.mark.parametrize("damage", [*BYTES, *PARTS])
@pytest.mark.fault(2)
def test_a_damaged_checkpoint_counts_as_none(saved, damage):
    checkpoint, _, _ = saved
    file, state = checkpoint.file, new_state()
    if damage in BYTES:
        file.write_bytes(BYTES[damage](file.read_bytes()))
    else:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
        metadata, tensors = PARTS[damage](metadata, load_file(file))
        save_file(tensors, file, metadata)
    assert checkpoint.restore([state]) is None
    assert torch.equal(state.parameters["w"], torch.ones(3))
