"""From a classifier to logits per review, and what is counted from them."""

import numpy as np
import torch

from lora_replication.data.tokens import Tokens
from lora_replication.record import Count
from lora_replication.training.batches import collate, evaluation_rows
from lora_replication.training.classifier import Classifier

TOKEN_BUDGET = {"cpu": 8192, "cuda": 65536}
"""Of an evaluation batch: they keep the processor busy in less memory than training takes."""


def predict_logits(classifier: Classifier, tokens: Tokens) -> np.ndarray:
    """Logits (active configurations, reviews, classes), float32, in the order of ``tokens``."""
    classifier.stop_dropout()
    shape = len(classifier.active), len(tokens), len(classifier.settings.classes)
    result = np.empty(shape, np.float32)
    with torch.inference_mode():
        budget = TOKEN_BUDGET[classifier.settings.device] // classifier.chunk_size
        for rows in evaluation_rows(tokens, budget):
            batch = collate(tokens, rows, classifier.device)
            result[:, batch.rows] = classifier.logits(batch).cpu().numpy()
    return result


def count(logits: np.ndarray, labels: np.ndarray) -> Count:
    """How many of the reviews have their label predicted; a tie predicts 0, as argmax does."""
    predicted = logits.argmax(axis=1)
    correct, times = int((predicted == labels).sum()), np.bincount(predicted, minlength=2)
    ones = int(times[1] if logits.shape[1] == 2 else times.max())
    return Count(correct=correct, reviews=len(labels), ones=ones)


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats, in float64."""
    wide = logits.astype(np.float64)
    highest = wide.max(axis=1)
    log_normalizer = highest + np.log(np.exp(wide - highest[:, None]).sum(axis=1))
    return float((log_normalizer - wide[np.arange(len(labels)), labels]).mean())
