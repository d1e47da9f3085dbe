"""Training as the article does it: Adam without decay, schedule or clipping; the best epoch."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lora_replication.data.tokens import Tokens
from lora_replication.record import Epoch
from lora_replication.training.batches import Batch, collate, training_rows
from lora_replication.training.checkpoints import Checkpoint, State, Training
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, mean_loss, predict_logits
from lora_replication.training.methods.registry import method_of
from lora_replication.training.randomness import generator

STEPS_BETWEEN_CHECKS = 50
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
    """Train each configuration to its best epoch, from ``checkpoint`` where it has one.

    Args:
        seed: names the order of the reviews; that of the classifier names the rest.
        checkpoint: takes the state after each epoch, so that an interrupted run continues to the
            bits of an uninterrupted one.
        on_epoch: called with a configuration's index in the pack and its epoch, as it ends.
        label: of the progress bar.

    Returns:
        The outcome per configuration. One that diverged is left out of later epochs, and disturbs
        no other.
    """
    settings = classifier.settings
    compute_reproducibly()
    states = [new_state(classifier, index) for index in range(len(classifier.models))]
    results = checkpoint.restore(states) or [Training() for _ in states]
    while active := [
        index
        for index, result in enumerate(results)
        if len(result.epochs) < settings.epochs and not (result.diverged or result.stopped_early)
    ]:
        classifier.activate(active)
        own_states, own_results = [states[i] for i in active], [results[i] for i in active]
        _run_epoch(classifier, own_states, own_results, seed, train_tokens, val_tokens, label)
        checkpoint.save(states, results)
        for index in active:
            on_epoch(index, results[index].epochs[-1])
    for state, result in zip(states, results, strict=True):
        if result.best_epoch is not None and not result.diverged:
            state.load_best()
    return results


def train_step(
    classifier: Classifier, states: Sequence[State], tokens: Tokens, rows: np.ndarray
) -> tuple[Tensor, Tensor]:
    """One update of each active configuration, given their ``states``, on the reviews ``rows``.

    Returns:
        Losses before it, and how many of the reviews were predicted rightly, (configurations,).
    """
    classifier.start_step()
    replays = classifier.replays
    batch = collate(tokens, rows, classifier.device, rounded=replays is not None)
    if replays is None:
        return _update(classifier, states, batch)
    return replays(partial(_update, classifier, states), batch, classifier.active)


def _update(classifier: Classifier, states: Sequence[State], batch: Batch) -> tuple[Tensor, Tensor]:
    waiting = iter(states)
    losses, correct = [], []
    for logits in classifier.parts(batch):
        count = len(logits)
        labels = batch.labels.repeat(count)
        loss = F.cross_entropy(logits.flatten(0, 1), labels, reduction="none")
        loss = loss.view(count, -1).mean(1)
        torch.autograd.backward(
            [state.scaler.scale(own) for own, state in zip(loss, waiting, strict=False)]
        )
        losses.append(loss.detach())
        correct.append((logits.argmax(2) == batch.labels).sum(1))
    for state in states:
        state.step()
    return torch.cat(losses), torch.cat(correct)


def compute_reproducibly() -> None:
    """Have torch compute the same bits twice on the same machine and thread count."""
    torch.use_deterministic_algorithms(True)
    # Filling new memory would only hide reads before writes, of which there are none, and costs 5
    # to 8 % of a step.
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False


def new_state(classifier: Classifier, index: int) -> State:
    """The state of the configuration ``index`` before its first step."""
    settings, parameters = classifier.pack[index], classifier.trainable(index)
    method, groups = method_of(settings), defaultdict[float, list[nn.Parameter]](list)
    for name, parameter in parameters.items():
        groups[settings.learning_rate * method.rate_factor(name)].append(parameter)
    each = [{"params": own, "lr": rate} for rate, own in groups.items()]
    optimizer = torch.optim.Adam(each, fused=True, capturable=classifier.replays is not None)
    in_fp16 = settings.precision == "fp16-mixed"
    scaler = torch.amp.GradScaler(classifier.device.type, enabled=in_fp16)
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
    """One epoch of the active configurations and its validation, added to ``results``."""
    started = time.monotonic()
    losses, accuracies = _train_epoch(classifier, states, results, seed, train_tokens, label)
    trained = time.monotonic()
    logits = predict_logits(classifier, val_tokens)
    ended = time.monotonic()
    for state, result, loss, accuracy, own in zip(
        states, results, losses, accuracies, logits, strict=True
    ):
        epoch = len(result.epochs) + 1
        val_loss, val_count = mean_loss(own, val_tokens.labels), count(own, val_tokens.labels)
        finite = all(bool(p.isfinite().all()) for p in state.parameters.values())
        result.diverged |= not (finite and math.isfinite(val_loss))
        result.seconds += (trained - started) / len(states)
        result.evaluation_seconds += (ended - trained) / len(states)
        if not result.diverged and val_count.fraction > result.best_accuracy:
            result.best_epoch, result.val_logits = epoch, own
            state.keep_best()
        stops = classifier.settings.stop_one_class and val_count.one_class
        result.stopped_early = stops and not result.diverged
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
    tokens: Tokens,
    label: str,
) -> tuple[list[float], list[float]]:
    """One pass over the reviews, or until all diverged; mean loss and accuracy on the way."""
    settings, epoch = classifier.settings, len(results[0].epochs) + 1
    classifier.start_epoch(epoch)
    rows = training_rows(len(tokens), settings.batch_size, generator(seed, "order", epoch))
    losses: list[Tensor] = []
    correct = torch.zeros(len(states), dtype=torch.int64, device=classifier.device)
    seen = 0
    title = f"{label} epoch {epoch}/{settings.epochs}"
    bar = tqdm(rows, desc=title, unit="batch", disable=None, leave=False)
    for step, batch_rows in enumerate(bar, 1):
        loss, right = train_step(classifier, states, tokens, batch_rows)
        losses.append(loss)
        correct += right
        seen += len(batch_rows)
        if step % STEPS_BETWEEN_CHECKS == 0 or step == len(rows):
            recent = torch.stack(losses[-STEPS_BETWEEN_CHECKS:]).cpu()
            accuracy = correct.sum().item() / seen / len(states)
            bar.set_postfix(loss=f"{recent.mean():.3f}", accuracy=f"{accuracy:.1%}")
            before = (epoch - 1) * len(rows) + len(losses) - len(recent)
            for result, state, own in zip(results, states, recent.T, strict=True):
                _check_losses(result, state, own, before)
            if all(result.diverged for result in results):
                break
    bar.close()
    trained = int(tokens.lengths[np.concatenate(rows[: len(losses)])].sum())
    for result in results:
        result.tokens += trained
    return torch.stack(losses).double().mean(0).tolist(), (correct / seen).tolist()


def _check_losses(result: Training, state: State, losses: Tensor, before: int) -> None:
    """Note the first of ``losses`` (steps,), after ``before`` earlier steps, that isn't finite."""
    if result.first_bad_step is None and not losses.isfinite().all():
        result.first_bad_step = before + int((~losses.isfinite()).nonzero()[0]) + 1
    # In fp16 the scaler skips such a step; otherwise Adam has already spoiled the weights for good.
    result.diverged |= result.first_bad_step is not None and not state.scaler.is_enabled()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
