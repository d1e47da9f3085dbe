"""Random draws named by (seed, purpose): another layer, pack or worker changes no other draw."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

NUDGE = 1e-6
"""Far below what any run could notice, were it not chaotic."""


def named_seed(seed: int, *purpose: str | int) -> int:
    """The 64-bit seed of a purpose of a run, such as ``("order", 2)`` for the order of epoch 2."""
    name = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator for one purpose: weights and orders do not depend on the device."""
    return torch.Generator().manual_seed(named_seed(seed, *purpose))


@torch.no_grad()
def nudge(parameters: Mapping[str, Tensor], seed: int, number: int) -> None:
    """Move one element of each of ``parameters`` by ``NUDGE``, another one for each ``number``."""
    for name, parameter in parameters.items():
        draw = generator(seed, "nudge", number, name)
        parameter.view(-1)[torch.randint(parameter.numel(), (1,), generator=draw)] += NUDGE


class RandomBits:
    """A stream of uniform random 64-bit integers on ``device``.

    On a CPU numpy's SFC64 draws them, in less than half the time of torch's generator;
    ``use_numpy`` says otherwise.
    """

    def __init__(self, device: torch.device, use_numpy: bool | None = None) -> None:
        self._numpy = device.type == "cpu" if use_numpy is None else use_numpy
        self._generator: Any = np.random.SFC64(0) if self._numpy else torch.Generator(device)

    def restart(self, seed: int) -> None:
        """Go to the start of the stream ``seed``."""
        if self._numpy:
            self._generator = np.random.SFC64(seed)
        else:
            self._generator.manual_seed(seed)

    def draw(self, count: int) -> Tensor:
        """The next ``count`` integers, (count,) int64."""
        if self._numpy:
            return torch.from_numpy(self._generator.random_raw(count).view(np.int64))
        bits = torch.empty(count, dtype=torch.int64, device=self._generator.device)
        return bits.random_(-(2**63), None, generator=self._generator)

    def position(self) -> Any:
        """Where in the stream the next integer is drawn."""
        return self._generator.state if self._numpy else self._generator.get_state()

    def return_to(self, position: Any) -> None:
        """Go back to a ``position``."""
        if self._numpy:
            self._generator.state = position
        else:
            self._generator.set_state(position)


class HeldBits:
    """What a step draws from ``bits``, kept where it reads that: a replay, which draws nothing, has
    new integers after ``refill``.
    """

    def __init__(self, bits: RandomBits) -> None:
        self.bits, self._draws, self._next = bits, list[Tensor](), 0

    def refill(self) -> None:
        """Draw all anew, in the same order, and go to the first."""
        for held in self._draws:
            held.copy_(self.bits.draw(len(held)))
        self._next = 0

    def draw(self, count: int) -> Tensor:
        """The next of the draws, which is copied, for dropout works in place."""
        if self._next == len(self._draws):
            self._draws.append(self.bits.draw(count))
        self._next += 1
        return self._draws[self._next - 1].clone()

    def position(self) -> int:
        """Of the next draw."""
        return self._next

    def return_to(self, position: int) -> None:
        """Go back to a ``position``."""
        self._next = position


class DefaultStream:
    """The default generator, which torch's own dropout draws from, in a stream of each step's: what
    else draws from it does not matter.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed, self._epoch, self._step = seed, 0, 0
        self._generator = torch.default_generator
        if device.type == "cuda":
            self._generator = torch.cuda.default_generators[torch.cuda.current_device()]

    def start_epoch(self, epoch: int) -> None:
        """Go to the start of ``epoch``."""
        self._epoch, self._step = epoch, -1
        self.start_step()

    def start_step(self) -> None:
        """Go to the stream of the next step."""
        self._step += 1
        name = ("dropout", "attention", self._epoch, self._step)
        self._generator.manual_seed(named_seed(self._seed, *name))

    def position(self) -> Tensor:
        """Where in the stream the next number is drawn."""
        return self._generator.get_state()

    def return_to(self, position: Tensor) -> None:
        """Go back to a ``position``."""
        self._generator.set_state(position)


class Dropout:
    """Inverted dropout whose masks come from a named stream: reproducible, and shared by a pack.

    Each element is dropped independently with probability round(65536 p) / 65536 (0.1 becomes
    0.100006) and the rest is scaled so that the expectation is kept, to the rounding of the type
    computed in, as in torch's own. The stream restarts with each epoch, so a run that resumes at an
    epoch draws what an uninterrupted one draws.
    """

    def __init__(self, seed: int, *purpose: str, device: torch.device) -> None:
        self._seed, self._purpose = seed, purpose
        self.stream = RandomBits(device)
        self.bits: RandomBits | HeldBits = self.stream
        self.active = False

    def start_epoch(self, epoch: int) -> None:
        """Restart the stream for ``epoch`` and switch dropout on."""
        self.stream.restart(named_seed(self._seed, "dropout", *self._purpose, epoch))
        self.active = True

    def __call__(self, x: Tensor, probability: float) -> Tensor:
        """``x`` (copies, ...) with elements dropped, the same in each copy, if active."""
        if not self.active or round(65536 * probability) == 0:
            return x
        return x * self.scaled_mask(x.shape[1:], probability, x.dtype)

    def scaled_mask(self, shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
        """A mask of 0 and 1 / (1 - p)."""
        count = math.prod(shape)
        # Four elements per 64-bit integer: drawing is most of what dropout costs on a CPU.
        lanes = self.bits.draw((count + 3) // 4).view(torch.int16)[:count].view(shape)
        dropped = min(round(65536 * probability), 65535)
        # 0 or 1, in place: comparing would cost more passes.
        kept = lanes.clamp_(dropped - 32769, dropped - 32768).sub_(dropped - 32769)
        scale = 65536 / (65536 - dropped)
        if dtype.itemsize == 2:
            bits = int(torch.tensor(scale, dtype=dtype).view(torch.int16))
            return kept.mul_(bits).view(dtype)
        return kept.to(dtype).mul_(scale)
