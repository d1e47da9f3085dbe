import hashlib

import pytest
import torch

from lora_replication.training import randomness
from lora_replication.training.randomness import Dropout, RandomBits, generator, named_seed

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["numpy's bits", "torch's bits"], autouse=True)
def bits(request, monkeypatch):
    """Everything here holds for the generators of either device."""
    monkeypatch.setattr(randomness, "RandomBits", lambda device: RandomBits(device, request.param))


def started(seed: int = 1, epoch: int = 1, purpose: str = "encoder") -> Dropout:
    dropout = Dropout(seed, purpose, device=CPU)
    dropout.start_epoch(epoch)
    return dropout


def test_a_seed_is_the_start_of_the_sha256_of_its_name():
    assert named_seed(3, "order", 2) == int(hashlib.sha256(b"3/order/2").hexdigest()[:16], 16)


def test_draws_of_different_purposes_differ_and_equal_purposes_agree():
    names = ((1, "A", "q"), (1, "A", "q"), (1, "A", "v"), (2, "A", "q"))
    draws = [torch.randn(8, generator=generator(*name)) for name in names]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.2, 0.5, 0.9])
def test_masks_have_dropouts_mean_and_variance(probability):
    n = 1_000_000
    mask = started().scaled_mask(torch.Size((1000, 1000)), probability, torch.float64)
    assert mask.unique().tolist() == pytest.approx([0.0, 1 / (1 - probability)], rel=2e-4)
    variance = probability / (1 - probability)
    assert float(mask.mean()) == pytest.approx(1, abs=5 * (variance / n) ** 0.5)
    assert float(mask.var()) == pytest.approx(variance, rel=0.02)


def test_neighbours_in_a_mask_are_independent():
    dropped = (started().scaled_mask(torch.Size((400_000,)), 0.5, torch.float64) == 0).double()
    for distance in (1, 2, 3, 4, 5):
        both = float((dropped[:-distance] * dropped[distance:]).mean())
        assert both == pytest.approx(0.25, abs=5 * (3 / 16 / 400_000) ** 0.5)


def test_a_stream_restarts_with_its_epoch_and_goes_on_inside_it():
    x = torch.ones(1, 1000)
    first, second = started(), started()
    assert torch.equal(first(x, 0.1), second(x, 0.1))
    assert not torch.equal(first(x, 0.1), started()(x, 0.1))
    assert not torch.equal(started(epoch=1)(x, 0.1), started(epoch=2)(x, 0.1))
    assert not torch.equal(started(purpose="encoder")(x, 0.1), started(purpose="lora")(x, 0.1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_masks_of_every_type_drop_the_same_elements(dtype):
    mask = started().scaled_mask(torch.Size((1000,)), 0.1, dtype)
    exact = started().scaled_mask(torch.Size((1000,)), 0.1, torch.float64)
    assert torch.equal(mask != 0, exact != 0)
    assert mask.max() == torch.tensor(65536 / 58982, dtype=dtype)


def test_masks_are_of_any_size_shared_by_copies_drawn_once_more_and_off():
    for size in range(1, 10):  # that do not fill 64 bits
        assert started()(torch.ones(1, size), 0.1).shape == (1, size)
    copies = started()(torch.ones(3, 1000), 0.1)
    assert torch.equal(copies, started()(torch.ones(1, 1000), 0.1).expand(3, -1))
    dropout, x = started(), torch.ones(1, 1000)
    position, first = dropout.bits.position(), dropout(x, 0.5)
    assert not torch.equal(dropout(x, 0.5), first)
    dropout.bits.return_to(position)
    assert torch.equal(dropout(x, 0.5), first)
    assert dropout(x, 0.0) is x
    assert Dropout(1, "encoder", device=CPU)(x, 0.5) is x
