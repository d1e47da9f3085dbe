"""A classifier that computes as the article's loop does: every review padded to the longest, the
forward pass of ``transformers``, under this project's masks of dropout.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from lora_replication.encoders import Encoder
from lora_replication.record import Settings
from lora_replication.training.batches import Batch
from lora_replication.training.classifier import Classifier, autocast_for
from lora_replication.training.randomness import Dropout


class SameMasksClassifier(Classifier):
    """Only the arithmetic is another. LoRA's own dropout must be off."""

    def __init__(self, encoder: Encoder, settings: Settings, seed: int) -> None:
        super().__init__(encoder, settings, seed)
        # Scaled dot products draw their masks where nothing reaches.
        self.models[0].config._attn_implementation = "eager"

    def start_epoch(self, epoch: int) -> None:
        """Switch dropout on."""
        super().start_epoch(epoch)
        self.models[0].train()

    def stop_dropout(self) -> None:
        """Switch dropout off."""
        super().stop_dropout()
        self.models[0].eval()

    def parts(self, batch: Batch) -> Iterator[Tensor]:
        """As in ``Classifier``."""
        if not self.models[0].training:
            yield self._padded(batch)
            return
        with _recorded() as drawn, torch.no_grad():
            list(super().parts(batch))
        with _replayed(drawn, batch):
            logits = self._padded(batch)
        if drawn:
            raise AssertionError(
                f"{len(drawn)} masks are of places where transformers drops nothing"
            )
        yield logits

    def _padded(self, batch: Batch) -> Tensor:
        reviews = torch.tensor_split(batch.ids, batch.first[1:].cpu())
        ids = pad_sequence(list(reviews), batch_first=True)
        mask = pad_sequence([torch.ones_like(review) for review in reviews], batch_first=True)
        with autocast_for(self.settings, self.device):
            logits: Tensor = self.models[0](input_ids=ids, attention_mask=mask).logits.float()
        return logits[None]


@contextmanager
def _recorded() -> Iterator[list[tuple[float, Tensor]]]:
    """Keeps the masks that are drawn, with their probabilities, in order."""
    drawn: list[tuple[float, Tensor]] = []
    draw = Dropout.scaled_mask

    def keep(self: Dropout, shape: torch.Size, probability: float, dtype: torch.dtype) -> Tensor:
        drawn.append((probability, draw(self, shape, probability, dtype)))
        return drawn[-1][1]

    with mock.patch.object(Dropout, "scaled_mask", keep):
        yield drawn


@contextmanager
def _replayed(drawn: list[tuple[float, Tensor]], batch: Batch) -> Iterator[None]:
    """Has torch's dropout take the masks ``drawn`` for ``batch``, one after another, and leaves
    padding as it is.
    """
    ends = torch.cat([batch.first[1:], batch.first.new_tensor([len(batch.ids)])])
    numbers = torch.arange(len(ends), device=ends.device)
    review = torch.repeat_interleave(numbers, ends - batch.first)

    def next_mask(p: float) -> Tensor:
        probability, mask = drawn.pop(0)
        if probability != p:
            raise AssertionError(f"transformers drops with {p}, this project with {probability}")
        return mask

    def replay(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if not training:
            return x
        whole = torch.ones_like(x)
        if x.dim() == 4:  # weights of attention: (reviews, heads, queries, length), by groups
            for group in batch.groups:
                mask = next_mask(p)
                whole[group.reviews, :, : mask.shape[2], : group.length] = mask
        elif x.dim() == 3 and len(mask := next_mask(p)) == len(review):  # every token's
            whole[review, batch.positions] = mask
        elif x.dim() == 3:  # the last layer's, of first tokens alone
            whole[:, 0] = mask
        else:  # the head's
            whole = next_mask(p)
        return x * whole

    with (
        mock.patch.object(nn.Dropout, "forward", lambda self, x: replay(x, self.p, self.training)),
        mock.patch.object(F, "dropout", replay),
    ):
        yield
