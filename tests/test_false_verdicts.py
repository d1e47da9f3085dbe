"""The numbers of docs/statistics.md: small simulated studies, and the committed result."""

import math
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from benchmarks import coverage as simulated
from lora_replication.reading import load_study
from lora_replication.statistics import crossed_components, power

ROOT = Path(__file__).resolve().parents[1]
DOCS = (ROOT / "docs" / "statistics.md").read_text("utf-8")
RESULT = (ROOT / "benchmarks" / "results" / "coverage.md").read_text("utf-8")


def rows(section: str) -> list[list[str]]:
    """Of the committed table below this heading."""
    lines = RESULT.split(f"## {section}")[1].split("##")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if re.match(r"\| \d", line)]


def test_simulated_runs_have_their_accuracy_and_reviews_add_what_is_said() -> None:
    chance, reviews, right = np.random.default_rng(1), 60_000, {}
    common, *own = simulated.review_effects(chance, np.arange(reviews), 4)
    for name, mine in zip(("last_layers", "lora_default", "full"), own, strict=True):
        shared = simulated.LOADINGS[name]
        effects = shared * common + math.sqrt(1 - shared**2) * mine
        right[name] = simulated.answers(chance, np.full(5, 0.8), effects)
        assert right[name].mean(1) == pytest.approx(0.8, abs=0.01)
    for first, points in (("last_layers", 1.1), ("lora_default", simulated.ADDED[1_000])):
        found = crossed_components(right["full"].astype(float) - right[first])
        added = 100 * math.sqrt(found.of_reviews * reviews / 1_000)
        assert added == pytest.approx(points, abs=0.03)


@pytest.mark.parametrize("seeds", simulated.SEEDS)
def test_intervals_cover_and_verdicts_are_rarely_false(seeds: int) -> None:
    """Two standard errors of 300 tries at 95 % are 2.5 points, of 150 at 5 % 3.6."""
    held = simulated.coverage("normal", seeds, 0.01, 1_000, movies=True, studies=300)
    assert 0.925 <= held <= 0.995
    assert simulated.false_verdicts("normal", seeds, 0.01, 1_000, studies=150) <= 0.086


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "reviews"), [*product(simulated.SEEDS, simulated.REVIEWS)])
@pytest.mark.parametrize("sd", [0.002, 0.01, 0.04])
def test_it_holds_for_all_sizes_of_scatter(seeds: int, reviews: int, sd: float) -> None:
    """Two standard errors of 600 tries at 5 % are 1.8 points."""
    held = simulated.coverage("normal", seeds, sd, reviews, movies=True, studies=600)
    assert 0.93 <= held <= 0.99
    assert simulated.false_verdicts("normal", seeds, sd, reviews, studies=600) <= 0.068


def test_the_committed_result_keeps_the_promise_and_docs_say_where_not() -> None:
    """94 to 98 % and at most 5 %, give or take three Monte Carlo standard errors."""
    covered, false = rows("Coverage"), rows("Studies")
    assert (len(covered), len(false)) == (24, 18)
    for place, kind in enumerate(simulated.KINDS):
        for seeds in simulated.SEEDS:
            held = [row[3 + 2 * place :][:2] for row in covered if row[1] == str(seeds)]
            wrong = [float(row[3 + place]) for row in false if row[1] == str(seeds)]
            shares = [float(cell) for pair in held for cell in pair]
            said = f"{min(shares):.1f} to {max(shares):.1f} | {min(wrong):.1f} to {max(wrong):.1f}"
            assert f"| {kind} | {seeds} | {said} |" in DOCS
            if kind == "normal":
                assert 94 - 1.5 <= min(shares) <= max(shares) <= 98 + 1
                assert max(wrong) <= 5 + 2.1


def test_power_in_the_result_in_docs_and_in_params_is_that_of_the_function() -> None:
    for row in rows("Power"):
        assert row == simulated.power_row(float(row[0]), float(row[1]))
        assert f"| {' | '.join(row)} |" in DOCS
    for file in (ROOT / "params.yaml", *ROOT.glob("studies/*/params.yaml")):
        study = load_study(file)
        said = re.search(
            r"(\d+) seeds show a true 1 point .* in (\d+) % .*\((\d+) %", file.read_text("utf-8")
        )
        assert bool(said) == (len(study.run.seeds) > 1), file
        if said:
            reviews, seeds = study.data.reviews.test, len(study.run.seeds)
            at = {"seeds": seeds, "reviews": reviews}
            added = simulated.ADDED[1_000] * math.sqrt(1_000 / reviews)
            shown = [power(1, 1, added, level=1 - a, **at) for a in (0.05, 0.05 / simulated.TESTS)]
            assert [int(n) for n in said.groups()] == [seeds, *(round(100 * p) for p in shown)]
