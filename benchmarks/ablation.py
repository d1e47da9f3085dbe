"""``python -m benchmarks.ablation``: LoRA's training step and evaluation without one speed-up at a
time, beside both as they are.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gate import finish
from benchmarks.results import AblationResults, Beginning, Phase, Precision, Removal
from benchmarks.table import show
from benchmarks.tasks import BATCHES, PARAMS, SIZES, model_of, precisions
from benchmarks.workload import Workload, make_workload
from lora_replication import classifier, randomness
from lora_replication.data import batches
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import ParameterError
from lora_replication.process import run_command
from lora_replication.reading import load_study
from lora_replication.record import Settings, resolve
from lora_replication.training.batches import Batch, collate
from lora_replication.training.checkpoints import State
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.forward import RaggedForward
from lora_replication.training.loop import compute_reproducibly, new_state, train_step
from lora_replication.training.randomness import Dropout, TorchWords

HERE = Path(__file__).resolve().parent
METHOD = "lora_default"


class WholeLastLayer(RaggedForward):
    """Computes the last layer for every token, as a classifier that is not told what its head
    reads.
    """

    def _layer(self, prefix: str, x: Tensor, batch: Batch, *, last: bool) -> Tensor:
        x = super()._layer(prefix, x, batch, last=False)
        return x[:, batch.first] if last else x


class FusedAttention(RaggedForward):
    """Attention by torch's scaled dot product when training too."""

    def _attend_with_dropout(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        flat = (each.flatten(0, 1) for each in (query, key, value))  # one configuration alone
        context = F.scaled_dot_product_attention(
            *flat, attn_mask=mask, dropout_p=self.attention_dropout
        )
        return context.unflatten(0, query.shape[:2])


class FilledScores(RaggedForward):
    """Scores of padding are filled with -inf, where it is otherwise added to them."""

    def _attend_with_dropout(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        return self.dropout(scores.softmax(-1, scores.dtype), self.attention_dropout) @ value


class StepByStepAttention(RaggedForward):
    """Attention without dropout is computed as that with dropout is."""

    def _attend_without(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> Tensor:
        return self._attend_with_dropout(query, key, value, mask)


class GradientsToTheEmbeddings(RaggedForward):
    """Goes back below the lowest trained weight, to the embeddings."""

    def _embed(self, batch: Batch) -> Tensor:
        return super()._embed(batch).detach().requires_grad_(torch.is_grad_enabled())


class TorchsDropout(Dropout):
    """Masks by torch's own dropout."""

    def __call__(self, x: Tensor, probability: float) -> Tensor:
        """As in ``Dropout``."""
        return F.dropout(x, probability, training=self.active)


@contextmanager
def filled_memory() -> Iterator[None]:
    """New memory is filled, as torch's deterministic mode does unless it is told otherwise."""
    torch.utils.deterministic.fill_uninitialized_memory = True
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = False


def _whole_tokens(tokens: Tokens) -> Tokens:
    """As many reviews of 512 tokens: what padding to 512 has the arithmetic do."""
    ids = np.resize(tokens.ids, 512 * len(tokens))
    return Tokens(ids, np.arange(len(tokens) + 1) * 512, tokens.labels)


def _plain_adam(state: State) -> None:
    for group in state.optimizer.param_groups:
        group["fused"] = group["foreach"] = False


@dataclass(frozen=True)
class SpeedUp:
    """One that can be taken away.

    Attributes:
        name: of what is done without it.
        expected: how many times longer a step was expected to take, and why, before it was
            measured; MiniLM in fp32 on a CPU.
        patched: in force while the step is set up and runs.
        tokens, state: changed before the step is measured.
        mixed_alone: makes no difference in fp32; ``cpu_alone``: none on a GPU.
        phase: in which it is measured.
    """

    name: str
    expected: str
    patched: Callable[[], AbstractContextManager[object]] = nullcontext
    tokens: Callable[[Tokens], Tokens] = lambda tokens: tokens
    state: Callable[[State], None] = lambda _state: None
    mixed_alone: bool = False
    cpu_alone: bool = False
    phase: Phase = "training"

    def counts(self, device: str, precision: Precision) -> bool:
        """Whether it makes a difference there."""
        return not (self.mixed_alone and precision == "fp32") and not (
            self.cpu_alone and device != "cpu"
        )


def _instead(
    owner: object, name: str, other: object
) -> Callable[[], AbstractContextManager[object]]:
    return partial(mock.patch.object, owner, name, other)


AS_IT_IS = (
    SpeedUp("nothing: the step as it is, once more", "1: so far do two equal steps differ here"),
    SpeedUp("evaluation: nothing", "1: likewise", phase="evaluation"),
)
SPEED_UPS = (
    AS_IT_IS[0],
    SpeedUp("every review padded to 512 tokens", "2.0: 1.87 times the tokens, 2.6 times the attention scores", tokens=_whole_tokens),
    SpeedUp("attention of a batch padded to its longest review", "1.3: 2.6 times the scores",
            _instead(batches, "SLACK_ON_CPU", float("inf")), cpu_alone=True),
    SpeedUp("attention by torch's scaled dot product, with dropout", "2: its path for dropout on a CPU is a slow one",
            _instead(classifier, "RaggedForward", FusedAttention)),
    SpeedUp("the last layer for every token", "1.17: a sixth of the linears comes back",
            _instead(classifier, "RaggedForward", WholeLastLayer)),
    SpeedUp("gradients down to the embeddings", "1.02: three products of 150",
            _instead(classifier, "RaggedForward", GradientsToTheEmbeddings)),
    SpeedUp("torch's own dropout", "1.15: four times the random words", _instead(classifier, "Dropout", TorchsDropout)),
    SpeedUp("new memory filled", "1.06: seen so when the setting was found", filled_memory),
    SpeedUp("Adam tensor by tensor", "1.00: LoRA trains few scalars", state=_plain_adam),
    SpeedUp("frozen weights rounded in every step", "1.1: a tenth of the step in bf16",
            _instead(Classifier, "_hold_frozen_linears_in_compute_type", lambda _self: None), mixed_alone=True),
    SpeedUp("random words by torch's generator", "1.06: drawing them was 11 % of a step in bf16, and numpy's takes half",
            _instead(randomness, "words_on", TorchWords), cpu_alone=True),
    SpeedUp("scores of padding filled, not added to", "1.03: 4 % of a step in bf16 at DistilBERT's size",
            _instead(classifier, "RaggedForward", FilledScores)),
    AS_IT_IS[1],
    SpeedUp("evaluation: every review padded to 512 tokens", "2.0: as in training", tokens=_whole_tokens, phase="evaluation"),
    SpeedUp("evaluation: the last layer for every token", "1.17: as in training",
            _instead(classifier, "RaggedForward", WholeLastLayer), phase="evaluation"),
    SpeedUp("evaluation: attention step by step", "1.1: a product, softmax and a product beside one call, by themselves 2.8 and 1.9 ms",
            _instead(classifier, "RaggedForward", StepByStepAttention), phase="evaluation"),
)  # fmt: skip


class Step:
    """A training step, or an evaluation, that can be run again and again."""

    def __init__(
        self, speed_up: SpeedUp, encoder: Encoder, settings: Settings, workload: Workload
    ) -> None:
        self._speed_up = speed_up
        with self._speed_up.patched():
            self.classifier = Classifier(encoder, settings, seed=1)
        self.state = new_state(self.classifier, 0)
        self._speed_up.state(self.state)
        self.tokens = self._speed_up.tokens(workload.random)
        self.rows = workload.rows()

    def turn(self) -> float:
        """Seconds of one pass over the workload."""
        device = self.classifier.device
        finish(device.type)
        began = time.perf_counter()
        with self._speed_up.patched():
            if self._speed_up.phase == "evaluation":
                predict_logits(self.classifier, self.tokens)
            else:
                self.classifier.start_epoch(1)
                for rows in self.rows:
                    train_step(self.classifier, [self.state], collate(self.tokens, rows, device))
        finish(device.type)
        return time.perf_counter() - began


def main(words: Sequence[str]) -> None:
    """Run what the command line's ``words`` ask for. Raises ``ParameterError``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--device", choices=list(BATCHES), default="cpu", help=" ")
    parser.add_argument(
        "--size", default="minilm", choices=[*SIZES, "tiny-distilbert", "tiny-bert"], help=" "
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of each, after one that is thrown away"
    )
    parser.add_argument(
        "--folder", type=Path, default=HERE, help="has README.md; results/ is written into it"
    )
    asked = parser.parse_args(words)
    if asked.rounds < 1:
        raise ParameterError(f"--rounds is {asked.rounds}; allowed: 1 or more")
    show(
        run(
            asked.device,
            asked.size,
            asked.rounds,
            shlex.join(["python", "-m", "benchmarks.ablation", *words]),
        ),
        asked.folder,
    )


def run(device: str, size: str, rounds: int, command: str) -> AblationResults:
    """Measure each step without a speed-up just after the step as it is, one speed-up after
    another, then all again.
    """
    beginning = Beginning(device, command)
    study, precision = load_study(PARAMS), precisions(device)[0]
    compute_reproducibly()
    with model_of(size) as model:
        settings = replace(
            resolve(study, study.methods[METHOD]),
            device=device,
            encoder=model.encoder,
            precision=precision,
        )
        encoder = locate_encoder(model)
        workload = make_workload(
            BATCHES[device], settings.batch_size, 30522 if size in SIZES else 500
        )
        reviews = len(workload.random.ids) / workload.mean_tokens
        as_it_is = {
            nothing.phase: Step(nothing, encoder, settings, workload) for nothing in AS_IT_IS
        }
        removals = [each for each in SPEED_UPS if each.counts(device, precision)]
        steps = [Step(each, encoder, settings, workload) for each in removals]
        by_round = []
        for number in range(rounds + 1):
            beginning.tell(f"round {number} of {rounds}")
            by_round.append(
                [
                    (as_it_is[each.phase].turn() / reviews, step.turn() / reviews)
                    for each, step in zip(removals, steps, strict=True)
                ]
            )
    return AblationResults(
        **beginning.origin(),
        size=size,
        method=METHOD,
        precision=precision,
        removals=tuple(
            Removal(
                name=each.name,
                expected=each.expected,
                phase=each.phase,
                seconds_as_it_is=tuple(before for before, _ in turns),
                seconds_per_review=tuple(without for _, without in turns),
            )
            for each, turns in zip(removals, zip(*by_round[1:], strict=True), strict=True)
        ),
    )


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), "benchmark"))
