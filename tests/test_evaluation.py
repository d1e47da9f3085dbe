import math

import numpy as np
import pytest

from lora_replication.training import evaluation
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, mean_loss, predict_logits
from tests.training_runs import encoder_of, random_tokens


def test_counting_by_hand_a_tie_predicts_0():
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 1.0], [0.0, 1.0]], np.float32)
    counted = count(logits, np.array([0, 1, 1, 0]))
    assert (counted.correct, counted.reviews, counted.ones) == (2, 4, 2)
    # Not a number predicts 0, too.
    assert count(np.full((3, 2), np.nan, np.float32), np.array([0, 1, 0])).ones == 0


def test_the_loss_by_hand():
    # log(1 + e^-2) for a prediction right by 2, log 2 for a tie, 1000 for one wrong by 1000.
    logits = np.array([[2.0, 0.0], [5.0, 5.0], [1000.0, 0.0]], np.float32)
    expected = (math.log1p(math.exp(-2)) + math.log(2) + 1000) / 3
    assert mean_loss(logits, np.array([0, 1, 1])) == pytest.approx(expected, rel=1e-12)


def test_logits_are_in_the_order_of_the_reviews_whatever_the_batches(settings, monkeypatch):
    tokens = random_tokens([9, 30, 4, 64, 30, 12, 5])
    classifier = Classifier(encoder_of(), settings(), 1)
    in_one_batch = predict_logits(classifier, tokens)
    monkeypatch.setattr(evaluation, "TOKEN_BUDGET", {"cpu": 1})
    one_by_one = predict_logits(classifier, tokens)
    assert in_one_batch.shape == (1, 7, 2)
    assert np.allclose(in_one_batch, one_by_one, atol=1e-6)
    assert len(np.unique(in_one_batch[0, :, 0])) == 7
