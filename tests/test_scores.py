"""Scores of logits: hand-worked answers, and scikit-free plain loops on random input."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_replication.statistics import mean_scores, scores
from lora_replication.statistics.scores import best_threshold

ROWS = st.lists(
    st.tuples(st.integers(-40, 40).map(lambda n: n / 10), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def arrays(rows: list[tuple[float, int]]) -> tuple[np.ndarray, np.ndarray]:
    margins, labels = zip(*rows, strict=True)
    return np.array(margins, float), np.array(labels)


def test_by_hand() -> None:
    """Probabilities 0.8, 0.6 and 0.4 of class 1, of which the first and last are right."""
    margins = np.log([0.8 / 0.2, 0.6 / 0.4, 0.4 / 0.6])
    found = scores(margins, np.array([1, 0, 0]))
    assert found.auroc == 1
    assert found.log_loss == pytest.approx(-math.log(0.8 * 0.4 * 0.6) / 3)
    assert found.brier == pytest.approx((0.2**2 + 0.6**2 + 0.4**2) / 3)
    # Bins of 1/15: 0.8 alone, 0.2 too little; 0.6 twice, of which one is right, 0.1 too much each.
    assert found.calibration_error == pytest.approx((0.2 + 0.2) / 3)
    assert found.accuracy_at_threshold is None
    shifted = scores(margins, np.array([1, 0, 0]), np.array([0.5, 1.0]), np.array([0, 1]))
    assert shifted.accuracy_at_threshold == 1
    alone = scores(np.array([1.0, 2.0]), np.array([1, 1]))
    assert alone.auroc is None
    assert [mean_scores(own)["auroc"] for own in ([alone, found], [found])] == [None, 1]


@given(ROWS)
def test_plain_loops_agree(rows: list[tuple[float, int]]) -> None:
    found = scores(*arrays(rows))
    ones, zeros = ([m for m, label in rows if label == k] for k in (1, 0))
    if ones and zeros:
        wins = [(a > b) + 0.5 * (a == b) for a in ones for b in zeros]
        assert found.auroc == pytest.approx(sum(wins) / len(wins))
    loss = [math.log1p(math.exp(-m if label else m)) for m, label in rows]
    assert found.log_loss == pytest.approx(sum(loss) / len(loss))
    bins: dict[int, list[float]] = {}
    for m, label in rows:
        p = 1 / (1 + math.exp(-abs(m)))
        bins.setdefault(min(14, int(15 * p)), []).append(p - ((m > 0) == (label == 1)))
    error = sum(abs(sum(each)) for each in bins.values()) / len(rows)
    assert found.calibration_error == pytest.approx(error)


@given(ROWS)
def test_no_threshold_is_better_and_none_as_good_is_nearer_to_0(rows):
    def right(threshold: float) -> int:
        return sum((m > threshold) == (label == 1) for m, label in rows)

    chosen = best_threshold(*arrays(rows))
    tried = [n / 20 for n in range(-110, 111)]
    assert right(chosen) == max(map(right, tried))
    if right(0.0) == right(chosen):
        assert chosen == 0
