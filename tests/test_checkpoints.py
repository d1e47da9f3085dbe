import pytest
import torch

from lora_replication.record import Epoch
from lora_replication.training.checkpoints import Checkpoint, State, Training


def state() -> State:
    parameters = {"w": torch.nn.Parameter(torch.ones(3))}
    return State(
        parameters,
        torch.optim.Adam(parameters.values(), lr=0.1, fused=True),
        torch.amp.GradScaler("cpu", enabled=False),
    )


@pytest.fixture
def saved(tmp_path):
    one = state()
    (one.parameters["w"] ** 2).sum().backward()
    one.step()
    one.keep_best()
    (one.parameters["w"] ** 2).sum().backward()
    one.step()
    training = Training(
        epochs=[
            Epoch(
                epoch=1,
                train_loss=0.5,
                train_accuracy=0.5,
                val_loss=None,
                val_accuracy=0.5,
                seconds=1.0,
            )
        ],
        best_epoch=1,
    )
    checkpoint = Checkpoint(tmp_path / "state.safetensors", ["key"])
    checkpoint.save([one], [training])
    return checkpoint, one, training


def test_what_was_saved_comes_back_and_trains_on_alike(saved):
    checkpoint, one, training = saved
    other = state()
    assert checkpoint.restore([other]) == [training]
    assert torch.equal(one.parameters["w"], other.parameters["w"])
    assert torch.equal(one.best["w"], other.best["w"])
    for each in (one, other):
        (each.parameters["w"] ** 3).sum().backward()
        each.step()
    assert torch.equal(one.parameters["w"], other.parameters["w"])


def test_the_best_weights_can_be_gone_back_to(saved):
    _, one, _ = saved
    later = one.parameters["w"].detach().clone()
    one.load_best()
    assert not torch.equal(one.parameters["w"], later)
    assert torch.equal(one.parameters["w"], one.best["w"])


def test_a_checkpoint_of_another_run_is_not_read(saved):
    checkpoint, _, _ = saved
    assert Checkpoint(checkpoint.file, ["another"]).restore([state()]) is None


@pytest.mark.parametrize("size", [0, 7, 200])
@pytest.mark.fault(2)
def test_a_checkpoint_cut_short_is_not_read(saved, size):
    checkpoint, _, _ = saved
    checkpoint.file.write_bytes(checkpoint.file.read_bytes()[:size])
    assert checkpoint.restore([state()]) is None


def test_without_a_checkpoint_there_is_nothing_to_restore_or_remove(tmp_path):
    checkpoint = Checkpoint(tmp_path / "none", ["key"])
    assert checkpoint.restore([state()]) is None
    checkpoint.remove()
