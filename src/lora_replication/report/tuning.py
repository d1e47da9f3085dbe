"""What the sweeps of a study say: each setting that was tried, the chosen ones, and verdicts on
what others report about learning rates. Accuracies are on validation, fractions from 0 to 1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np
from numpy.typing import NDArray

from lora_replication import statistics as stats
from lora_replication.article import RateClaim, rate_claims
from lora_replication.grid.choice import Trial, chosen_trial, trials_of
from lora_replication.plan import Progress
from lora_replication.record import PREDICTIONS, Record
from lora_replication.report.predictions import Predictions, read_columns, right_answers
from lora_replication.report.results import Finding, Results, Tried, Tuning, Word
from lora_replication.report.verdicts import undecidable
from lora_replication.statistics import Components
from lora_replication.statistics.selection import not_excluded_over_seeds, slope, slope_bounds
from lora_replication.study import Study
from lora_replication.workspace import Workspace

Answers = NDArray[np.float64]
"""(seeds, reviews): right or wrong on validation; a diverged run is right by chance throughout."""

Setting = tuple[float, Answers]
"""A learning rate, and what is right at it."""

Bounded = tuple[float, float, float]
"""What was measured, and its bounds."""


def tuning(
    workspace: Workspace, progress: Progress, results: Results, tested: Predictions
) -> Tuning | None:
    """What the finished sweeps of a study say; None without sweeps, or before they are finished.

    Args:
        results: with the methods at their own rates; ``tested``: their predictions.

    Raises:
        DataError: predictions are missing or altered.
    """
    study, sweeps = workspace.study, workspace.study.sweeps
    records = [record for record in progress.done if record.asked.role == "trial"]
    asked = sum(run.role == "trial" for run in progress.asked)
    if sweeps is None or len(records) < asked:
        return None
    trials, level = trials_of(records), study.report.confidence
    answers = {
        method: [_answers(workspace, trial) for trial in own] for method, own in trials.items()
    }
    tried = [
        row
        for method, own in trials.items()
        for row in _tried(method, own, answers[method], sweeps.unstable_beyond, level)
    ]
    return Tuning(
        trials=max(axes.trials for axes in sweeps.methods.values()),
        seeds=sweeps.seeds,
        nudges=sweeps.nudges,
        runs=len(records),
        unstable_beyond=sweeps.unstable_beyond,
        level=level,
        tried=tried,
        findings=_findings(study, trials, answers, partial(_between, results, tested)),
    )


def _answers(workspace: Workspace, trial: Trial) -> Answers:
    rows = [_right(workspace, r) for r in trial.records if not r.asked.nudge]
    guessed = np.full(workspace.study.data.reviews.val, 1 / len(trial.settings.classes))
    return np.array([guessed if row is None else row for row in rows], np.float64)


def _right(workspace: Workspace, record: Record) -> NDArray[np.bool_] | None:
    """Whether each validation review is predicted rightly; None for a run that diverged."""
    if record.happened.val is None:
        return None
    file = workspace.folder(record.asked) / PREDICTIONS
    return right_answers(read_columns(file, record), file, record, "val")


def _tried(
    method: str, trials: Sequence[Trial], answers: Sequence[Answers], beyond: float, level: float
) -> list[Tried]:
    chosen = chosen_trial(trials, beyond)
    may_be_best = not_excluded_over_seeds(answers, level)
    return [
        Tried(
            method=method,
            learning_rate=trial.settings.learning_rate,
            alpha=trial.settings.lora.alpha if trial.settings.lora else None,
            rank=trial.settings.lora.rank if trial.settings.lora else None,
            val=stats.clipped(stats.crossed_components(own).interval(level), 0.0, 1.0),
            runs=len(trial.records),
            spread=trial.spread,
            nudged=trial.nudged,
            diverged=trial.diverged,
            stable=trial.is_stable(beyond),
            chosen=trial is chosen,
            may_be_best=best,
        )
        for trial, own, best in zip(trials, answers, may_be_best, strict=True)
    ]


class _Sweep:
    """A method's settings by (alpha, rank), each with its rates and their answers."""

    def __init__(self, trials: Sequence[Trial], answers: Sequence[Answers]) -> None:
        self.by_form: dict[tuple[float, float], dict[float, Answers]] = {}
        for trial, own in zip(trials, answers, strict=True):
            lora = trial.settings.lora
            form = (lora.alpha, float(lora.rank)) if lora else (1.0, 1.0)
            self.by_form.setdefault(form, {})[trial.settings.learning_rate] = own

    def axis(self, claim: RateClaim, *, other: bool = False) -> list[float]:
        """The values of the claim's axis, or of the other one."""
        return sorted({form[_place(claim) ^ other] for form in self.by_form})

    def settings(self, *forms: tuple[float, float]) -> list[Setting]:
        """Of these forms, or of all."""
        return [one for form in forms or self.by_form for one in self.by_form[form].items()]


def _best(settings: Sequence[Setting]) -> float:
    """The logarithm (base 10) of the rate with the highest accuracy."""
    return math.log10(max(settings, key=lambda one: (one[1].mean(), -one[0]))[0])


def _candidates(settings: Sequence[Setting], level: float) -> tuple[float, float]:
    """The lowest and highest logarithm of a rate that can't be excluded as the best; infinite at an
    end of the rates that were tried, as the best may lie beyond it.
    """
    rates, answers = zip(*settings, strict=True)
    kept = not_excluded_over_seeds(answers, level)
    found = [rate for rate, is_kept in zip(rates, kept, strict=True) if is_kept]
    low = -math.inf if min(found) == min(rates) else math.log10(min(found))
    high = math.inf if max(found) == max(rates) else math.log10(max(found))
    return low, high


def _between(results: Results, tested: Predictions, methods: Sequence[str]) -> Components | None:
    """The second method minus the first, each at its own rate; None where one is missing."""
    rows = [row for name in methods for row in results.tuned if row.name == name]
    if len(rows) < 2:
        return None
    return tested.between(*(tested.answers(results.runs_of(row)) for row in rows))


def _findings(
    study: Study,
    trials: Mapping[str, Sequence[Trial]],
    answers: Mapping[str, Sequence[Answers]],
    between: Callable[[Sequence[str]], Components | None],
) -> list[Finding]:
    """A verdict on each claim for each method of LoRA that has the axes for it; the bounds of all
    hold together (Bonferroni).
    """
    sweeps = {name: _Sweep(own, answers[name]) for name, own in trials.items()}
    full = [sweeps[name] for name in sweeps if study.methods[name].trains == "all"]
    lora = [name for name in sweeps if study.methods[name].lora]
    measures: dict[str, Callable[[_Sweep, RateClaim, float], Bounded]] = {
        "ratio": partial(_ratio, full=full), "slope": _slope, "gain": _gain,
    }  # fmt: skip
    asked = [
        (claim, name)
        for claim, name in product(rate_claims(), lora)
        if (full if claim.kind == "ratio" else claim.axis and len(sweeps[name].axis(claim)) > 1)
    ]
    orders = [(c, d) for c in rate_claims() if c.kind == "order" and (d := between(c.methods))]
    level = 1 - (1 - study.report.confidence) / max(1, len(asked) + len(orders))
    found = [
        _judged(claim, name, measures[claim.kind](sweeps[name], claim, level),
                _seeds_needed(sweeps[name], study), study)
        for claim, name in asked
    ]  # fmt: skip
    return found + [_ordered(claim, difference, level, study) for claim, difference in orders]


def _ordered(claim: RateClaim, found: Components, level: float, study: Study) -> Finding:
    interval, report = found.interval(level), study.report
    low, high = (None if end is None else 100 * end for end in (interval.low, interval.high))
    word: Word = "inconclusive"
    if not undecidable(found) and low is not None and high is not None and (low > 0 or high < 0):
        word = "reproduced" if low > 0 else "not reproduced"
    needed = stats.seeds_for_margin(found, report.sameness_margin / 100, level=level,
                                    power=report.power)  # fmt: skip
    return Finding(claim=claim, method=claim.methods[1], word=word, measured=100 * found.mean,
                   low=low, high=high,
                   seeds_needed=needed if word == "inconclusive" else None)  # fmt: skip


def _place(claim: RateClaim) -> int:
    return ("alpha", "rank").index(claim.axis or "alpha")


def _ratio(sweep: _Sweep, claim: RateClaim, level: float, full: Sequence[_Sweep]) -> Bounded:
    """Best rate over the best rate of training everything, both over all their settings."""
    own, others = sweep.settings(), full[0].settings()
    (low, high), (full_low, full_high) = (_candidates(s, (1 + level) / 2) for s in (own, others))
    logs = (_best(own) - _best(others), low - full_high, high - full_low)
    return 10 ** logs[0], 10 ** logs[1], 10 ** logs[2]


def _slope(sweep: _Sweep, claim: RateClaim, level: float) -> Bounded:
    """Of log best rate on the log of the axis, as a mean over the values of the other one."""
    place = _place(claim)
    xs, others = sweep.axis(claim), sweep.axis(claim, other=True)
    each = 1 - (1 - level) / (len(xs) * len(others))
    logs, lines = [math.log10(x) for x in xs], []
    for other in others:
        forms = [(x, other) if place == 0 else (other, x) for x in xs]
        ends = [_candidates(sweep.settings(form), each) for form in forms]
        bests = [_best(sweep.settings(form)) for form in forms]
        lines.append((slope(logs, bests), *slope_bounds(logs, *zip(*ends, strict=True))))
    measured, low, high = np.mean(lines, axis=0)
    return float(measured), float(low), float(high)


def _gain(sweep: _Sweep, claim: RateClaim, level: float) -> Bounded:
    """Points that the best value of the axis has over the worst, each at its own best setting.

    The values, and their settings, are chosen on all seeds but one and compared on that one, for
    each seed in turn, so that choosing makes no gain.
    """
    place = _place(claim)
    settings = [
        (form[place], own) for form, rates in sweep.by_form.items() for own in rates.values()
    ]
    seeds = len(settings[0][1])
    rows = []
    for seed in range(seeds):
        others = [other for other in range(seeds) if other != seed] or [seed]
        best: dict[float, Answers] = {}
        for value, own in settings:
            if value not in best or own[others].mean() > best[value][others].mean():
                best[value] = own
        ranked = sorted(best.values(), key=lambda own: own[others].mean())
        rows.append(ranked[-1][seed] - ranked[0][seed])
    found = stats.crossed_components(rows).interval(level)
    low, high = -1.0 if found.low is None else found.low, 1.0 if found.high is None else found.high
    return 100 * found.estimate, 100 * low, 100 * high


def _judged(
    claim: RateClaim, method: str, measured: Bounded, seeds: int | None, study: Study
) -> Finding:
    value, low, high = measured
    number, margin = claim.number or 0.0, claim.margin or study.report.sameness_margin
    is_ratio = claim.kind == "ratio"
    near = (number / margin, number * margin) if is_ratio else (number - margin, number + margin)
    word: Word = "inconclusive"
    if near[0] <= low and high <= near[1]:
        word = "reproduced"
    elif high < near[0] or low > near[1]:
        word = "not reproduced"
    ends = [end if math.isfinite(end) else None for end in (low, high)]
    needed = seeds if word == "inconclusive" else None
    return Finding(claim=claim, method=method, word=word, measured=value,
                   low=ends[0], high=ends[1], seeds_needed=needed)  # fmt: skip


def _seeds_needed(sweep: _Sweep, study: Study) -> int | None:
    """So that a setting worse than the best by ``report.value_margin`` is excluded; for the scatter
    between the two best of them.
    """
    ranked = sorted((own for _, own in sweep.settings()), key=lambda own: -float(own.mean()))
    found = stats.crossed_components(ranked[0] - ranked[1])
    level = 1 - 2 * (1 - study.report.confidence) / (len(ranked) - 1)
    margin, power = study.report.value_margin / 100, study.report.power
    return stats.seeds_for_margin(found, margin, level=level, power=power)
