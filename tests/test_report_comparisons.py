"""Methods against each other, and on kinds of reviews: recomputed by plain loops and
statsmodels.
"""

from itertools import combinations

import numpy as np
import pytest
from report_records import altered, make_answers, make_records, make_study
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lora_replication.reading import check_study
from lora_replication.report.answers import Answers
from lora_replication.report.comparison_section import (
    comparison_table,
    predictions_statement,
    slices_table,
)
from lora_replication.report.comparisons import Views, view
from lora_replication.report.summary import Summary, summarise
from lora_replication.report.wording import ABSENT
from lora_replication.statistics import Interval

RECORDS = make_records(make_study())
ANSWERS = make_answers(RECORDS)
METHODS = ("last_layers", "lora_default", "lora_tuned", "full")


@pytest.fixture(scope="module")
def summary() -> Summary:
    return summarise(make_study(), RECORDS)


@pytest.fixture(scope="module")
def views(summary: Summary) -> Views:
    return view(summary, ANSWERS)


def right(name: str, seed: int) -> list[bool]:
    return ANSWERS.right["winner" if name == "grid_winner" else "method", name, seed].tolist()


def test_every_pair_over_seeds(views: Views) -> None:
    assert [(pair.first, pair.second) for pair in views.comparisons] == list(
        combinations(METHODS, 2)
    )
    p_values = []
    for pair in views.comparisons:
        differences = [
            (sum(right(pair.second, seed)) - sum(right(pair.first, seed))) / 1000
            for seed in (1, 2, 3)
        ]
        assert pair.differences == pytest.approx(differences)
        reference = DescrStatsW(differences)
        assert (pair.paired.difference.low, pair.paired.difference.high) == pytest.approx(
            reference.tconfint_mean()
        )
        assert pair.paired.p_value == pytest.approx(reference.ttest_mean(0)[1])
        p_values.append(pair.paired.p_value)
    assert [pair.p_holm for pair in views.comparisons] == pytest.approx(
        list(multipletests(p_values, method="holm")[1])
    )


def test_mcnemar_for_every_seed(views: Views) -> None:
    for pair in views.comparisons:
        for seed, found in zip((1, 2, 3), pair.mcnemar, strict=True):
            pairs = list(zip(right(pair.first, seed), right(pair.second, seed), strict=True))
            table = [
                [sum(p == (a, b) for p in pairs) for b in (True, False)] for a in (True, False)
            ]
            assert found.p_value == pytest.approx(
                contingency_tables.mcnemar(table, exact=True).pvalue
            )
            assert (found.only_first, found.only_second) == (table[0][1], table[1][0])


def test_the_bootstraps_stand_around_the_difference(views: Views) -> None:
    for pair in views.comparisons:
        for interval in (pair.both, pair.both_by_movie):
            assert interval.low < interval.estimate < interval.high
            assert interval.estimate == pytest.approx(pair.paired.difference.estimate)


def test_kinds_of_reviews(views: Views) -> None:
    assert [slices.name for slices in views.slices] == [*METHODS, "grid_winner"]
    for slices in views.slices:
        seeds = (101, 102, 103) if slices.name == "grid_winner" else (1, 2, 3)
        for interval, keep in (
            (slices.plain, [True] * 1000),
            (slices.unseen_movies, ANSWERS.unseen_movie.tolist()),
            (slices.unique_texts, [not one for one in ANSWERS.repeated.tolist()]),
        ):
            n = sum(keep)
            mean = (
                sum(
                    sum(a and k for a, k in zip(right(slices.name, seed), keep, strict=True))
                    for seed in seeds
                )
                / 3
            )
            assert interval.n == n
            assert interval.estimate == pytest.approx(mean / n)
            assert (interval.low, interval.high) == pytest.approx(
                proportion_confint(mean, n, 0.05, "wilson")
            )
        assert slices.by_movie.estimate == pytest.approx(slices.plain.estimate)


def test_without_answers_there_are_still_differences_over_seeds(summary: Summary) -> None:
    views = view(summary, Answers())
    assert len(views.comparisons) == 6
    assert views.slices == ()
    assert all(
        pair.both is None and pair.mcnemar == () and pair.smallest_by_reviews is None
        for pair in views.comparisons
    )


def test_only_shared_seeds_are_compared() -> None:
    study = make_study()
    records = [altered(RECORDS[0], status="diverged", test=None), *RECORDS[1:5], *RECORDS[6:]]
    pair = view(summarise(study, records), ANSWERS).comparisons[0]
    assert pair.seeds == (2,)
    assert (pair.paired.p_value, pair.p_holm, pair.smallest_by_seeds) == (None, None, None)
    assert len(pair.mcnemar) == 1


def test_the_parameters_of_the_bootstrap_and_the_power_change_what_they_should(
    summary: Summary, views: Views
) -> None:
    def changed(**report: float) -> Views:
        content = summary.study.model_dump()
        study = check_study(
            content | {"report": content["report"] | report, "methods": content["methods"]}
        )
        return view(summarise(study, RECORDS[:6]), ANSWERS)

    plain = views.comparisons[0]
    assert changed().comparisons[0].both == plain.both
    assert changed(bootstrap_seed=2).comparisons[0].both != plain.both
    assert changed(bootstrap_draws=500).comparisons[0].both != plain.both
    assert changed(power=0.9).comparisons[0].smallest_by_seeds > plain.smallest_by_seeds
    assert changed(power=0.9).comparisons[0].smallest_by_reviews > plain.smallest_by_reviews


def test_every_cell_of_the_comparison_table(summary: Summary, views: Views) -> None:
    def ends(interval: Interval) -> str:
        return f"{100 * interval.low:+.2f} to {100 * interval.high:+.2f}"

    found = set()
    for pair, row in zip(views.comparisons, comparison_table(summary, views).rows, strict=True):
        significant = sum(test.p_value < 0.05 for test in pair.mcnemar)
        found.add(significant)
        assert [(cell.text, cell.note) for cell in row] == [
            (f"{pair.second} less {pair.first}", ""),
            (f"{100 * pair.paired.difference.estimate:+.2f}", ""),
            (ends(pair.paired.difference), "n = 3 seeds"),
            (f"{pair.paired.p_value:.3g}", f"Holm {pair.p_holm:.3g}"),
            (ends(pair.both), f"by movie {ends(pair.both_by_movie)}"),
            (f"{significant} of 3", ""),
            (f"{100 * pair.smallest_by_seeds:.2f}", ""),
            (f"{100 * pair.smallest_by_reviews:.2f}", ""),
        ]
    assert len(found) > 1


def test_every_cell_of_the_table_of_kinds_of_reviews(summary: Summary, views: Views) -> None:
    def ends(interval: Interval) -> str:
        return f"{100 * interval.low:.2f} to {100 * interval.high:.2f}"

    def whole(interval: Interval) -> tuple[str, str]:
        return f"{100 * interval.estimate:.2f}", f"{ends(interval)}, n = {interval.n:,}"

    for slices, row in zip(views.slices, slices_table(summary, views).rows, strict=True):
        movies = len(set(ANSWERS.movies.tolist()))
        assert [(cell.text, cell.note) for cell in row] == [
            (slices.name, "3 runs"),
            whole(slices.plain),
            (ends(slices.by_movie), f"n = 1,000 reviews in {movies} movies"),
            (ends(slices.both), ""),
            whole(slices.unseen_movies),
            whole(slices.unique_texts),
        ]


def test_what_is_unknown_or_untested_is_a_dash_with_its_reason(summary: Summary) -> None:
    one_run = Answers({name: right for name, right in ANSWERS.right.items() if name[2] == 1})
    views = view(summary, one_run)
    row = slices_table(summary, views).rows[0]
    assert [cell.note for cell in row] == [
        "1 run",
        row[1].note,
        "movies unknown",
        "",
        "none, or unknown",
        "none, or unknown",
    ]
    assert comparison_table(summary, views).rows[0][4].note == ""
    without = comparison_table(summary, view(summary, Answers())).rows[0]
    assert [without[place].text for place in (4, 5, 7)] == [ABSENT] * 3


def test_tables(summary: Summary, views: Views) -> None:
    table = comparison_table(summary, views)
    row = table.rows[0]
    # 853 - 781, 861 - 779 and 849 - 790 of 1,000.
    assert (row[0].text, row[1].text) == ("lora_default less last_layers", "+7.10")
    assert (row[2].note, row[5].text) == ("n = 3 seeds", "3 of 3")
    assert "2,000 draws" in table.caption
    slices = slices_table(summary, views)
    assert slices.rows[0][1].note.endswith("n = 1,000")
    assert "movies" in slices.rows[0][2].note
    assert predictions_statement(0) == ()
    assert "one run has none" in predictions_statement(1)[0]
    assert all(len(row) == len(one.columns) for one in (table, slices) for row in one.rows)
    assert np.all([pair.smallest_by_seeds > 0 for pair in views.comparisons])
