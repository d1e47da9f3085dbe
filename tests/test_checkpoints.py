import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

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


def test_what_was_saved_comes_back_and_trains_on_alike(saved):
    checkpoint, state, training = saved
    other = new_state()
    assert checkpoint.restore([other]) == [training]
    assert torch.equal(state.parameters["w"], other.parameters["w"])
    assert torch.equal(state.best["w"], other.best["w"])
    assert torch.equal(train_on(state), train_on(other))


def test_the_best_weights_can_be_gone_back_to(saved):
    _, state, _ = saved
    later = state.parameters["w"].detach().clone()
    state.load_best()
    assert not torch.equal(state.parameters["w"], later)
    assert torch.equal(state.parameters["w"], state.best["w"])


def test_a_checkpoint_of_another_run_is_not_read(saved):
    checkpoint, _, _ = saved
    assert Checkpoint(checkpoint.file, ["another"]).restore([new_state()]) is None


def cut(size):
    return lambda file: file.write_bytes(file.read_bytes()[:size])


def flip(file):
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def rewritten(change):
    def spoil(file):
        with safe_open(file, "pt") as stored:
            metadata, names = stored.metadata(), stored.keys()
            tensors = {name: stored.get_tensor(name) for name in names}
        save_file(tensors, file, change(metadata, tensors))

    return spoil


def other_numbers(metadata, _tensors):
    state = json.loads(metadata["state"])
    state["trainings"][0]["best_epoch"] = 7
    return metadata | {"state": json.dumps(state)}


def without_a_tensor(metadata, tensors):
    del tensors["0/best/w"]
    return metadata


def replaced(tensor):
    def change(metadata, tensors):
        tensors["0/now/w"] = tensor
        return metadata

    return change


DAMAGE = {
    "empty": cut(0),
    "cut in the header": cut(7),
    "cut in the tensors": cut(-1),
    "a flipped bit": flip,
    "no metadata": rewritten(lambda _metadata, _tensors: None),
    "no digest": rewritten(lambda metadata, _tensors: {"state": metadata["state"]}),
    "no JSON": rewritten(lambda metadata, _tensors: metadata | {"state": "{"}),
    "other numbers": rewritten(other_numbers),
    "a missing tensor": rewritten(without_a_tensor),
    "another shape": rewritten(replaced(torch.ones(4))),
    "another type": rewritten(replaced(torch.ones(3, dtype=torch.float16))),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.fault(2)
def test_a_damaged_checkpoint_counts_as_none(saved, damage):
    checkpoint, _, _ = saved
    DAMAGE[damage](checkpoint.file)
    state = new_state()
    assert checkpoint.restore([state]) is None
    assert torch.equal(state.parameters["w"], torch.ones(3))


def test_without_a_checkpoint_there_is_nothing_to_restore_or_remove(tmp_path):
    checkpoint = Checkpoint(tmp_path / "none", ["key"])
    assert checkpoint.restore([new_state()]) is None
    checkpoint.remove()
