import math

import numpy as np
import pytest

from lora_replication import evaluation
from lora_replication.data.manifest import read_manifest, read_tokens
from lora_replication.encoders import locate_encoder
from lora_replication.study import ModelParams
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import count, mean_loss, predict_logits


def test_counting_by_hand_a_tie_is_answered_0():
    logits = np.array([[2.0, 1.0], [0.0, 3.0], [1.0, 1.0], [0.0, 1.0]], np.float32)
    counted = count(logits, np.array([0, 1, 1, 0]))
    assert (counted.correct, counted.reviews, counted.ones) == (2, 4, 2)
    assert counted.fraction == 0.5


def test_not_a_number_is_answered_0():
    assert count(np.full((3, 2), np.nan, np.float32), np.array([0, 1, 0])).ones == 0


def test_the_loss_by_hand():
    # log(1 + e^-2) for an answer right by 2, log 2 for a tie, 1000 for one wrong by 1000.
    logits = np.array([[2.0, 0.0], [5.0, 5.0], [1000.0, 0.0]], np.float32)
    expected = (math.log1p(math.exp(-2)) + math.log(2) + 1000) / 3
    assert mean_loss(logits, np.array([0, 1, 1])) == pytest.approx(expected, rel=1e-12)


def test_logits_come_in_the_order_of_the_reviews_whatever_the_batches(
    tiny_data, settings, monkeypatch
):
    folder = tiny_data / "data" / "tiny"
    tokens = read_tokens(folder, "test", read_manifest(folder))
    classifier = Classifier(
        locate_encoder(ModelParams(encoder="tiny-distilbert", max_tokens=64)), settings(), 1
    )
    together = predict_logits(classifier, tokens)
    monkeypatch.setattr(evaluation, "TOKEN_BUDGET", 1)
    one_by_one = predict_logits(classifier, tokens)
    assert together.shape == (1, 24, 2)
    assert np.allclose(together, one_by_one, atol=1e-6)
    assert len(np.unique(together[0, :, 0])) == 24
