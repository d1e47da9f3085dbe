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
from lora_replication.record import PREDICTIONS
from lora_replication.report.predictions import Predictions, read_columns, right_answers
from lora_replication.report.results import Finding, Results, Tried, Tuning, Word
from lora_replication.report.verdicts import FEWEST, undecidable
from lora_replication.statistics import Components
from lora_replication.statistics.selection import not_excluded_over_seeds, peaks
from lora_replication.study import Study
from lora_replication.workspace import Workspace

Answers = NDArray[np.float64]
"""(seeds, reviews): right or wrong on validation; a diverged run is right by chance throughout."""

POWERS = {"article": 0.0, "rslora": 0.5, "paper": 1.0}
"""Of the rank, by which alpha is divided to give s."""

Measured = tuple[Components, bool, bool]
"""What was measured; whether it may be lower, or higher, as a best rate is the last one tried."""


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
    answers = {name: [_answers(workspace, one) for one in own] for name, own in trials.items()}
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
    guessed = np.full(workspace.study.data.reviews.val, 1 / len(trial.settings.classes))
    rows = []
    for record in (one for one in trial.records if not one.asked.nudge):
        row, file = guessed, workspace.folder(record.asked) / PREDICTIONS
        if record.happened.val:
            row = right_answers(read_columns(file, record), file, record, "val").astype(np.float64)
        rows.append(row)
    return np.array(rows)


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
    """A method's settings as a table of forms (alpha, rank) and rates, each ascending."""

    def __init__(self, trials: Sequence[Trial], answers: Sequence[Answers]) -> None:
        placed: dict[tuple[float, float, float], Answers] = {}
        for trial, own in zip(trials, answers, strict=True):
            lora = trial.settings.lora
            form = (lora.alpha, float(lora.rank)) if lora else (1.0, 1.0)
            placed[*form, trial.settings.learning_rate] = own
        self.forms = sorted({place[:2] for place in placed})
        self.logs = np.log10(sorted({place[2] for place in placed}))
        lora = trials[0].settings.lora
        self.scaling = lora.scaling if lora else "article"
        self.answers = np.array([placed[place] for place in sorted(placed)])

    def curves(self, accuracies: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., settings) as (..., forms, rates)."""
        return accuracies.reshape(*accuracies.shape[:-1], len(self.forms), len(self.logs))

    def best(self, accuracies: NDArray[np.float64], is_open: bool) -> NDArray[np.float64]:
        """The logarithm (base 10) of each form's best rate, (..., forms); if it is an end of those
        tried and ``is_open``, infinite, and NaN if it is both ends.
        """
        curves = self.curves(accuracies)
        found = peaks(self.logs, curves)
        for end, beyond in ((0, -math.inf), (-1, math.inf)) if is_open else ():
            found = found + np.where(curves[..., end] == curves.max(-1), beyond, 0)
        return found

    def top(self, accuracies: NDArray[np.float64], is_open: bool) -> NDArray[np.float64]:
        """The same of the form with the highest accuracy, (...,)."""
        form = self.curves(accuracies).max(-1).argmax(-1)
        return np.take_along_axis(self.best(accuracies, is_open), form[..., None], -1)[..., 0]

    def axis(self, name: str | None) -> list[float]:
        """Each form's alpha or rank."""
        return [form[name == "rank"] for form in self.forms]

    def weights(self, claim: RateClaim) -> NDArray[np.float64]:
        """What each form's best rate counts in the claimed slope; 0 where an axis has one value.

        At another scaling the same s is alpha times a power of the rank, so that the slope on the
        rank is less that power times the slope on alpha.
        """
        own, alpha = (np.log10(self.axis(name)) for name in (claim.axis, "alpha"))
        own, alpha = own - own.mean(), alpha - alpha.mean()
        power = POWERS[claim.scaling] - POWERS[self.scaling] if claim.axis == "rank" else 0
        if not np.ptp(own) or (power and not np.ptp(alpha)):
            return np.zeros(len(own))
        found: NDArray[np.float64] = own / (own @ own)
        return (found - power * alpha / (alpha @ alpha) if power else found).round(9)


def _between(results: Results, tested: Predictions, methods: Sequence[str]) -> Components | None:
    """The second method minus the first, each at its own rate; None where one is missing."""
    rows = [row for name in methods for row in results.tuned if row.name == name]
    answers = (tested.answers(results.runs_of(row)) for row in rows)
    return tested.between(*answers) if len(rows) == 2 else None


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
    measures: dict[str, Callable[[_Sweep, RateClaim], Measured]] = {
        "ratio": partial(_ratio, full=full), "slope": _slope, "gain": _gain,
    }  # fmt: skip
    found = [
        (claim, name, measures[claim.kind](sweeps[name], claim))
        for claim, name in product(rate_claims(), lora)
        if (full if claim.kind == "ratio" else claim.axis and sweeps[name].weights(claim).any())
    ]
    found += [
        (claim, claim.methods[1], (difference, False, False))
        for claim in rate_claims()
        if claim.kind == "order" and (difference := between(claim.methods))
    ]
    level = 1 - (1 - study.report.confidence) / max(1, len(found))
    return [_judged(*one, level, study) for one in found]


def _measured(
    statistic: Callable[[NDArray[np.float64], bool], NDArray[np.float64]], answers: Answers
) -> Measured:
    """``statistic`` is of accuracies (..., settings), and of whether ends are open."""
    found = stats.resampled_components(lambda seen: statistic(seen, False), answers)
    by_seed = answers.mean(2).T
    with np.errstate(invalid="ignore"):  # lowest and highest at once is NaN
        ends = statistic(np.vstack([by_seed, by_seed.mean(0)]), True)
    low, high = (bool((np.isnan(ends) | (ends == end)).any()) for end in (-math.inf, math.inf))
    return found, low, high


def _ratio(sweep: _Sweep, _: RateClaim, full: Sequence[_Sweep]) -> Measured:
    """Logarithm of the best rate over that of training everything, both over all their settings."""
    other, n = full[0], len(sweep.answers)
    return _measured(
        lambda seen, is_open: sweep.top(seen[..., :n], is_open) - other.top(seen[..., n:], is_open),
        np.concatenate([sweep.answers, other.answers]),
    )


def _slope(sweep: _Sweep, claim: RateClaim) -> Measured:
    """Of log best rate on the log of the axis, over all values of the other one."""
    weights = sweep.weights(claim)
    says = weights != 0  # the middle of three values says nothing
    return _measured(
        lambda seen, is_open: sweep.best(seen, is_open)[..., says] @ weights[says], sweep.answers
    )


def _gain(sweep: _Sweep, claim: RateClaim) -> Measured:
    """What the best value of the axis has over the worst, each at its own best setting.

    The values, and their settings, are chosen on all seeds but one and compared on that one, for
    each seed in turn, so that choosing makes no gain.
    """
    rates, rows, is_open = len(sweep.logs), [], False
    values = np.repeat(sweep.axis(claim.axis), rates)
    for seed in range(seeds := sweep.answers.shape[1]):
        others = [other for other in range(seeds) if other != seed] or [seed]
        means = sweep.answers[:, others].mean((1, 2))
        bests = [np.where(values == value, means, -1).argmax() for value in np.unique(values)]
        is_open |= any(best % rates in (0, rates - 1) for best in bests)
        ranked = sorted(bests, key=lambda setting: means[setting])
        rows.append(sweep.answers[ranked[-1], seed] - sweep.answers[ranked[0], seed])
    return stats.crossed_components(rows), is_open, is_open


def _judged(
    claim: RateClaim, method: str, measured: Measured, level: float, study: Study
) -> Finding:
    found, *is_open = measured
    report, interval, reason = study.report, found.interval(level), undecidable(found)
    unit, is_above = 1 if claim.kind in ("ratio", "slope") else 100, claim.number is None
    number, margin = (claim.number or 0.0) / unit, (claim.margin or report.sameness_margin) / unit
    if claim.kind == "ratio":
        number, margin = math.log10(number), math.log10(margin)
    low = -math.inf if interval.low is None or is_open[0] else interval.low
    high = math.inf if interval.high is None or is_open[1] else interval.high
    near = (0.0, math.inf) if is_above else (number - margin, number + margin)
    word: Word = "inconclusive"
    if not reason and near[0] <= low and high <= near[1]:
        word = "reproduced"
    elif not reason and (high < near[0] or low > near[1]):
        word = "not reproduced"
    needed: int | None = FEWEST
    if found.seeds > 1:
        needed = stats.seeds_for_margin(found, margin, level=level if is_above else (1 + level) / 2,
                                        power=report.power, sameness=not is_above)  # fmt: skip
    if word != "inconclusive" or reason == "few_reviews" or any(is_open):
        needed = None

    def shown(value: float) -> float:
        return 10 ** min(value, 300) if claim.kind == "ratio" else unit * value

    ends = [shown(end) if math.isfinite(end) else None for end in (low, high)]
    return Finding(claim=claim, method=method, word=word, measured=shown(found.mean), low=ends[0],
                   high=ends[1], seeds_needed=needed and max(FEWEST, needed))  # fmt: skip
