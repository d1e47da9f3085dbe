"""The factorial analysis, by hand and against statsmodels."""

import itertools

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from lora_replication.statistics import factorial

TWO_BY_TWO = {"alpha": [1, 1, 2, 2], "rank": [1, 2, 1, 2]}


def test_two_by_two_by_hand() -> None:
    # Mean 4, effects of alpha 2, of rank 1, of both together 0.5: squares 16, 4, 1 of 21.
    found = factorial(
        [4 - 2 - 1 + 0.5, 4 - 2 + 1 - 0.5, 4 + 2 - 1 - 0.5, 4 + 2 + 1 + 0.5], TWO_BY_TWO
    )
    expected = {"alpha": 16 / 21, "rank": 4 / 21, "alpha x rank": 1 / 21}
    assert found.shares == pytest.approx(expected)
    assert (found.sd, found.freedom) == (None, 0)
    assert [found.triples, found.rest] == pytest.approx([0, 0])


def test_values_that_do_not_vary_have_no_sources() -> None:
    assert factorial([0.895] * 4, TWO_BY_TWO) is None


@pytest.mark.parametrize("missing", [0, 5])
def test_shares_and_scatter_are_those_of_statsmodels(missing: int) -> None:
    levels = list(itertools.product([1, 4, 8], [1, 2, 4, 8], *[[False, True]] * 3))
    runs = pd.DataFrame(levels, columns=["alpha", "rank", "key", "mlp", "head"])
    noise = np.random.default_rng(1).normal(size=len(runs))
    runs["y"] = np.log2(runs["rank"]) + runs["alpha"] * runs["mlp"] + noise
    runs = runs[missing:]
    found = factorial(runs["y"].tolist(), {name: runs[name].tolist() for name in runs.columns[:-1]})
    terms = "(C(alpha) + C(rank) + key + mlp + head)"
    table = anova_lm(ols(f"y ~ {terms}**2", runs).fit(), typ=2)["sum_sq"]
    total = np.square(runs["y"] - runs["y"].mean()).sum()
    table.index = table.index.str.replace(r"C\((\w+)\)", r"\1", regex=True)
    expected = {name.replace(":", " x "): value / total for name, value in table.items()}
    assert found.triples + found.rest == pytest.approx(expected.pop("Residual"))
    assert found.shares == pytest.approx(expected)
    whole = ols(f"y ~ {terms}**3", runs).fit()
    assert (found.freedom, found.sd) == (whole.df_resid, pytest.approx(whole.mse_resid**0.5))
    assert found.rest == pytest.approx(whole.ssr / total)
