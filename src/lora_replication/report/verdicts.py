"""A verdict on each of the article's claims. Accuracies here are in percent, differences in points.

Decisive verdicts rest on p values corrected by Holm over all claims of the study: one family for
differences, one for sameness.
"""

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from lora_replication import statistics as stats
from lora_replication.article import Claim, article, claims
from lora_replication.report.results import MethodRow, PValues, Results, Verdict, Word
from lora_replication.report.words import method as in_words
from lora_replication.report.words import say
from lora_replication.study import ReportParams, Study

JUDGED_ELSEWHERE = ("order", "ratio")
"""Kinds of claims that a study other than the article's can speak of."""

UNDECIDED = "undecided"


def judge(results: Results, study: Study) -> Results:
    """``results`` with the verdicts on all claims, in the order of ``article.claims``."""
    evidence = [_evidence(claim, results, study) for claim in claims()]
    for family in ("p_difference", "p_sameness"):
        found = [row for row in evidence if row.get(family) is not None]
        for row, p in zip(found, stats.holm([row[family] for row in found]), strict=True):
            row[family] = PValues(raw=row[family], holm=p)
    tests = sum("p_difference" in row and row["p_difference"] is not None for row in evidence)
    verdicts = [_decided(row, study.report, tests) for row in evidence]
    return results.model_copy(update={"verdicts": verdicts})


def _evidence(claim: Claim, results: Results, study: Study) -> dict[str, Any]:
    """Facts of a ``Verdict``, with raw p values; its word is ``UNDECIDED`` where tests decide."""
    if obstacle := _obstacle(claim, study):
        return {"claim": claim, "word": "not judged", "why": "obstacle", "reason": obstacle}
    rows = [row for name in claim.methods for row in results.methods if row.name == name]
    scope = "" if claim.layer else say("scope", study, article().setting)
    facts: dict[str, Any] = {"claim": claim, "word": UNDECIDED, "why": "", "scope": scope}
    if claim.is_about_sizes:
        return facts | _exact(claim, rows)
    if claim.kind == "selection":
        return facts | _selection(results)
    values = _values(results, rows)
    if claim.kind == "value":
        number, margin = float(claim.number or 0), study.report.value_margin
        p, same = (
            stats.prediction_test(values, number),
            stats.prediction_equivalence_test(values, number, margin),
        )
    else:
        margin = study.report.sameness_margin if claim.kind == "sameness" else 0.0
        p = stats.minimal_effect_test(values, margin)
        same = stats.equivalence_test(values, margin) if claim.kind == "sameness" else None
    return facts | {"values": values, "p_difference": p, "p_sameness": same}


def _obstacle(claim: Claim, study: Study) -> str:
    """Why the study can't speak of the claim; empty where it can."""
    if not study.is_the_articles and claim.kind not in JUDGED_ELSEWHERE:
        return say("obstacle", "setting", article().setting)
    for name in claim.methods:
        if claim.kind != "selection" and name not in study.run.methods:
            return say("obstacle", "absent", in_words(name))
        known = study.methods.get(name)
        if known and not article().methods[name].configures(known):
            return say("obstacle", "configured", in_words(name))
    return ""


def _values(results: Results, rows: Sequence[MethodRow]) -> tuple[float, ...]:
    """Test accuracy per seed; for two methods the second minus the first over shared seeds."""
    first, *second = (
        {
            run.seed: 100 * run.test_accuracy
            for run in results.runs_of(row)
            if run.test_accuracy is not None
        }
        for row in rows
    )
    if not second:
        return tuple(first.values())
    return tuple(second[0][seed] - first[seed] for seed in first if seed in second[0])


def _exact(claim: Claim, rows: Sequence[MethodRow]) -> dict[str, Any]:
    counts = [row.trainable_parameters for row in rows if row.trainable_parameters]
    if claim.layer:
        inputs, outputs, rank = claim.layer
        counts = [inputs * outputs, rank * (inputs + outputs)]
        counts = counts[1:] if claim.kind == "count" else counts
    if len(counts) < (2 if claim.kind == "ratio" else 1):
        return {"word": "inconclusive", "why": "no_run", "seeds_needed": 1}
    measured = counts[0] / counts[1] if claim.kind == "ratio" else float(counts[0])
    rounded = float(f"{measured:.{claim.digits - 1}e}") if claim.digits else measured
    word: Word = "reproduced" if rounded == claim.number else "not reproduced"
    return {"word": word, "why": "exact", "measured_count": measured}


def _selection(results: Results) -> dict[str, Any]:
    grid, tuned = results.grid, article().methods["lora_tuned"]
    cells = [cell for cell in results.cells if cell.is_done]
    places = [place for place, cell in enumerate(cells, 1) if tuned.is_lora(cell.lora)]
    if grid.winner_by_validation is None or not places:
        values = (grid.done, grid.asked)
        return {"word": "inconclusive", "why": "grid_incomplete", "values": values}
    best, chosen, place = cells[0], cells[places[0] - 1], places[0]
    if place == 1 or best.val_correct is None or chosen.val_correct is None:
        word: Word = "reproduced" if place == 1 else "not reproduced"
        return {"word": word, "why": "first", "values": (place, grid.asked)}
    # The winner is the best of many, so each of the others counts as a test that could have been
    # made.
    p = stats.two_proportions_test(chosen.val_correct, best.val_correct, best.val_reviews or 0)
    behind = 100 * ((best.val_accuracy or 0) - (chosen.val_accuracy or 0))
    return {
        "values": (place, grid.asked, behind),
        "p_difference": min(1.0, (grid.asked - 1) * p),
    }


def _decided(facts: dict[str, Any], report: ReportParams, tests: int) -> Verdict:
    if facts["word"] == UNDECIDED:
        kind = facts["claim"].kind
        if kind != "selection" and len(facts["values"]) < 2:
            facts |= {"word": "inconclusive", "why": "few_runs"}
        else:
            deciders = {"value": _value, "order": _order, "sameness": _sameness}
            facts |= deciders.get(kind, _place)(facts, report, tests)
    verdict = Verdict(**facts)
    reason = verdict.reason or say("reason", verdict, report)
    return verdict.model_copy(update={"reason": reason})


def _is_shown(p: PValues | None, report: ReportParams) -> bool:
    return p is not None and p.holm < 1 - report.confidence


def _strict(report: ReportParams, tests: int) -> float:
    """The level that holds after Holm's correction at most: its first step, Bonferroni's."""
    return 1 - (1 - report.confidence) / tests


def _outcome(
    word: Word, why: str, interval: Any = None, seeds: int | None = None
) -> dict[str, Any]:
    return {"word": word, "why": why, "measured_percent": interval, "seeds_needed": seeds}


def _value(facts: dict[str, Any], report: ReportParams, tests: int) -> dict[str, Any]:
    values, claim, level = facts["values"], facts["claim"], report.confidence
    whole = stats.prediction_interval(values, level)
    half = (float(whole.high or 0) - float(whole.low or 0)) / 2
    interval = stats.clipped(whole, 0.0 if len(claim.methods) == 1 else -100.0, 100.0)
    if _is_shown(facts["p_sameness"], report):
        return _outcome("reproduced", "near", interval)
    if _is_shown(facts["p_difference"], report):
        return _outcome("not reproduced", "", interval)
    if half > report.precision:
        needed = stats.seeds_for_prediction(stdev(values), report.precision, level=level)
        return _outcome("inconclusive", "wide", interval, needed)
    if float(interval.low or 0) <= claim.number <= float(interval.high or 0):
        return _outcome("consistent", "", interval)
    distance, strict = claim.number - interval.estimate, _strict(report, tests)
    needed = stats.seeds_for_exclusion(distance, stdev(values), level=strict)
    return _outcome("inconclusive", "holm", interval, needed)


def _order(facts: dict[str, Any], report: ReportParams, tests: int) -> dict[str, Any]:
    values, p, level = facts["values"], facts["p_difference"], report.confidence
    interval = stats.t_interval(values, level)
    if _is_shown(p, report):
        return _outcome("reproduced" if interval.estimate > 0 else "not reproduced", "", interval)
    almost = p is not None and p.raw < 1 - level
    strict, power = _strict(report, tests) if almost else level, report.power
    needed = stats.seeds_for_difference(interval.estimate, stdev(values), level=strict, power=power)
    return _outcome("inconclusive", "holm" if almost else "no_difference", interval, needed)


def _sameness(facts: dict[str, Any], report: ReportParams, tests: int) -> dict[str, Any]:
    values, margin, level = facts["values"], report.sameness_margin, report.confidence
    interval = stats.t_interval(values, level)
    low, high = float(interval.low or 0), float(interval.high or 0)
    if _is_shown(facts["p_sameness"], report):
        return _outcome("reproduced", "near", interval)
    if _is_shown(facts["p_difference"], report):
        return _outcome("not reproduced", "apart", interval)
    if low <= facts["claim"].number <= high and (high - low) / 2 <= report.precision:
        return _outcome("consistent", "not_shown", interval)
    distance, power = margin - abs(fmean(values)), report.power
    needed = stats.seeds_for_difference(distance, stdev(values), level=level, power=power)
    return _outcome("inconclusive", "", interval, needed)


def _place(facts: dict[str, Any], report: ReportParams, tests: int) -> dict[str, Any]:
    if _is_shown(facts["p_difference"], report):
        return _outcome("not reproduced", "")
    return _outcome("consistent", "not_told")
