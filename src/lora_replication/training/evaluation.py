"""A classifier in, logits per review out, and what is counted from them."""

import numpy as np
import torch

from lora_replication.data.tokens import Tokens
from lora_replication.record import Count
from lora_replication.training.batches import collate, evaluation_rows
from lora_replication.training.classifier import Classifier

TOKEN_BUDGET = 8192
"""Tokens of an evaluation batch: enough to fill the matrix units, small beside the memory of
training.
"""


def predict_logits(classifier: Classifier, tokens: Tokens) -> np.ndarray:
    """Logits (active configurations, reviews, 2), float32, in the order of ``tokens``; dropout off,
    each review once.
    """
    classifier.stop_dropout()
    result = np.empty((len(classifier.active), len(tokens), 2), np.float32)
    with torch.inference_mode():
        for rows in evaluation_rows(tokens, TOKEN_BUDGET // classifier.together):
            batch = collate(tokens, rows, classifier.device)
            result[:, batch.rows] = classifier.logits(batch).cpu().numpy()
    return result


def count(logits: np.ndarray, labels: np.ndarray) -> Count:
    """How many reviews the larger logit answers rightly; a tie is answered 0, as argmax does."""
    answers = logits.argmax(axis=1)
    return Count(
        correct=int((answers == labels).sum()), reviews=len(labels), ones=int(answers.sum())
    )


def mean_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean cross-entropy in nats, in float64."""
    wide = logits.astype(np.float64)
    highest = wide.max(axis=1)
    log_normalizer = highest + np.log(np.exp(wide - highest[:, None]).sum(axis=1))
    return float((log_normalizer - wide[np.arange(len(labels)), labels]).mean())
