"""A verdict on each of the article's claims. Accuracies here are in percent, differences in points.

Decisive verdicts rest on p values corrected by Holm over all tests of a study's verdicts, one
family; on at least three whole runs or pairs, not all alike; and hold with diverged runs as 50 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lora_replication import statistics as stats
from lora_replication.article import Claim, article
from lora_replication.report.predictions import Predictions
from lora_replication.report.results import PValues, Results, RunRow, Verdict, done_runs
from lora_replication.report.words import listed, say
from lora_replication.statistics import Components, Prediction
from lora_replication.study import Study, method_in_words

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

ARTICLES_ENCODER = "distilbert-base-uncased"
P_VALUES = ("p_difference", "p_sameness")

UNDECIDED = {"value": ("wide", "holm"), "order": ("no_difference", "holm"),
             "sameness": ("", "holm_same")}  # fmt: skip
"""Why tests of a kind decide nothing: neither before Holm's correction, or only before it."""


def judge(results: Results, tested: Predictions, study: Study) -> Results:
    """``results`` with the verdicts on all claims, in the article's order; none on own texts."""
    if study.data.source == "table":
        return results
    verdicts = _Judge(results, tested, study).verdicts()
    if any(run.status == "diverged" and run.is_final for run in results.runs):
        counted = _Judge(results, tested, study, GUESSED).verdicts()
        verdicts = [_surviving(*both) for both in zip(verdicts, counted, strict=True)]
    return results.model_copy(update={"verdicts": verdicts})


def undecidable(found: Components) -> str:
    """Why no decisive word may rest on this difference of fractions; empty where one may."""
    if found.seeds < FEWEST:
        return "few_runs"
    if found.clusters < FEWEST_REVIEWS:
        return "few_reviews"
    return "alike" if 1e4 * found.of_seeds <= ALIKE else ""


def _surviving(verdict: Verdict, counted: Verdict) -> Verdict:
    """``verdict``, or nothing decided where diverged runs, once counted, would change it."""
    if verdict.word in (counted.word, "inconclusive"):
        return verdict
    reason = say("diverged", verdict, counted)
    return verdict.model_copy(update={"word": "inconclusive", "why": "diverged", "reason": reason})


@dataclass(frozen=True)
class _Judge:
    """Judges the claims with diverged runs left out, or counted with the accuracy ``diverged``.

    Methods that weigh one claim return facts of a ``Verdict``. Where tests decide, these are raw p
    values and ``found``, what they come from (None: too few runs); elsewhere they include the word.
    """

    results: Results
    tested: Predictions
    study: Study
    diverged: float | None = None

    def verdicts(self) -> list[Verdict]:
        evidence = [{"claim": claim} | self.evidence(claim) for claim in article().claims]
        tests = [(row, name) for row in evidence for name in P_VALUES if row.get(name) is not None]
        adjusted = stats.holm([row[name] for row, name in tests])
        for (row, name), p in zip(tests, adjusted, strict=True):
            row[name] = PValues(raw=row[name], holm=p)
        return [self.decided(row, len(tests)) for row in evidence]

    def evidence(self, claim: Claim) -> dict[str, Any]:
        if claim.is_about_sizes:
            return self.sizes(claim)
        if obstacle := self.obstacle(claim):
            return {"word": "not judged", "why": "obstacle", "reason": obstacle}
        scope = {"scope": self.scope(claim)}
        if claim.kind == "selection":
            return scope | self.selection()
        runs = [done_runs(self.results.runs, "method", name) for name in claim.methods]
        if claim.kind == "value":
            return scope | self.published(claim, runs)
        margin = self.study.report.sameness_margin if claim.kind == "sameness" else 0.0
        return scope | self.difference(runs, margin)

    def obstacle(self, claim: Claim) -> str:
        """Why the study can't speak of a claim about accuracy; empty where it can."""
        study, own = self.study, article().is_setting_of(self.study)
        if not own and claim.kind != "order":
            kind = "training" if study.is_the_articles else "setting"
            return say("obstacle", kind, article().setting)
        if claim.kind == "selection":
            same = study.train.learning_rate == article().training["learning_rate"]
            return "" if same else say("obstacle", "rate", "the grid")
        if unlike := self.unlike(claim):
            return unlike
        others = [name for name in claim.methods if not article().is_rate_of(study, name)]
        named = listed([method_in_words(name) for name in others])
        return say("obstacle", "rate", named) if own and others else ""

    def unlike(self, claim: Claim) -> str:
        """Which method of the claim the study lacks or trains with other LoRA settings."""
        for name in claim.methods:
            if name not in self.study.run.methods:
                return say("obstacle", "absent", method_in_words(name))
            if not article().methods[name].configures(self.study.methods[name]):
                return say("obstacle", "configured", method_in_words(name))
        return ""

    def scope(self, claim: Claim) -> str:
        if article().is_setting_of(self.study):
            return ""
        same_rate = all(article().is_rate_of(self.study, name) for name in claim.methods)
        return say("scope", self.study, article().setting, not same_rate)

    def sizes(self, claim: Claim) -> dict[str, Any]:
        """What numbers of parameters say, which no training changes."""
        known = {row.name: row.trainable_parameters for row in self.results.methods}
        counts = [known.get(name) for name in claim.methods]
        if claim.layer:
            inputs, outputs, rank = claim.layer
            whole, low_rank = inputs * outputs, rank * (inputs + outputs)
            counts = [low_rank] if claim.kind == "count" else [whole, low_rank]
        sizes = [count for count in counts if count]
        # A count is its ratio to 1.
        measured = sizes[0] / (*sizes, 1)[1] if len(sizes) == len(counts) else None
        if self.study.model.encoder != ARTICLES_ENCODER and not claim.layer:
            return {"word": "does not apply", "why": "encoder", "measured_count": measured}
        if obstacle := self.unlike(claim):
            return {"word": "not judged", "why": "obstacle", "reason": obstacle}
        if measured is None:
            return {"word": "inconclusive", "why": "no_run", "seeds_needed": 1}
        rounded = float(f"{measured:.{claim.digits - 1}e}") if claim.digits else measured
        word = "reproduced" if rounded == claim.number else "not reproduced"
        return {"word": word, "why": "exact", "measured_count": measured}

    def published(self, claim: Claim, runs: Sequence[Sequence[RunRow]]) -> dict[str, Any]:
        """The article's single run, or the gain of two, next to the runs here."""
        by_seed = []
        for mine in runs:
            gone = {run.seed: self.diverged for run in mine if run.status == "diverged"}
            known = {run.seed: run.test_accuracy for run in mine} | gone
            by_seed.append({seed: 100 * a for seed, a in known.items() if a is not None})
        seeds = [seed for seed in by_seed[0] if seed in by_seed[-1]]
        first, second = ([one[seed] for seed in seeds] for one in (by_seed[0], by_seed[-1]))
        gain = len(by_seed) == 2
        values = [b - a for a, b in zip(first, second, strict=True)] if gain else first
        if len(seeds) < FEWEST:
            return {"values": values, "found": None}
        found = stats.predict_gain(first, second) if gain else stats.predict_run(first)
        if (found.of_seed or 0.0) <= ALIKE:
            return {"word": "inconclusive", "why": "alike", "values": values}
        number = float(claim.number or 0)
        return {
            "values": values,
            "found": found,
            "p_difference": found.p_value(number),
            "p_sameness": found.equivalence(number, self.study.report.value_margin),
        }

    def difference(self, runs: Sequence[Sequence[RunRow]], margin: float) -> dict[str, Any]:
        """The second method minus the first, for new seeds and new reviews."""
        first, second = (self.tested.answers(mine, self.diverged) for mine in runs)
        seeds = [seed for seed in first if seed in second]
        values = [100 * float((second[seed] - first[seed]).mean()) for seed in seeds]
        found = self.tested.between(first, second)
        if found is None or (why := undecidable(found)) == "few_runs":
            return {"values": values, "found": None}
        squared = {n: 1e4 * getattr(found, n) for n in ("of_seeds", "of_reviews", "residual")}
        found = replace(found, mean=100 * found.mean, **squared)
        if why:
            return {"word": "inconclusive", "why": why, "values": values, "found": None}
        same = found.equivalence(margin) if margin else None
        p = found.p_value(margin=margin)
        return {"values": values, "found": found, "p_difference": p, "p_sameness": same}

    def selection(self) -> dict[str, Any]:
        """The article's choice against the grid's winner, both on fresh seeds."""
        grid, tuned = self.results.grid, article().methods["lora_tuned"].lora
        cells = [cell for cell in self.results.cells if cell.is_done]
        chosen = next((cell for cell in cells if cell.settings.lora == tuned), None)
        if grid.winner_by_validation is None or chosen is None:
            done = (grid.done, grid.asked)
            return {"word": "inconclusive", "why": "grid_incomplete", "values": done}
        behind = 100 * ((cells[0].val_accuracy or 0) - (chosen.val_accuracy or 0))
        values = {"values": (cells.index(chosen) + 1, grid.asked, behind)}
        if chosen is cells[0]:
            return {"word": "consistent", "why": "first"} | values
        others = [row for row in grid.runners_up if row.name == chosen.name]
        rows = [row for row in (*others, grid.winner) if row]
        no_fresh = {"word": "inconclusive", "why": "no_fresh"} | values
        if len(rows) < 2:
            return no_fresh
        found = self.difference([self.results.runs_of(row) for row in rows], 0.0)
        return (found if found["found"] else no_fresh | found) | values

    def decided(self, facts: dict[str, Any], tests: int) -> Verdict:
        found = facts.pop("found", None)
        if "word" not in facts and found is None:
            facts |= {"word": "inconclusive", "why": "few_runs"}
        elif "word" not in facts:
            facts |= self.outcome(facts, found, tests)
        verdict = Verdict(**facts)
        reason = verdict.reason or say("reason", verdict, self.study.report)
        return verdict.model_copy(update={"reason": reason})

    def outcome(
        self, facts: dict[str, Any], found: Components | Prediction, tests: int
    ) -> dict[str, Any]:
        """What the tests decide: the word, why, and the interval."""
        claim, report = facts["claim"], self.study.report
        kind, alpha = claim.kind, 1 - report.confidence
        p = [facts.get(name) for name in P_VALUES]
        differs, same = (one is not None and one.holm < alpha for one in p)
        interval = found.interval(report.confidence)
        low, high = float(interval.low or 0), float(interval.high or 0)
        if kind == "value":
            interval = stats.clipped(interval, 0.0 if len(claim.methods) == 1 else -100.0, 100.0)
        measured: dict[str, Any] = {"measured_percent": interval}
        if kind == "selection":
            behind = differs and found.mean > 0
            return measured | {"word": "not reproduced" if behind else "consistent", "why": "place"}
        if same:
            return measured | {"word": "reproduced", "why": "near"}
        if differs:
            right = kind == "order" and found.mean > 0
            why = "apart" if kind == "sameness" else ""
            return measured | {"word": "reproduced" if right else "not reproduced", "why": why}
        narrow = (high - low) / 2 <= report.precision
        if kind != "order" and narrow and low <= claim.number <= high:
            why = "not_shown" if kind == "sameness" else ""
            return measured | {"word": "consistent", "why": why}
        early = any(one and one.raw < alpha for one in (p if kind == "sameness" else p[:1]))
        strict = 1 - alpha / tests  # Holm's first step
        if isinstance(found, Prediction):
            # Two one-sided tests at the strict level.
            seeds = found.seeds_needed(report.value_margin, 2 * strict - 1)
            no_seeds = say("no_seeds", "run", report.value_margin)
        else:
            margin, how = report.sameness_margin, {"level": strict, "power": report.power}
            seeds = stats.seeds_for_margin(found, margin, **how, sameness=kind == "sameness")
            no_seeds = say("no_seeds", "reviews", margin)
        needed = {"seeds_needed": seeds, "no_seeds": "" if seeds else no_seeds}
        return measured | {"word": "inconclusive", "why": UNDECIDED[kind][early]} | needed
