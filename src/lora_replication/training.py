"""The one training loop, as the article trains: Adam without decay, schedule or clipping, random batches, best epoch by validation."""

import math
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from lora_replication.checkpoints import Checkpoint, State, Training
from lora_replication.classifier import Classifier
from lora_replication.data.batches import collate, training_rows
from lora_replication.data.tokens import Tokens
from lora_replication.evaluation import count, mean_loss, predict_logits
from lora_replication.randomness import generator
from lora_replication.records import Epoch

STEPS_BETWEEN_LOOKS = 50
"""How often the losses are brought from the device, which waits for it, to be shown and checked."""


def train(
    classifier: Classifier,
    seed: int,
    train_tokens: Tokens,
    val_tokens: Tokens,
    checkpoint: Checkpoint,
    on_epoch: Callable[[Epoch], None],
    label: str,
) -> Training:
    """Train ``classifier`` to its best epoch, from the last whole epoch in ``checkpoint`` where there is one.

    Args:
        seed: names the order of the reviews; that of the classifier names the rest.
        checkpoint: takes the state after each epoch, so that an interrupted run continues to the bits of an unbroken one.
        on_epoch: told of each epoch as it ends.
        label: names the run on the progress bar.
    """
    settings = classifier.settings
    torch.use_deterministic_algorithms(True)
    # Filling new memory would only hide reads before writes, of which there are none, and costs 5 to 8 % of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # set on the module by torch itself
    parameters = classifier.trainable()
    optimizer = torch.optim.Adam(parameters.values(), lr=settings.learning_rate, fused=True)
    scaler = torch.amp.GradScaler(classifier.device.type, enabled=settings.precision == "fp16-mixed")
    state = State(parameters, optimizer, scaler)
    result = checkpoint.restore(state) or Training()
    while len(result.epochs) < settings.epochs and not result.diverged:
        epoch = len(result.epochs) + 1
        started = time.monotonic()
        loss, accuracy = _train_epoch(classifier, state, seed, epoch, train_tokens, result, label)
        trained = time.monotonic()
        logits = predict_logits(classifier, val_tokens)
        val_loss, val_count = mean_loss(logits, val_tokens.labels), count(logits, val_tokens.labels)
        result.diverged |= not (math.isfinite(val_loss) and all(bool(p.isfinite().all()) for p in parameters.values()))
        ended = time.monotonic()
        result.seconds += trained - started
        result.evaluation_seconds += ended - trained
        result.epochs.append(
            Epoch(
                epoch=epoch,
                train_loss=_finite(loss),
                train_accuracy=accuracy,
                val_loss=_finite(val_loss),
                val_accuracy=val_count.fraction,
                seconds=ended - started,
            )
        )
        best = max((e.val_accuracy for e in result.epochs[:-1]), default=-1.0)
        if not result.diverged and val_count.fraction > best:
            result.best_epoch, result.val_logits = epoch, logits
            state.keep_best()
        checkpoint.save(state, result)
        on_epoch(result.epochs[-1])
    if result.best_epoch is not None and not result.diverged:
        state.load_best()
    return result


def _train_epoch(
    classifier: Classifier, state: State, seed: int, epoch: int, tokens: Tokens, result: Training, label: str
) -> tuple[float, float]:
    """One pass in the order of (seed, epoch); mean loss and accuracy while training. Stops at a loss that nothing can mend."""
    classifier.start_epoch(epoch)
    rows = training_rows(len(tokens), classifier.settings.batch_size, generator(seed, "order", epoch))
    losses: list[Tensor] = []
    correct = torch.zeros((), dtype=torch.int64, device=classifier.device)
    seen = 0
    bar = tqdm(rows, desc=f"{label} epoch {epoch}/{classifier.settings.epochs}", unit="batch", disable=None, leave=False)
    for step, batch_rows in enumerate(bar, 1):
        batch = collate(tokens, batch_rows, classifier.device)
        logits = classifier.logits(batch)
        loss = F.cross_entropy(logits, batch.labels)
        state.step(loss)
        losses.append(loss.detach())
        correct += (logits.detach().argmax(1) == batch.labels).sum()
        seen += len(batch_rows)
        result.tokens += len(batch.ids)
        if step % STEPS_BETWEEN_LOOKS == 0 or step == len(rows):
            recent = torch.stack(losses[-STEPS_BETWEEN_LOOKS:])
            bar.set_postfix(loss=f"{recent.mean():.3f}", accuracy=f"{correct.item() / seen:.1%}")
            if result.first_bad_step is None and not recent.isfinite().all():
                bad = int((~recent.isfinite()).nonzero()[0]) + len(losses) - len(recent)
                result.first_bad_step = (epoch - 1) * len(rows) + bad + 1
            # In fp16 the scaler skips such a step; otherwise Adam has already spoiled the weights for good.
            if result.first_bad_step is not None and not state.scaler.is_enabled():
                result.diverged = True
                break
    bar.close()
    return float(torch.stack(losses).double().mean()), correct.item() / seen


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
