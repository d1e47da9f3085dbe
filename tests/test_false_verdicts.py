"""The promise that verdicts keep: studies are drawn with new seeds and new reviews, among them what
reviews favour in one method by chance, and no two methods differ in the population.
"""

import numpy as np
import pytest

from lora_replication.article import Claim, article
from lora_replication.report import verdicts as module
from lora_replication.report.predictions import Predictions
from lora_replication.report.verdicts import judge
from tests.report_records import SMALL_GRID, article_study, make_records, make_workspace
from tests.worlds import ARTICLE, summed, with_accuracy

MOVIES = 50
"""Of the tables here, each of two reviews; variances are given for the mean."""


def renumbered(claim: Claim, numbers: dict[str, float]) -> Claim:
    if claim.kind != "value":
        return claim
    first, *rest = (numbers[name] for name in claim.methods)
    return claim.model_copy(update={"number": rest[0] - first if rest else first})


def share_of_false_studies(
    seeds: int, seed_sd: float, review_sd: float, tries: int, patch: pytest.MonkeyPatch
) -> float:
    """Share of studies with a false verdict.

    Args:
        seed_sd: of runs over seeds, in points.
        review_sd: what the test reviews add to the mean of one method, in points; statistics of the
            published study: about 0.7 at 1,000 reviews, 0.25 at 10,000 for the last layers.
    """
    methods = {"methods": list(ARTICLE), "seeds": list(range(1, seeds + 1))}
    study = article_study(run=methods, grid=SMALL_GRID)
    results = summed(study, make_records(make_workspace(study))[: 4 * seeds])
    chance, false = np.random.default_rng(seeds), 0
    for _ in range(tries):
        ease = chance.normal(90, 30, MOVIES)
        right, runs, numbers = {}, [], {}
        for name in ARTICLE:
            mine = ease + chance.normal(0, review_sd * np.sqrt(MOVIES), MOVIES)
            drawn = np.repeat(mine, 2) + chance.normal(0, seed_sd, (seeds + 1, 1))
            drawn = drawn + chance.normal(0, 0.1, drawn.shape)
            numbers[name] = float(drawn[-1].mean())
            right |= {("method", name, seed): drawn[seed - 1] / 100 for seed in methods["seeds"]}
        for run in results.runs:
            runs.append(with_accuracy(run, 100 * right[run.role, run.name, run.seed].mean()))
        tested = Predictions(right, movies=np.repeat(np.arange(MOVIES), 2).astype(str))
        renamed = tuple(renumbered(claim, numbers) for claim in article().claims)
        changed = article().model_copy(update={"claims": renamed})
        patch.setattr(module, "article", lambda changed=changed: changed)
        found = judge(results.model_copy(update={"runs": runs}), tested, study).verdicts
        decided = [v for v in found if v.claim.kind in ("value", "order", "sameness")]
        assert len(decided) == 9
        false += any(
            v.word == "not reproduced" or (v.claim.kind == "order" and v.word == "reproduced")
            for v in decided
        )
    return false / tries


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_at_most_five_per_cent_of_studies_get_a_false_verdict(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two standard errors of 200 tries at 5 % are 3.1 points."""
    assert share_of_false_studies(seeds, 0.3, 0.5, 200, monkeypatch) <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("seed_sd", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("review_sd", [0.08, 0.25, 0.8])
def test_it_holds_for_all_sizes_of_scatter(
    seeds: int, seed_sd: float, review_sd: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two standard errors of 1,000 tries at 5 % are 1.4 points."""
    assert share_of_false_studies(seeds, seed_sd, review_sd, 1000, monkeypatch) <= 0.064
