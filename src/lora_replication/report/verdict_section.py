"""The report's first section: a verdict on each of the article's claims."""

from collections.abc import Sequence

from lora_replication.report.tables import Cell, Table
from lora_replication.report.verdicts import WORDS, Verdict, headline
from lora_replication.report.wording import ABSENT, count, level, remark
from lora_replication.study import Study


def verdict_statement(verdicts: Sequence[Verdict], study: Study) -> tuple[str, ...]:
    """How many claims came out how, and what the words mean."""
    used = [word for word in WORDS if any(verdict.word == word for verdict in verdicts)]
    report = study.report
    meaning = "; ".join(f"{word}: {WORDS[word]}" for word in used)
    silent = [verdict for verdict in verdicts if verdict.word == "not judged"]
    reasons = {
        verdict.reason: [one.claim.name for one in silent if one.reason == verdict.reason]
        for verdict in silent
    }
    return (
        headline(verdicts),
        f"{meaning[0].upper()}{meaning[1:]}.",
        f"The margins were set before the runs: {report.value_margin:g} points for a published accuracy, {report.sameness_margin:g} points "
        f"for sameness, {report.precision:g} points for the half of an interval that decides anything. All tests together have a chance of "
        f"at most {level(1 - report.confidence)} of calling out a difference where there is none.",
        *(f"Not judged, as {reason}: {', '.join(names)}." for reason, names in reasons.items()),
    )


def verdict_table(verdicts: Sequence[Verdict], study: Study) -> Table:
    """Every claim with its verdict, the reason, and p values before and after Holm's correction."""
    return Table(
        name="claims",
        caption=(
            "The article's claims that this study speaks of. p: of the test of a difference and of the test of sameness, below it after "
            "Holm's correction over all claims. Seeds needed: with how many the study would decide if effect and scatter were those "
            "seen; an estimate, before Holm's correction, or with its strictest step where the correction alone stands in the way. "
            f"{remark(study)}"
        ).strip(),
        columns=("Claim", "Verdict", "Why", "p, difference", "p, sameness", "Seeds needed"),
        rows=tuple(_row(verdict) for verdict in verdicts if verdict.word != "not judged"),
        left=frozenset({0, 1, 2}),
    )


def _row(verdict: Verdict) -> tuple[Cell, ...]:
    return (
        Cell(verdict.claim.words, f"{verdict.claim.kind}: {verdict.claim.test}"),
        Cell(
            verdict.word,
            verdict.scope,
            alert=verdict.word == "not reproduced"
            and not (verdict.scope and verdict.claim.is_about_sizes),
        ),
        Cell(verdict.reason),
        *(
            Cell(_p(pair[0]), f"Holm {_p(pair[1])}") if pair else Cell(ABSENT)
            for pair in (verdict.p_difference, verdict.p_sameness)
        ),
        Cell(count(verdict.seeds_needed)),
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
