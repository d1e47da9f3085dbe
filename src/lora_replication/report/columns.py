"""The columns of every table of a study's report: the one place where each is stated."""

from collections.abc import Callable, Sequence
from typing import Any

from lora_replication.record import Epoch
from lora_replication.report.results import Comparison, MethodRow, Results, RunRow, Slices, Verdict
from lora_replication.report.tables import Column, Table, table
from lora_replication.report.words import (
    ABSENT,
    MINUS,
    count,
    duration,
    ends,
    estimate,
    gibibytes,
    level,
    method,
    of,
    p_value,
    percent,
    signed,
    signed_ends,
)
from lora_replication.statistics import Interval


def main_columns(results: Results) -> list[Column]:
    """Of the main table: a row a method, and the grid's winner."""
    confidence = level(results.confidence)
    return [
        Column("", lambda row: results.study["study"], name="study"),
        Column("", lambda row: results.title, name="title"),
        Column("", "name", name="method"),
        Column("Method", "name", method, _text("trains"), left=True, short="Method", narrow=True),
        *_csv("role", "trains"),
        Column("Trainable parameters", "trainable_parameters", count,
               name="trainable_parameters", short="Parameters", narrow=True),
        Column("", lambda row: len(row.seeds), name="runs_asked"),
        *_csv("runs_done", "runs_diverged", "runs_one_class"),
        Column("Runs", _runs, note=_odd_runs, alert=_is_odd, short="Runs"),
        Column("Train", "train", estimate, name="train_accuracy", short="Train"),
        Column("Validation", "val", estimate, name="val_accuracy", short="Val."),
        Column("Test", "test", estimate, name="test_accuracy", short="Test", narrow=True),
        Column("", "test_sampling.n", name="test_reviews"),
        Column("", lambda row: results.confidence, name="confidence_level"),
        Column(f"Test sampling, {confidence}", "test_sampling", ends,
               lambda row: _n(row.test_sampling, "reviews"), name="wilson", short="Sampling"),
        Column("", lambda row: row.test.n if row.test else 0, name="t_runs"),
        Column(f"Seeds, {confidence}", "test", ends, _seeds_note, name="t", short="Seeds",
               narrow=True),
        Column("Article: trainable parameters", "published.trainable_parameters", count,
               _text("note"), name="article_trainable_parameters"),
        Column("Article: train / validation / test", _article_accuracies, note=_text("note")),
        *(Column("", _fraction(f"{part}_percent"), name=f"article_{part}_accuracy")
          for part in ("train", "val", "test")),
        Column("Article: minutes on one A10G", "published.minutes", _hundredths, _minutes_note,
               name="article_minutes"),
        Column("", lambda row: row.comparable if row.published else None,
               name="article_comparable"),
        Column("", lambda row: row.published.test_percent if row.comparable else None,
               _hundredths, short="Article", narrow=True),
        Column("", lambda row: " ".join(filter(None, [results.remark, row.note])), name="remark"),
    ]  # fmt: skip


def _csv(*names: str) -> list[Column]:
    return [Column("", name, name=name) for name in names]


def _text(name: str) -> Callable[[Any], str]:
    return lambda row: str(getattr(row, name))


def _n(interval: Interval | None, what: str) -> str:
    return f"n = {interval.n:,} {what}" if interval else ""


def _runs(row: MethodRow) -> str:
    return f"{row.runs_done} of {len(row.seeds)}"


def _odd_runs(row: MethodRow) -> str:
    counts = {"diverged": row.runs_diverged, "collapsed": row.runs_one_class}
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def _is_odd(row: MethodRow) -> bool:
    return bool(_odd_runs(row)) or row.runs_done < len(row.seeds)


def _seeds_note(row: MethodRow) -> str:
    one_run = row.test is not None and row.test.low is None
    return "one run: no interval" if one_run else _n(row.test, "runs")


def _fraction(name: str) -> Callable[[MethodRow], float | None]:
    """A published percentage, which has two decimals, as the fraction with four."""
    return lambda row: round(getattr(row.published, name) / 100, 4) if row.published else None


def _minutes_note(row: MethodRow) -> str:
    return "not stated" if row.published and row.published.minutes is None else row.note


def _hundredths(number: float | None) -> str:
    return ABSENT if number is None else f"{number:.2f}"


def _article_accuracies(row: MethodRow) -> str | None:
    known = row.published
    if known is None:
        return None
    return f"{known.train_percent:.2f} / {known.val_percent:.2f} / {known.test_percent:.2f}"


def _status(run: RunRow) -> str:
    return "ok, collapsed" if run.status == "ok" and run.one_class else run.status


def _status_note(run: RunRow) -> str:
    step = f"from step {run.first_bad_step:,}" if run.first_bad_step else ""
    return "" if run.status == "ok" else run.error or step


def _notes(run: RunRow) -> str:
    return "; ".join(run.notes)


STATUS = Column("Status", _status, note=_status_note, alert=lambda run: _status(run) != "ok",
                left=True)  # fmt: skip
KEY = Column("Key", lambda run: run.key[:10], left=True)
PARTS = [
    Column("Train", "train_accuracy", percent),
    Column("Validation", "val_accuracy", percent),
    Column("Test", "test_accuracy", percent),
]

RUNS = [
    Column("Method", "name", method, _notes, left=True),
    Column("Seed", "seed"),
    STATUS,
    Column("Best epoch", "best_epoch", count),
    *PARTS,
    Column("Time", "seconds", duration),
    Column("Tokens / s", "tokens_per_second", count),
    Column("Memory", "peak_memory_bytes", gibibytes),
    KEY,
]

CELLS = [
    Column("Place", "place"),
    Column("Configuration", "name", note=_notes, left=True),
    Column("Rank", "lora.rank"),
    Column("Alpha", "lora.alpha", lambda alpha: f"{alpha:g}"),
    Column("Trainable parameters", "trainable_parameters", count),
    *PARTS,
    STATUS,
    KEY,
]

CHOICE = [
    Column("Configuration", "configuration", note=_text("trains"), left=True),
    Column("Chosen as", lambda row: row.role.replace("_", "-"), left=True),
    Column("Trainable parameters", "trainable_parameters", count),
    Column("Runs", _runs),
    Column("Validation in the grid", "grid_val_accuracy", percent),
    Column("Test", "test", estimate),
    Column("Over seeds", "test", ends),
    Column("Difference", "difference_from_winner.estimate", signed),
    Column("Over seeds", "difference_from_winner", signed_ends),
]


def _p(heading: str, name: str) -> Column:
    corrected = Column("", f"{name}.holm")

    def note(verdict: Verdict) -> str:
        p = corrected.of(verdict)
        return "" if p is None else f"Holm {p_value(p)}"

    return Column(heading, f"{name}.raw", p_value, note)


def _fails(verdict: Verdict) -> bool:
    follows_from_sizes = bool(verdict.scope) and verdict.claim.is_about_sizes
    return verdict.word == "not reproduced" and not follows_from_sizes


VERDICTS = [
    Column("Claim", "claim.words", left=True,
           note=lambda verdict: f"{verdict.claim.kind}: {verdict.claim.test}"),
    Column("Verdict", "word", note=_text("scope"), alert=_fails, left=True),
    Column("Why", "reason", left=True),
    _p("p, difference", "p_difference"),
    _p("p, sameness", "p_sameness"),
    Column("Seeds needed", "seeds_needed", count),
]  # fmt: skip


def comparison_columns(results: Results) -> list[Column]:
    """Of every two methods."""
    alpha, power = 1 - results.confidence, level(results.study["report"]["power"])
    seeds = len(results.study["run"]["seeds"])

    def found(pair: Comparison) -> str | None:
        significant = sum(test.p_value < alpha for test in pair.mcnemar)
        return f"{significant} of {len(pair.mcnemar)}" if pair.mcnemar else None

    return [
        Column("Methods", lambda pair: f"{method(pair.second)} {MINUS} {method(pair.first)}",
               left=True),
        Column("Difference", "paired.difference.estimate", signed),
        Column("Seeds", "paired.difference", signed_ends,
               lambda pair: f"n = {of(len(pair.seeds), seeds)} seeds"),
        Column("p", "paired.p_value", _digits,
               lambda pair: "" if pair.p_holm is None else f"Holm {_digits(pair.p_holm)}"),
        Column("Seeds and reviews", "both", signed_ends,
               _by_movie),
        Column("McNemar", found),
        Column(f"Detectable difference ({power} power), seeds", "detectable_by_seeds", percent),
        Column(f"Detectable difference ({power} power), reviews", "detectable_by_reviews",
               percent),
    ]  # fmt: skip


def _by_movie(pair: Comparison) -> str:
    return f"by movie {signed_ends(pair.both_by_movie)}" if pair.both_by_movie else ""


def _digits(p: float | None) -> str:
    return ABSENT if p is None else f"{p:.3g}"


def _slice(heading: str, name: str) -> Column:
    def note(row: Slices) -> str:
        interval = getattr(row, name)
        return f"{ends(interval)}, n = {interval.n:,}" if interval else "none, or unknown"

    return Column(heading, name, estimate, note)


def _movies(row: Slices) -> str:
    known = row.by_movie
    return known.source.removeprefix("test sampling, ") if known else "movies unknown"


SLICES = [
    Column("Method", "name", method, lambda row: f"{row.runs} run{'s' if row.runs > 1 else ''}",
           left=True),
    _slice("All test reviews", "plain"),
    Column("By movie", "by_movie", ends, _movies),
    Column("Runs and reviews", "both", ends),
    _slice("Unseen movies", "unseen_movies"),
    _slice("Texts not repeated", "unique_texts"),
]  # fmt: skip

SPLIT = [
    Column("Part", lambda part: {"train": "Training", "val": "Validation"}.get(part[0], "Test"),
           left=True),
    Column("Reviews", lambda part: part[1].reviews, count),
    Column("Negative, %", lambda part: part[1].negative_fraction, percent),
    Column("sha256 of the reviews", lambda part: part[1].reviews_sha256[:16], left=True),
    Column("sha256 of the tokens", lambda part: part[1].tokens_sha256[:16], left=True),
]  # fmt: skip

MACHINES = [
    Column("Runs", "runs", count),
    Column("Code", lambda place: (place["git_commit"] or "no git")[:12], left=True,
           note=lambda place: "with local changes" if place["git_dirty"] else "",
           alert=lambda place: bool(place["git_dirty"])),
    Column("Processor", "cpu", note=lambda place: f"{place['cores']} cores", left=True),
    Column("GPU", lambda place: place["gpu"] or "none", left=True),
    Column("Threads of torch", "threads"),
    Column("Memory", "memory_bytes", gibibytes),
    Column("System", "platform", left=True),
    Column("Versions", lambda place: ", ".join(
        f"{name} {version}" for name, version in sorted(place["versions"].items())), left=True),
]  # fmt: skip

CURVES = [
    *(Column("", f"run.{name}", name="method" if name == "name" else name)
      for name in ("name", "seed", "status")),
    *(Column("", f"epoch.{name}", name=name) for name in Epoch.model_fields),
    Column("", "remark", name="remark"),
]  # fmt: skip

LONG = _csv(*(name for name in RunRow.model_fields if name not in (
    "epochs", "test_wilson", "test_exact", "lora", "notes"))) + [
    Column("", f"lora.{name}", name=name) for name in ("rank", "alpha", "targets", "scaling",
                                                       "dropout")
]  # fmt: skip


def tables(results: Results) -> dict[str, Table]:
    """Every table of the page by name; those without a row are left out."""
    fresh = [results.grid.winner, *results.grid.runners_up] if results.grid.runners_up else []
    made: list[tuple[str, Sequence[Column], Sequence[Any]]] = [
        ("verdicts", VERDICTS, [v for v in results.verdicts if v.word != "not judged"]),
        ("methods", main_columns(results), results.rows),
        ("runs", RUNS, [run for run in results.runs if run.role != "cell"]),
        ("comparisons", comparison_columns(results), results.comparisons),
        ("choice", CHOICE, [row for row in fresh if row]),
        ("cells", CELLS, results.cells),
        ("split", SPLIT, list(results.data.parts.items())),
        ("slices", SLICES, results.slices),
        ("machines", MACHINES, results.machines),
    ]
    return {name: table(name, columns, rows) for name, columns, rows in made if rows}
