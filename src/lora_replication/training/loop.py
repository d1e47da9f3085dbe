"""The one training loop, as the article trains: Adam without decay, schedule or clipping, random
batches, best epoch by validation.
"""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from lora_replication.data.tokens import Tokens
from lora_replication.record import Epoch
from lora_replication.training.batches import Batch, collate, training_rows
from lora_replication.training.checkpoints import Checkpoint, State, Training
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, mean_loss, predict_logits
from lora_replication.training.randomness import generator

STEPS_BETWEEN_LOOKS = 50
"""How often the losses are brought from the device, which waits for it, to be shown and checked."""


def train(
    classifier: Classifier,
    seed: int,
    train_tokens: Tokens,
    val_tokens: Tokens,
    checkpoint: Checkpoint,
    on_epoch: Callable[[int, Epoch], None],
    label: str,
) -> list[Training]:
    """Train each configuration of ``classifier`` to its best epoch, from the last whole epoch in
    ``checkpoint`` where there is one.

    Args:
        seed: names the order of the reviews; that of the classifier names the rest.
        checkpoint: takes the state after each epoch, so that an interrupted run continues to the
            bits of an unbroken one.
        on_epoch: told of each configuration's place in the pack and its epoch, as it ends.
        label: stands on the progress bar.

    Returns:
        What each configuration came to. A configuration that diverged takes no further part, and
        touches no other.
    """
    settings = classifier.settings
    compute_reproducibly()
    states = [new_state(classifier, place) for place in range(len(classifier.models))]
    results = checkpoint.restore(states) or [Training() for _ in states]
    while active := [
        k
        for k, each in enumerate(results)
        if len(each.epochs) < settings.epochs and not (each.diverged or each.gave_up)
    ]:
        classifier.activate(active)
        _run_epoch(
            classifier,
            [states[k] for k in active],
            [results[k] for k in active],
            seed,
            train_tokens,
            val_tokens,
            label,
        )
        checkpoint.save(states, results)
        for place in active:
            on_epoch(place, results[place].epochs[-1])
    for state, result in zip(states, results, strict=True):
        if result.best_epoch is not None and not result.diverged:
            state.load_best()
    return results


def train_step(
    classifier: Classifier, states: Sequence[State], batch: Batch
) -> tuple[Tensor, Tensor]:
    """One update of each active configuration, whose ``states`` are given; their losses
    (configurations,) and logits before it.
    """
    waiting = iter(states)
    losses, answers = [], []
    for logits in classifier.parts(batch):
        count = len(logits)
        loss = (
            F.cross_entropy(logits.flatten(0, 1), batch.labels.repeat(count), reduction="none")
            .view(count, -1)
            .mean(1)
        )
        torch.autograd.backward(
            [state.scaler.scale(own) for own, state in zip(loss, waiting, strict=False)]
        )
        losses.append(loss.detach())
        answers.append(logits.detach())
    for state in states:
        state.step()
    return torch.cat(losses), torch.cat(answers)


def compute_reproducibly() -> None:
    """Have torch give the same bits twice on the same machine and thread count."""
    torch.use_deterministic_algorithms(True)
    # Filling new memory would only hide reads before writes, of which there are none, and costs 5
    # to 8 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set on the module by torch itself


def new_state(classifier: Classifier, place: int) -> State:
    """What the training of the configuration at ``place`` starts from."""
    parameters = classifier.trainable(place)
    optimizer = torch.optim.Adam(
        parameters.values(), lr=classifier.settings.learning_rate, fused=True
    )
    scaler = torch.amp.GradScaler(
        classifier.device.type, enabled=classifier.settings.precision == "fp16-mixed"
    )
    return State(parameters, optimizer, scaler)


def _run_epoch(
    classifier: Classifier,
    states: list[State],
    results: list[Training],
    seed: int,
    train_tokens: Tokens,
    val_tokens: Tokens,
    label: str,
) -> None:
    """One epoch of the active configurations and its evaluation on the validation reviews, added to
    ``results``.
    """
    epoch = len(results[0].epochs) + 1
    started = time.monotonic()
    losses, accuracies = _train_epoch(classifier, states, results, seed, epoch, train_tokens, label)
    trained = time.monotonic()
    logits = predict_logits(classifier, val_tokens)
    ended = time.monotonic()
    for state, result, loss, accuracy, own in zip(
        states, results, losses, accuracies, logits, strict=True
    ):
        val_loss, val_count = mean_loss(own, val_tokens.labels), count(own, val_tokens.labels)
        result.diverged |= not (
            math.isfinite(val_loss)
            and all(bool(p.isfinite().all()) for p in state.parameters.values())
        )
        result.seconds += (trained - started) / len(states)
        result.evaluation_seconds += (ended - trained) / len(states)
        if not result.diverged and val_count.fraction > result.best_accuracy:
            result.best_epoch, result.val_logits = epoch, own
            state.keep_best()
        result.gave_up = (
            not result.diverged and classifier.settings.stop_one_class and val_count.one_class
        )
        result.epochs.append(
            Epoch(
                epoch=epoch,
                train_loss=_finite(loss),
                train_accuracy=None if result.diverged else accuracy,
                val_loss=_finite(val_loss),
                val_accuracy=None if result.diverged else val_count.fraction,
                seconds=(ended - started) / len(states),
            )
        )


def _train_epoch(
    classifier: Classifier,
    states: list[State],
    results: list[Training],
    seed: int,
    epoch: int,
    tokens: Tokens,
    label: str,
) -> tuple[list[float], list[float]]:
    """One pass in the order of (seed, epoch); each configuration's mean loss and accuracy while
    training.

    Ends early where every configuration met a loss that nothing can mend.
    """
    classifier.start_epoch(epoch)
    rows = training_rows(
        len(tokens), classifier.settings.batch_size, generator(seed, "order", epoch)
    )
    losses: list[Tensor] = []
    correct = torch.zeros(len(states), dtype=torch.int64, device=classifier.device)
    seen = 0
    bar = tqdm(
        rows,
        desc=f"{label} epoch {epoch}/{classifier.settings.epochs}",
        unit="batch",
        disable=None,
        leave=False,
    )
    for step, batch_rows in enumerate(bar, 1):
        batch = collate(tokens, batch_rows, classifier.device)
        loss, logits = train_step(classifier, states, batch)
        losses.append(loss)
        correct += (logits.argmax(2) == batch.labels).sum(1)
        seen += len(batch_rows)
        if step % STEPS_BETWEEN_LOOKS == 0 or step == len(rows):
            recent = torch.stack(losses[-STEPS_BETWEEN_LOOKS:]).cpu()
            bar.set_postfix(
                loss=f"{recent.mean():.3f}",
                accuracy=f"{correct.sum().item() / seen / len(states):.1%}",
            )
            before = (epoch - 1) * len(rows) + len(losses) - len(recent)
            for result, state, own in zip(results, states, recent.T, strict=True):
                _look(result, state, own, before)
            if all(result.diverged for result in results):
                break
    bar.close()
    trained = int(tokens.lengths[np.concatenate(rows[: len(losses)])].sum())
    for result in results:
        result.tokens += trained
    return torch.stack(losses).double().mean(0).tolist(), (correct / seen).tolist()


def _look(result: Training, state: State, losses: Tensor, before: int) -> None:
    """Note the first of ``losses`` (steps,) that is not finite; ``before`` of all steps came before
    them.
    """
    if result.first_bad_step is None and not losses.isfinite().all():
        result.first_bad_step = before + int((~losses.isfinite()).nonzero()[0]) + 1
    # In fp16 the scaler skips such a step; otherwise Adam has already spoiled the weights for good.
    result.diverged |= result.first_bad_step is not None and not state.scaler.is_enabled()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
