"""Rank correlations by hand and against pandas."""

import math

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lora_replication.statistics import rank_correlation


def test_by_hand() -> None:
    # Ranks 1 2 3 4 5 against 2 1 4 3 5: rho = 1 - 6 * 4 / (5 * 24) = 0.8, tau = (8 - 2) / 10.
    found = rank_correlation([1, 2, 3, 4, 5], [20, 10, 40, 30, 50], 0.95)
    assert found.spearman.estimate == pytest.approx(0.8)
    assert found.kendall == pytest.approx(0.6)
    half = 1.959963984540054 * math.sqrt((1 + 0.32) / 2)
    assert found.spearman.low == pytest.approx(math.tanh(math.atanh(0.8) - half))
    assert found.spearman.high == pytest.approx(math.tanh(math.atanh(0.8) + half))


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=40))
def test_pandas_agrees(pairs: list[tuple[int, int]]) -> None:
    first, second = zip(*pairs, strict=True)
    assume(len(set(first)) > 1 and len(set(second)) > 1)
    found = rank_correlation(first, second, 0.95)
    ranks = pd.DataFrame({"a": first, "b": second}).rank()
    assert found.spearman.estimate == pytest.approx(ranks["a"].corr(ranks["b"]))
    products = [(a - c) * (b - d) for i, (a, b) in enumerate(pairs) for c, d in pairs[:i]]
    untied = [sum(x[i] != x[j] for i in range(len(x)) for j in range(i)) for x in (first, second)]
    tau = (sum(p > 0 for p in products) - sum(p < 0 for p in products)) / math.sqrt(
        untied[0] * untied[1]
    )
    assert found.kendall == pytest.approx(tau)


def test_no_variation_has_none_and_wrong_input_is_refused() -> None:
    assert rank_correlation([1, 1, 1], [1, 2, 3], 0.95) is None
    assert rank_correlation([1, 2, 3], [1, 2, 3], 0.95).spearman.low is None
    with pytest.raises(ValueError, match="allowed"):
        rank_correlation([1, 2], [1], 0.95)
