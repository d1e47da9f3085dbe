"""Everything that decides the result of a training run, and nothing else.

A change here that moves any loss or logit raises ``RESULTS``, which makes earlier records stale;
``tests/test_results.py`` compares tiny runs with committed numbers, so it can't be forgotten.
"""

RESULTS = 1
"""The version of the results: part of every run's key. CHANGELOG names what changed with it."""
