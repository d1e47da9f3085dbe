"""Training steps as CUDA graphs: of each size of batch one is captured, then replayed for all.

A step of a few milliseconds launches some 1,500 kernels; a graph launches them as one. It computes
the same on the same memory each time, whatever Python would do, so a batch, and the random bits of
dropout, are copied to where the captured step reads them.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lora_replication.training.batches import Batch
from lora_replication.training.randomness import Dropout, HeldBits

Outputs = tuple[Tensor, Tensor]
Step = Callable[[Batch], Outputs]


@dataclass
class Replay:
    """A step on batches of one size.

    Attributes:
        batch: the one that it reads, which others are copied into; ``held``: the random bits that
            it reads, for each dropout.
        is_warm: whether it was computed once, so that all memory that it keeps is there.
        captured: the graph and what it writes.
    """

    batch: Batch
    held: Sequence[HeldBits]
    is_warm: bool = False
    captured: tuple[torch.cuda.CUDAGraph, Outputs] | None = None


class Replays:
    """Takes steps, which draw from ``dropouts`` alone, on batches of few sizes, see ``collate``.

    If ``captured`` the second of a size is captured, and all from there on are replayed; else each
    is computed, from the memory that a graph would read.
    """

    def __init__(self, dropouts: Sequence[Dropout], *, captured: bool) -> None:
        self._dropouts, self._captured = dropouts, captured
        self._known: dict[tuple[torch.Size, ...], Replay] = {}
        self._active: list[int] = []
        if captured:
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            # Graphs that share it need the memory of the largest, for none reads what another left.
            self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, step: Step, batch: Batch, active: Sequence[int]) -> Outputs:
        """What ``step`` returns for ``batch``; equal ``active`` say that it is the same step."""
        if active != self._active:
            self._known, self._active = {}, list(active)
        size = tuple(tensor.shape for tensor in batch.tensors)
        if size not in self._known:
            held = [HeldBits(dropout.stream) for dropout in self._dropouts]
            self._known[size] = Replay(batch, held)
        replay = self._known[size]
        for own, new in zip(replay.batch.tensors, batch.tensors, strict=True):
            own.copy_(new)
        for dropout, bits in zip(self._dropouts, replay.held, strict=True):
            bits.refill()
            dropout.bits = bits
        outputs = self._take(step, replay) if self._captured else step(replay.batch)
        for dropout in self._dropouts:
            dropout.bits = dropout.stream
        return outputs

    def _take(self, step: Step, replay: Replay) -> Outputs:
        if not replay.is_warm:
            replay.is_warm = True
            return self._warm_up(step, replay)
        if replay.captured is None:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream):
                outputs = step(replay.batch)
            replay.captured = graph, outputs
        graph, (losses, correct) = replay.captured
        graph.replay()
        return losses.clone(), correct.clone()

    def _warm_up(self, step: Step, replay: Replay) -> Outputs:
        """As torch asks before a capture: on another stream than the default."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), warnings.catch_warnings():
            # Adam warns that it may be captured and is not.
            warnings.filterwarnings("ignore", message=".*capturable=True")
            outputs = step(replay.batch)
        torch.cuda.current_stream().wait_stream(self._stream)
        return outputs
