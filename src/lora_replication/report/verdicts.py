"""A verdict on each of the article's claims, from a study's summary. All accuracies here are in
percent, differences in points.

Decisive verdicts rest on p values corrected by Holm over all claims of the study: one family for
differences, one for sameness.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from lora_replication.article import SETTING, Claim, claims, published
from lora_replication.report.summary import MethodSummary, Summary
from lora_replication.report.wording import level, points
from lora_replication.statistics import (
    Interval,
    cut,
    equivalence_test,
    holm,
    minimal_effect_test,
    prediction_equivalence_test,
    prediction_interval,
    prediction_test,
    seeds_for_difference,
    seeds_for_exclusion,
    seeds_for_prediction,
    t_interval,
    two_proportions_test,
)
from lora_replication.study import ReportParams

Word = Literal["reproduced", "consistent", "not reproduced", "inconclusive", "not judged"]

WORDS: dict[Word, str] = {
    "reproduced": "shown to hold here: a count at the article's digits, an order that the paired test finds, a number or a sameness shown "
    "to lie within the margin",
    "consistent": "a fresh run here could well give the article's number, and the interval is narrow enough to say so; within the margin "
    "is not shown",
    "not reproduced": "shown not to hold here",
    "inconclusive": "these runs decide nothing",
    "not judged": "about something that this study does not measure",
}

JUDGED_ELSEWHERE = ("order", "ratio")
"""Kinds of claims that a study other than the article's can speak of."""


@dataclass(frozen=True)
class Verdict:
    """What a study says of one claim.

    Attributes:
        claim: the statement.
        word: see ``WORDS``.
        reason: the measured numbers and why they give this word.
        measured: what was measured here: an accuracy or difference with its interval; null for
            counts and what is not judged.
        count: the measured count or ratio; null otherwise.
        p_difference, p_sameness: of the tests, as they came out and after Holm; null where there is
            none.
        seeds_needed: with how many seeds the study would decide, if the true effect and scatter
            were those observed; null where it has decided, where no number of seeds would, or where
            that cannot be told.
        scope: which study the verdict is about, where it is not the article's setting; otherwise
            empty.
    """

    claim: Claim
    word: Word
    reason: str
    measured: Interval | None = None
    count: float | None = None
    p_difference: tuple[float, float] | None = None
    p_sameness: tuple[float, float] | None = None
    seeds_needed: int | None = None
    scope: str = ""


@dataclass(frozen=True)
class _Evidence:
    """Numbers for one claim: values per seed and raw p values."""

    claim: Claim
    values: tuple[float, ...] = ()
    p_difference: float | None = None
    p_sameness: float | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True)
class _Tested:
    """Evidence with its corrected p values, 1 where there is no test; ``tests`` of a difference
    were corrected together.
    """

    evidence: _Evidence
    difference: float
    sameness: float
    tests: int

    def strict(self, confidence: float) -> float:
        """The level that a difference needs at most to stand after Holm's correction: its first
        step, which is Bonferroni's.
        """
        return 1 - (1 - confidence) / self.tests


def judge(summary: Summary) -> tuple[Verdict, ...]:
    """The verdicts of a study on all claims of the article, in the order of ``article.claims``."""
    evidence = [_evidence(claim, summary) for claim in claims()]
    differences = _corrected([one.p_difference for one in evidence])
    sameness = _corrected([one.p_sameness for one in evidence])
    report = summary.study.report
    tests = sum(one.p_difference is not None for one in evidence)
    tested = [_Tested(*row, tests) for row in zip(evidence, differences, sameness, strict=True)]
    return tuple(one.evidence.verdict or _decide(one, report, _scope(summary)) for one in tested)


def headline(verdicts: Sequence[Verdict]) -> str:
    """How many claims came out how; those that follow from sizes alone stand apart, as no training
    bears on them.
    """
    sizes = [verdict for verdict in verdicts if verdict.claim.is_about_sizes]
    trained = [verdict for verdict in verdicts if not verdict.claim.is_about_sizes]
    return (
        f"Of {len(verdicts)} claims of the article, {len(trained)} are about accuracy: {_tally(trained)}. "
        f"{len(sizes)} are about numbers of parameters, which follow from the encoder's sizes without any training: {_tally(sizes)}."
    )


def _tally(verdicts: Sequence[Verdict]) -> str:
    counts = {word: sum(verdict.word == word for verdict in verdicts) for word in WORDS}
    return ", ".join(f"{number} {word}" for word, number in counts.items() if number)


def _scope(summary: Summary) -> str:
    return (
        ""
        if summary.study.is_the_articles
        else f"about the study {summary.study.study}, not {SETTING}"
    )


def _corrected(p_values: Sequence[float | None]) -> list[float]:
    adjusted = iter(holm([p for p in p_values if p is not None]))
    return [1.0 if p is None else next(adjusted) for p in p_values]


def _evidence(claim: Claim, summary: Summary) -> _Evidence:
    obstacle = _obstacle(claim, summary)
    if obstacle:
        return _Evidence(claim, verdict=Verdict(claim, "not judged", obstacle))
    rows = [row for name in claim.methods for row in summary.methods if row.name == name]
    if claim.is_about_sizes:
        return _Evidence(claim, verdict=_exact(claim, rows, "" if claim.layer else _scope(summary)))
    if claim.kind == "selection":
        return _selection(claim, summary)
    values = _values(rows)
    report = summary.study.report
    if claim.kind == "value" and claim.number is not None:
        number = claim.number
        same = prediction_equivalence_test(values, number, report.value_margin)
        return _Evidence(claim, values, prediction_test(values, number) if values else None, same)
    margin = report.sameness_margin if claim.kind == "sameness" else 0.0
    return _Evidence(
        claim,
        values,
        minimal_effect_test(values, margin),
        equivalence_test(values, margin) if claim.kind == "sameness" else None,
    )


def _obstacle(claim: Claim, summary: Summary) -> str:
    """Why the study can't speak of the claim; empty where it can."""
    study = summary.study
    if not study.is_the_articles and claim.kind not in JUDGED_ELSEWHERE:
        return f"the claim is about {SETTING}"
    for name in claim.methods:
        if claim.kind != "selection" and name not in study.run.methods:
            return f"this study does not train {name}"
        if name in study.methods and not published()[name].configures(study.methods[name]):
            return f"{name} is configured otherwise in this study"
    return ""


def _values(rows: Sequence[MethodSummary]) -> tuple[float, ...]:
    """Test accuracy per seed; for two methods the second less the first over the seeds that both
    have.
    """
    by_seed = [
        {run.asked.seed: 100 * run.happened.test.fraction for run in row.runs if run.happened.test}
        for row in rows
    ]
    if len(by_seed) == 1:
        return tuple(by_seed[0].values())
    first, second = by_seed
    return tuple(second[seed] - first[seed] for seed in first if seed in second)


def _exact(claim: Claim, rows: Sequence[MethodSummary], scope: str) -> Verdict:
    counts = [float(row.trainable_parameters) for row in rows if row.trainable_parameters]
    if claim.layer:
        inputs, outputs, rank = claim.layer
        counts = [float(inputs * outputs), float(rank * (inputs + outputs))][
            -1 if claim.kind == "count" else 0 :
        ]
    needed = 2 if claim.kind == "ratio" else 1
    if len(counts) < needed or claim.number is None:
        return Verdict(
            claim,
            "inconclusive",
            "no run has been made yet; one decides",
            seeds_needed=1,
            scope=scope,
        )
    measured = counts[0] / counts[1] if claim.kind == "ratio" else counts[0]
    rounded = float(f"{measured:.{claim.digits - 1}e}") if claim.digits else measured
    shown = f"{measured:,.2f}" if claim.kind == "ratio" else f"{measured:,.0f}"
    at = (
        f" at {claim.digits} significant digit{'s' if claim.digits > 1 else ''}"
        if claim.digits
        else ""
    )
    word: Word = "reproduced" if rounded == claim.number else "not reproduced"
    why = (
        "; this follows from the sizes of this study's encoder, not from training" if scope else ""
    )
    return Verdict(
        claim,
        word,
        f"{shown} here, {claim.number:,.0f} in the article{at}{why}",
        count=measured,
        scope=scope,
    )


def _selection(claim: Claim, summary: Summary) -> _Evidence:
    grid = summary.grid
    tuned = published()["lora_tuned"]
    places = [
        place
        for place, cell in enumerate(grid.cells, start=1)
        if tuned.is_lora(cell.asked.settings["lora"])
    ]
    if not grid.complete or grid.best is None or not places:
        found = (
            f"{len(grid.cells):,} of {grid.asked:,} configurations have a result"
            if grid.asked
            else "there is no grid"
        )
        return _Evidence(
            claim,
            verdict=Verdict(
                claim,
                "inconclusive",
                f"{found}; the whole grid with the article's choice is needed",
            ),
        )
    best, chosen = grid.best.happened.val, grid.cells[places[0] - 1].happened.val
    if places[0] == 1 or best is None or chosen is None:
        word: Word = "reproduced" if places[0] == 1 else "not reproduced"
        return _Evidence(
            claim,
            verdict=Verdict(
                claim, word, f"it is number {places[0]:,} of {grid.asked:,} by validation here"
            ),
        )
    # The winner is the best of many, so each of the others stands for a test that could have been
    # made.
    p = min(
        1.0, (grid.asked - 1) * two_proportions_test(chosen.correct, best.correct, best.reviews)
    )
    return _Evidence(
        claim, (places[0], grid.asked, 100 * (best.fraction - chosen.fraction)), p_difference=p
    )


def _decide(tested: _Tested, report: ReportParams, scope: str) -> Verdict:
    evidence, claim = tested.evidence, tested.evidence.claim
    if claim.kind == "selection":
        word, reason, measured, needed = _decide_selection(tested, report)
    elif len(evidence.values) < 2:
        n = len(evidence.values)
        word, needed, measured = "inconclusive", None, None
        reason = f"{n} run{'s' if n != 1 else ''} with a result (shared seeds, for two methods); at least 2 are needed for any test"
    else:
        deciders = {"value": _decide_value, "order": _decide_order, "sameness": _decide_sameness}
        word, reason, measured, needed = deciders[claim.kind](tested, report)
    return Verdict(
        claim,
        word,
        reason,
        measured,
        p_difference=None
        if evidence.p_difference is None
        else (evidence.p_difference, tested.difference),
        p_sameness=None if evidence.p_sameness is None else (evidence.p_sameness, tested.sameness),
        seeds_needed=needed,
        scope=scope,
    )


_Decision = tuple[Word, str, Interval | None, int | None]


def _decide_value(tested: _Tested, report: ReportParams) -> _Decision:
    values, number, alpha = (
        tested.evidence.values,
        float(tested.evidence.claim.number or 0),
        1 - report.confidence,
    )
    whole = prediction_interval(values, report.confidence)
    half = (float(whole.high or 0) - float(whole.low or 0)) / 2
    interval = cut(whole, 0.0 if len(tested.evidence.claim.methods) == 1 else -100.0, 100.0)
    low, high = float(interval.low or 0), float(interval.high or 0)
    seen = (
        f"mean {points(interval.estimate)} here, {points(number)} in the article; a fresh run is expected within {points(low)} to "
        f"{points(high)} ({level(report.confidence)}, {interval.source})"
    )
    if tested.sameness < alpha:
        return "reproduced", f"{seen}; nearer than {report.value_margin:g} points", interval, None
    if tested.difference < alpha:
        return "not reproduced", seen, interval, None
    if half > report.precision:
        needed = seeds_for_prediction(stdev(values), report.precision, level=report.confidence)
        return (
            "inconclusive",
            f"{seen}; its half is wider than {report.precision:g} points",
            interval,
            needed,
        )
    if low <= number <= high:
        return "consistent", seen, interval, None
    needed = seeds_for_exclusion(
        number - interval.estimate, stdev(values), level=tested.strict(report.confidence)
    )
    return "inconclusive", f"{seen}; outside, but not after Holm's correction", interval, needed


def _decide_order(tested: _Tested, report: ReportParams) -> _Decision:
    values = tested.evidence.values
    interval = t_interval(values, report.confidence)
    seen = _difference(interval)
    if tested.difference < 1 - report.confidence:
        return "reproduced" if interval.estimate > 0 else "not reproduced", seen, interval, None
    almost = (
        tested.evidence.p_difference is not None
        and tested.evidence.p_difference < 1 - report.confidence
    )
    needed_level = tested.strict(report.confidence) if almost else report.confidence
    needed = seeds_for_difference(
        interval.estimate, stdev(values), level=needed_level, power=report.power
    )
    why = (
        "a difference before Holm's correction, none after it"
        if almost
        else "the paired test finds no difference"
    )
    return "inconclusive", f"{seen}; {why}", interval, needed


def _decide_sameness(tested: _Tested, report: ReportParams) -> _Decision:
    values, margin, alpha = tested.evidence.values, report.sameness_margin, 1 - report.confidence
    interval = t_interval(values, report.confidence)
    low, high = float(interval.low or 0), float(interval.high or 0)
    seen = _difference(interval)
    if tested.sameness < alpha:
        return "reproduced", f"{seen}; less than {margin:g} points apart", interval, None
    if tested.difference < alpha:
        return "not reproduced", f"{seen}; more than {margin:g} points apart", interval, None
    if (
        low <= float(tested.evidence.claim.number or 0) <= high
        and (high - low) / 2 <= report.precision
    ):
        return "consistent", f"{seen}; within {margin:g} points is not shown", interval, None
    distance = margin - abs(fmean(values))
    needed = seeds_for_difference(
        distance, stdev(values), level=report.confidence, power=report.power
    )
    return "inconclusive", seen, interval, needed


def _decide_selection(tested: _Tested, report: ReportParams) -> _Decision:
    place, asked, behind = tested.evidence.values
    seen = f"number {place:,.0f} of {asked:,.0f} by validation here, {behind:.2f} points behind the best"
    if tested.difference < 1 - report.confidence:
        return "not reproduced", seen, None, None
    return "consistent", f"{seen}; one run each cannot tell it from the best", None, None


def _difference(interval: Interval) -> str:
    ends = f"{float(interval.low or 0):+.2f} to {float(interval.high or 0):+.2f}"
    return f"difference {interval.estimate:+.2f} points here ({level(interval.level)} interval {ends}; {interval.source})"
