"""Every random draw comes from a generator named by (seed, purpose): adding a layer, a configuration or a worker changes no other draw."""

import hashlib
import math

import torch
from torch import Tensor


def named_seed(seed: int, *purpose: str | int) -> int:
    """The 64-bit seed of the draw ``purpose`` of the run ``seed``, such as ``("order", 2)`` for the order of epoch 2."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose. Weights and orders are drawn on the CPU, so they do not depend on the device."""
    return torch.Generator().manual_seed(named_seed(seed, *purpose))


class Dropout:
    """Inverted dropout whose masks come from a named stream: the article's distribution, reproducible and shareable.

    Each element is dropped independently with probability round(65536 p) / 65536 (0.1 becomes 0.100006) and the rest is
    scaled so that the expectation is kept, to the rounding of the type computed in, as in torch's own. A stream restarts
    with each epoch, so a run that resumes at an epoch draws what an unbroken one draws.
    """

    def __init__(self, seed: int, *purpose: str, device: torch.device) -> None:
        self._seed, self._purpose = seed, purpose
        self._generator = torch.Generator(device=device)
        self.active = False

    def start_epoch(self, epoch: int) -> None:
        """Restart the stream for ``epoch`` and switch dropout on."""
        self._generator.manual_seed(named_seed(self._seed, "dropout", *self._purpose, epoch))
        self.active = True

    def position(self) -> Tensor:
        """Where in the stream the next mask is drawn."""
        return self._generator.get_state()

    def return_to(self, position: Tensor) -> None:
        """Draw the masks after ``position`` once more."""
        self._generator.set_state(position)

    def __call__(self, x: Tensor, probability: float) -> Tensor:
        """``x`` (copies, ...) with elements dropped while active, the same ones in each copy; ``x`` as it is otherwise."""
        if not self.active or round(65536 * probability) == 0:
            return x
        return x * self.scaled_mask(x.shape[1:], probability, x.dtype)

    def scaled_mask(self, shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
        """A mask of 0 and 1 / (1 - p), four elements for each random 64-bit word: drawing is most of what dropout costs on a CPU."""
        count = math.prod(shape)
        words = torch.empty((count + 3) // 4, dtype=torch.int64, device=self._generator.device)
        words.random_(-(2**63), None, generator=self._generator)
        lanes = words.view(torch.int16)[:count].view(shape)
        dropped = min(round(65536 * probability), 65535)
        kept = lanes.clamp_(dropped - 32769, dropped - 32768).sub_(dropped - 32769)  # 0 or 1, in place: comparing would cost more passes
        scale = 65536 / (65536 - dropped)
        if dtype.itemsize == 2:
            bits = int(torch.tensor(scale, dtype=dtype).view(torch.int16))
            return kept.mul_(bits).view(dtype)
        return kept.to(dtype).mul_(scale)
