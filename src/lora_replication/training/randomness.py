"""Every random draw comes from a generator named by (seed, purpose): adding a layer, a
configuration or a worker changes no other draw.
"""

import hashlib
import math
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


def named_seed(seed: int, *purpose: str | int) -> int:
    """The 64-bit seed of the draw ``purpose`` of the run ``seed``, such as ``("order", 2)`` for the
    order of epoch 2.
    """
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose. Weights and orders are drawn on the CPU, so they do not
    depend on the device.
    """
    return torch.Generator().manual_seed(named_seed(seed, *purpose))


class Words(Protocol):
    """A stream of random 64-bit words, all values alike."""

    def restart(self, seed: int) -> None:
        """Go to the start of the stream ``seed``."""

    def draw(self, count: int) -> Tensor:
        """The next ``count`` words, int64."""

    def position(self) -> object:
        """Where in the stream the next word is drawn."""

    def return_to(self, position: object) -> None:
        """Go back to a ``position``."""


class NumpyWords:
    """Words on the CPU by numpy's SFC64, in less than half the time that torch's generator takes
    there.
    """

    def __init__(self) -> None:
        self._bits = np.random.SFC64(0)

    def restart(self, seed: int) -> None:
        """As in ``Words``."""
        self._bits = np.random.SFC64(seed)

    def draw(self, count: int) -> Tensor:
        """As in ``Words``."""
        return torch.from_numpy(self._bits.random_raw(count).view(np.int64))

    def position(self) -> Any:
        """As in ``Words``."""
        return self._bits.state

    def return_to(self, position: Any) -> None:
        """As in ``Words``."""
        self._bits.state = position


class TorchWords:
    """Words on ``device`` by torch's generator there."""

    def __init__(self, device: torch.device) -> None:
        self._generator = torch.Generator(device=device)

    def restart(self, seed: int) -> None:
        """As in ``Words``."""
        self._generator.manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        """As in ``Words``."""
        words = torch.empty(count, dtype=torch.int64, device=self._generator.device)
        return words.random_(-(2**63), None, generator=self._generator)

    def position(self) -> Any:
        """As in ``Words``."""
        return self._generator.get_state()

    def return_to(self, position: Any) -> None:
        """As in ``Words``."""
        self._generator.set_state(position)


def words_on(device: torch.device) -> Words:
    """The stream that is fastest on ``device``."""
    return NumpyWords() if device.type == "cpu" else TorchWords(device)


class Dropout:
    """Inverted dropout whose masks come from a named stream: the article's distribution,
    reproducible and shareable.

    Each element is dropped independently with probability round(65536 p) / 65536 (0.1 becomes
    0.100006) and the rest is scaled so that the expectation is kept, to the rounding of the type
    computed in, as in torch's own. A stream restarts with each epoch, so a run that resumes at an
    epoch draws what an unbroken one draws.
    """

    def __init__(self, seed: int, *purpose: str, device: torch.device) -> None:
        self._seed, self._purpose = seed, purpose
        self._words = words_on(device)
        self.active = False

    def start_epoch(self, epoch: int) -> None:
        """Restart the stream for ``epoch`` and switch dropout on."""
        self._words.restart(named_seed(self._seed, "dropout", *self._purpose, epoch))
        self.active = True

    def position(self) -> object:
        """Where in the stream the next mask is drawn."""
        return self._words.position()

    def return_to(self, position: object) -> None:
        """Draw the masks after ``position`` once more."""
        self._words.return_to(position)

    def __call__(self, x: Tensor, probability: float) -> Tensor:
        """``x`` (copies, ...) with elements dropped while active, the same ones in each copy; ``x``
        as it is otherwise.
        """
        if not self.active or round(65536 * probability) == 0:
            return x
        return x * self.scaled_mask(x.shape[1:], probability, x.dtype)

    def scaled_mask(self, shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
        """A mask of 0 and 1 / (1 - p), four elements for each random 64-bit word: drawing is most
        of what dropout costs on a CPU.
        """
        count = math.prod(shape)
        lanes = self._words.draw((count + 3) // 4).view(torch.int16)[:count].view(shape)
        dropped = min(round(65536 * probability), 65535)
        kept = lanes.clamp_(dropped - 32769, dropped - 32768).sub_(
            dropped - 32769
        )  # 0 or 1, in place: comparing would cost more passes
        scale = 65536 / (65536 - dropped)
        if dtype.itemsize == 2:
            bits = int(torch.tensor(scale, dtype=dtype).view(torch.int16))
            return kept.mul_(bits).view(dtype)
        return kept.to(dtype).mul_(scale)
