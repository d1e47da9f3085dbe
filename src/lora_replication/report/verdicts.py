"""A verdict on each of the article's claims. Accuracies here are in percent, differences in points.

Decisive verdicts rest on p values corrected by Holm over all tests of a study's verdicts, one
family; on at least three whole runs or pairs, not all alike; and hold with diverged runs as 50 %.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lora_replication import statistics as stats
from lora_replication.article import Claim, article, claims, rate_of
from lora_replication.report.comparisons import answers, components_between
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import MethodRow, PValues, Results, RunRow, Verdict, Word
from lora_replication.report.words import listed, say
from lora_replication.statistics import Components, Interval, Prediction
from lora_replication.study import ReportParams, Study, method_in_words

FEWEST = 3
"""Runs, or pairs on shared seeds, that a decisive word needs."""

FEWEST_REVIEWS = 100
"""Test reviews, or movies, that a decisive word on a difference needs; the mean of fewer right and
wrong answers is not normal enough.
"""

ALIKE = 1e-12
"""A variance of percentages that is no more than this is rounding: all runs have one result."""

GUESSED = 0.5
"""Accuracy of a diverged run where it is counted."""

UNDECIDED = "undecided"
ARTICLES_ENCODER = "distilbert-base-uncased"
P_VALUES = ("p_difference", "p_sameness")


def judge(results: Results, tested: Predictions, study: Study) -> Results:
    """``results`` with the verdicts on all claims, in the order of ``article.claims``."""
    verdicts = _judged(results, tested, study, None)
    if any(run.status == "diverged" and run.role != "cell" for run in results.runs):
        counted = _judged(results, tested, study, GUESSED)
        verdicts = [_surviving(*both) for both in zip(verdicts, counted, strict=True)]
    return results.model_copy(update={"verdicts": verdicts})


def _surviving(verdict: Verdict, counted: Verdict) -> Verdict:
    """``verdict``, or nothing decided where diverged runs, once counted, would change it."""
    if verdict.word in (counted.word, "inconclusive"):
        return verdict
    reason = say("diverged", verdict, counted)
    return verdict.model_copy(update={"word": "inconclusive", "why": "diverged", "reason": reason})


def _judged(
    results: Results, tested: Predictions, study: Study, diverged: float | None
) -> list[Verdict]:
    evidence = [_evidence(claim, results, tested, study, diverged) for claim in claims()]
    tests = [(row, name) for row in evidence for name in P_VALUES if row.get(name) is not None]
    adjusted = stats.holm([row[name] for row, name in tests])
    for (row, name), p in zip(tests, adjusted, strict=True):
        row[name] = PValues(raw=row[name], holm=p)
    return [_decided(row, study.report, len(tests)) for row in evidence]


def _evidence(
    claim: Claim, results: Results, tested: Predictions, study: Study, diverged: float | None
) -> dict[str, Any]:
    """Facts of a ``Verdict`` with raw p values, and ``found``, what they come from; the word is
    ``UNDECIDED`` where tests decide.
    """
    rows = [row for name in claim.methods for row in results.methods if row.name == name]
    if claim.is_about_sizes:
        return _sizes(claim, rows, study)
    if obstacle := _obstacle(claim, study):
        return {"claim": claim, "word": "not judged", "why": "obstacle", "reason": obstacle}
    facts: dict[str, Any] = {"claim": claim, "word": UNDECIDED, "scope": _scope(claim, study)}
    if claim.kind == "selection":
        return facts | _selection(results, tested, diverged)
    runs = [results.runs_of(row) for row in rows]
    if claim.kind == "value":
        return facts | _published(claim, runs, study.report, diverged)
    margin = study.report.sameness_margin if claim.kind == "sameness" else 0.0
    return facts | _difference(runs, tested, margin, diverged)


def _sizes(claim: Claim, rows: Sequence[MethodRow], study: Study) -> dict[str, Any]:
    """What numbers of parameters say, which no training changes."""
    facts: dict[str, Any] = {"claim": claim}
    counts = [row.trainable_parameters for row in rows if row.trainable_parameters]
    if claim.layer:
        inputs, outputs, rank = claim.layer
        counts = [inputs * outputs, rank * (inputs + outputs)]
        counts = counts[1:] if claim.kind == "count" else counts
    whole = len(counts) == (2 if claim.kind == "ratio" else 1)
    measured = counts[0] / (counts[1] if claim.kind == "ratio" else 1) if whole else None
    if study.model.encoder != ARTICLES_ENCODER and not claim.layer:
        why = {"word": "does not apply", "why": "encoder", "measured_count": measured}
        return facts | why
    if obstacle := _unlike(claim, study):
        return facts | {"word": "not judged", "why": "obstacle", "reason": obstacle}
    if measured is None:
        return facts | {"word": "inconclusive", "why": "no_run", "seeds_needed": 1}
    rounded = float(f"{measured:.{claim.digits - 1}e}") if claim.digits else measured
    word: Word = "reproduced" if rounded == claim.number else "not reproduced"
    return facts | {"word": word, "why": "exact", "measured_count": measured}


def _obstacle(claim: Claim, study: Study) -> str:
    """Why the study can't speak of a claim about accuracy; empty where it can."""
    own = article().is_setting_of(study)
    if not own and claim.kind != "order":
        kind = "training" if study.is_the_articles else "setting"
        return say("obstacle", kind, article().setting)
    if claim.kind == "selection":
        same = study.train.learning_rate == article().training["learning_rate"]
        return "" if same else say("obstacle", "rate", "the grid")
    if obstacle := _unlike(claim, study):
        return obstacle
    names = [
        method_in_words(name) for name in claim.methods if not article().is_rate_of(study, name)
    ]
    return say("obstacle", "rate", listed(names)) if own and names else ""


def _unlike(claim: Claim, study: Study) -> str:
    """Which method of the claim the study lacks or trains with other LoRA settings."""
    for name in claim.methods:
        if name not in study.run.methods:
            return say("obstacle", "absent", method_in_words(name))
        if not article().methods[name].configures(study.methods[name]):
            return say("obstacle", "configured", method_in_words(name))
    return ""


def _scope(claim: Claim, study: Study) -> str:
    if article().is_setting_of(study):
        return ""
    rates = {rate_of(study, name) for name in claim.methods}
    return say("scope", study, article().setting, len(rates) > 1)


def _published(
    claim: Claim, runs: Sequence[Sequence[RunRow]], report: ReportParams, diverged: float | None
) -> dict[str, Any]:
    """The article's single run, or the gain of two, next to the runs here."""
    found = []
    for mine in runs:
        known = {run.seed: run.test_accuracy for run in mine if run.test}
        gone = {run.seed: diverged for run in mine if run.status == "diverged" and diverged}
        found.append({seed: 100 * (a or 0.0) for seed, a in (known | gone).items()})
    seeds = [seed for seed in found[0] if seed in found[-1]]
    columns = [[one[seed] for seed in seeds] for one in found]
    if len(seeds) < FEWEST:
        return {"values": tuple(columns[-1]), "found": None}
    gain = len(columns) == 2
    prediction = stats.predict_gain(*columns) if gain else stats.predict_run(columns[0])
    number = float(claim.number or 0)
    if (prediction.of_seed or 0.0) <= ALIKE:
        return {"word": "inconclusive", "why": "alike", "values": tuple(columns[-1])}
    return {
        "values": tuple(b - a for a, b in zip(*columns, strict=True))
        if gain
        else tuple(columns[0]),
        "found": prediction,
        "p_difference": prediction.p_value(number),
        "p_sameness": prediction.equivalence(number, report.value_margin),
    }


def _difference(
    runs: Sequence[Sequence[RunRow]], tested: Predictions, margin: float, diverged: float | None
) -> dict[str, Any]:
    """The second method minus the first, for new seeds and new reviews."""
    first, second = (answers(mine, tested, diverged) for mine in runs)
    seeds = [seed for seed in first if seed in second]
    values = tuple(100 * float((second[seed] - first[seed]).mean()) for seed in seeds)
    found = components_between(first, second, tested)
    if found is None or len(seeds) < FEWEST:
        return {"values": values, "found": None}
    found = _in_points(found)
    if found.clusters < FEWEST_REVIEWS or found.of_seeds <= ALIKE:
        why = "alike" if found.clusters >= FEWEST_REVIEWS else "few_reviews"
        return {"word": "inconclusive", "why": why, "values": values, "found": None}
    same = found.equivalence(margin) if margin else None
    p = found.p_value(margin=margin)
    return {"values": values, "found": found, "p_difference": p, "p_sameness": same}


def _in_points(found: Components) -> Components:
    squared = ("of_seeds", "of_reviews", "residual")
    changes = {name: 1e4 * getattr(found, name) for name in squared}
    return replace(found, mean=100 * found.mean, **changes)


def _selection(results: Results, tested: Predictions, diverged: float | None) -> dict[str, Any]:
    """The article's choice against the grid's winner, both on fresh seeds."""
    grid, tuned = results.grid, article().methods["lora_tuned"]
    cells = [cell for cell in results.cells if cell.is_done]
    chosen = next((cell for cell in cells if tuned.is_lora(cell.settings.lora)), None)
    if grid.winner_by_validation is None or chosen is None:
        done = (grid.done, grid.asked)
        return {"word": "inconclusive", "why": "grid_incomplete", "values": done}
    behind = 100 * ((cells[0].val_accuracy or 0) - (chosen.val_accuracy or 0))
    values = (cells.index(chosen) + 1, grid.asked, behind)
    if chosen is cells[0]:
        return {"word": "consistent", "why": "first", "values": values}
    others = [row for row in grid.runners_up if row.name == chosen.name]
    rows = [row for row in (*others, grid.winner) if row]
    if len(rows) < 2:
        return {"word": "inconclusive", "why": "no_fresh", "values": values}
    found = _difference([results.runs_of(row) for row in rows], tested, 0.0, diverged)
    why = {} if found["found"] else {"word": "inconclusive", "why": "no_fresh"}
    return why | found | {"values": values}


def _decided(facts: dict[str, Any], report: ReportParams, tests: int) -> Verdict:
    found, kind = facts.pop("found", None), facts["claim"].kind
    if facts["word"] == UNDECIDED:
        if found is None:
            facts |= {"word": "inconclusive", "why": "few_runs"}
        else:
            strict = 1 - (1 - report.confidence) / tests  # Holm's first step
            deciders: dict[str, Any] = {"value": _value, "sameness": _sameness}
            facts |= deciders.get(kind, _order)(facts, found, report, strict)
    verdict = Verdict(**{"why": ""} | facts)
    reason = verdict.reason or say("reason", verdict, report)
    return verdict.model_copy(update={"reason": reason})


def _is_shown(p: PValues | None, report: ReportParams) -> bool:
    return p is not None and p.holm < 1 - report.confidence


def _outcome(word: Word, why: str, interval: Interval) -> dict[str, Any]:
    return {"word": word, "why": why, "measured_percent": interval}


def _undecided(why: str, interval: Interval, seeds: int | None, no_seeds: str) -> dict[str, Any]:
    needed = {"seeds_needed": seeds, "no_seeds": "" if seeds else no_seeds}
    return _outcome("inconclusive", why, interval) | needed


def _value(
    facts: dict[str, Any], found: Prediction, report: ReportParams, strict: float
) -> dict[str, Any]:
    claim, whole = facts["claim"], found.interval(report.confidence)
    half = (float(whole.high or 0) - float(whole.low or 0)) / 2
    interval = stats.clipped(whole, 0.0 if len(claim.methods) == 1 else -100.0, 100.0)
    if _is_shown(facts["p_sameness"], report):
        return _outcome("reproduced", "near", interval)
    if _is_shown(facts["p_difference"], report):
        return _outcome("not reproduced", "", interval)
    outside = facts["p_difference"].raw < 1 - report.confidence
    if half <= report.precision and not outside:
        return _outcome("consistent", "", interval)
    # Two one-sided tests at the strict level.
    needed = found.seeds_needed(report.value_margin, 2 * strict - 1)
    why = "holm" if outside else "wide"
    return _undecided(why, interval, needed, say("no_seeds", "run", report.value_margin))


def _order(
    facts: dict[str, Any], found: Components, report: ReportParams, strict: float
) -> dict[str, Any]:
    interval, p, margin = (
        found.interval(report.confidence),
        facts["p_difference"],
        report.sameness_margin,
    )
    if facts["claim"].kind == "selection":
        behind = _is_shown(p, report) and found.mean > 0
        return _outcome("not reproduced" if behind else "consistent", "place", interval)
    if _is_shown(p, report):
        return _outcome("reproduced" if found.mean > 0 else "not reproduced", "", interval)
    why = "holm" if p.raw < 1 - report.confidence else "no_difference"
    needed = stats.seeds_for_margin(found, margin, level=strict, power=report.power)
    return _undecided(why, interval, needed, say("no_seeds", "reviews", margin))


def _sameness(
    facts: dict[str, Any], found: Components, report: ReportParams, strict: float
) -> dict[str, Any]:
    margin, alpha = report.sameness_margin, 1 - report.confidence
    interval, p, same = (
        found.interval(report.confidence),
        facts["p_difference"],
        facts["p_sameness"],
    )
    if _is_shown(same, report):
        return _outcome("reproduced", "near", interval)
    if _is_shown(p, report):
        return _outcome("not reproduced", "apart", interval)
    low, high = float(interval.low or 0), float(interval.high or 0)
    if low <= facts["claim"].number <= high and (high - low) / 2 <= report.precision:
        return _outcome("consistent", "not_shown", interval)
    why = "holm_same" if min(same.raw, p.raw) < alpha else ""
    needed = stats.seeds_for_margin(found, margin, level=strict, power=report.power, sameness=True)
    return _undecided(why, interval, needed, say("no_seeds", "reviews", margin))
