"""More than accuracy, from the logits of each review: ranking, calibration, threshold."""

from dataclasses import dataclass, fields
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_softmax
from scipy.stats import rankdata

BINS = 15
"""Of the calibration error, equally wide, as in C. Guo et al., ICML 2017."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of one run on the test reviews.

    Attributes:
        auroc: chance that a positive review has a larger logit difference than a negative one, ties
            halved; None where one class is absent, or there are more than two.
        log_loss: mean cross-entropy in nats. brier: mean squared error of the probability (of more
            classes, half of their sum).
        calibration_error: mean distance of confidence from accuracy over bins of confidence.
        accuracy_at_threshold: at the threshold with the best validation accuracy; None without
            validation predictions, or of more than two classes.
    """

    auroc: float | None
    log_loss: float
    brier: float
    calibration_error: float
    accuracy_at_threshold: float | None


def scores(
    margins: Array, labels: Array, val_margins: Array | None = None, val_labels: Array | None = None
) -> Scores:
    """Of a run, from logit 1 minus logit 0 of each test review and its label, 0 or 1."""
    positive = labels == 1
    probability = expit(margins)
    shifted = None
    if val_margins is not None and val_labels is not None and len(val_margins):
        threshold = best_threshold(val_margins, val_labels)
        shifted = float(np.mean((margins > threshold) == positive))
    return Scores(
        _auroc(margins, positive),
        float(np.mean(np.logaddexp(0.0, np.where(positive, -margins, margins)))),
        float(np.mean((probability - positive) ** 2)),
        _calibration_error(np.maximum(probability, 1 - probability), (margins > 0) == positive),
        shifted,
    )


def class_scores(logits: Array, labels: NDArray[np.int64]) -> Scores:
    """Of a run, from the logits (reviews, classes) of the test reviews and their labels."""
    logs, truth = log_softmax(logits, axis=1), np.eye(logits.shape[1])[labels]
    brier = float(((np.exp(logs) - truth) ** 2).sum(axis=1).mean() / 2)
    error = _calibration_error(np.exp(logs.max(axis=1)), logs.argmax(axis=1) == labels)
    return Scores(None, float(-logs[truth == 1].mean()), brier, error, None)


def mean_scores(runs: list[Scores]) -> dict[str, float | None]:
    """The mean of each score over ``runs``; None where a run lacks it."""
    columns = {field.name: [getattr(run, field.name) for run in runs] for field in fields(Scores)}
    return {name: None if None in column else fmean(column) for name, column in columns.items()}


def best_threshold(margins: Array, labels: Array) -> float:
    """The threshold above which a review is positive that is right most often; of equally good ones
    the nearest to 0.
    """
    points = np.unique(margins)
    between = (points[1:] + points[:-1]) / 2
    candidates = np.concatenate([[points[0] - 1, 0.0, points[-1]], between])
    positive = np.sort(margins[labels == 1])
    negative = np.sort(margins[labels != 1])
    right = len(positive) - np.searchsorted(positive, candidates, "right")
    right = right + np.searchsorted(negative, candidates, "right")
    best = candidates[right == right.max()]
    return float(best[np.argmin(np.abs(best))])


def _auroc(margins: Array, positive: NDArray[np.bool_]) -> float | None:
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        return None
    return float((rankdata(margins)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _calibration_error(confidence: Array, right: NDArray[np.bool_]) -> float:
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(place, confidence - right, BINS)).sum() / len(right))
