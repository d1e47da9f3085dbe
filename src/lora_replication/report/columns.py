"""The columns of every table of a study's report: the one place where each is stated."""

from collections.abc import Callable, Sequence
from typing import Any

from lora_replication.record import Epoch
from lora_replication.report.results import MethodRow, Results, RunRow, Verdict
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
    p_value,
    percent,
    signed,
    signed_ends,
)
from lora_replication.study import method_in_words


def main_columns(results: Results) -> list[Column]:
    """Of the main table: a row a method, and the grid's winner."""
    confidence = level(results.confidence)
    return [
        Column("", lambda row: results.study["study"], name="study"),
        Column("", lambda row: results.title, name="title"),
        Column("", "name", name="method"),
        Column("Method", "name", method_in_words, _text("trains"), left=True, short="Method",
               narrow=True),
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
        Column(f"New seeds and new reviews, {confidence}", "interval", ends, _source,
               name="interval", short="Interval", narrow=True),
        Column("", "variance.components.seeds_share", name="seeds_share"),
        Column("", "test_sampling", ends, name="wilson"),
        Column("", lambda row: row.test.n if row.test else 0, name="t_runs"),
        Column("", "test", ends, name="t"),
        Column("Article: trainable parameters", "published.trainable_parameters", count,
               _text("note"), name="article_trainable_parameters"),
        Column("Article: train / validation / test", _article_accuracies, note=_text("note")),
        *(Column("", _fraction(f"{part}_percent"), name=f"article_{part}_accuracy")
          for part in ("train", "val", "test")),
        Column("Article: minutes on one A10G", "published.minutes", _rounded(2), _minutes_note,
               name="article_minutes"),
        Column("", lambda row: row.comparable if row.published else None,
               name="article_comparable"),
        Column("", lambda row: row.published.test_percent if row.comparable else None,
               _rounded(2), short="Article", narrow=True),
        Column("", lambda row: " ".join(filter(None, [results.remark, row.note])), name="remark"),
    ]  # fmt: skip


def _csv(*names: str) -> list[Column]:
    return [Column("", name, name=name) for name in names]


def _text(name: str) -> Callable[[Any], str]:
    return lambda row: str(getattr(row, name))


def _runs(row: MethodRow) -> str:
    return f"{row.runs_done} of {len(row.seeds)}"


def _odd_runs(row: MethodRow) -> str:
    counts = {"diverged": row.runs_diverged, "collapsed": row.runs_one_class}
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def _is_odd(row: MethodRow) -> bool:
    return bool(_odd_runs(row)) or row.runs_done < len(row.seeds)


def _source(row: MethodRow) -> str:
    """What the main interval is for and from, or why there is none."""
    if row.interval:
        return row.interval.source.removeprefix("seeds and reviews, ")
    return "no predictions, so no interval" if row.test else ""


def _fraction(name: str) -> Callable[[MethodRow], float | None]:
    """A published percentage, which has two decimals, as the fraction with four."""
    return lambda row: round(getattr(row.published, name) / 100, 4) if row.published else None


def _minutes_note(row: MethodRow) -> str:
    return "not stated" if row.published and row.published.minutes is None else row.note


def _rounded(digits: int) -> Callable[[float | None], str]:
    return lambda number: ABSENT if number is None else f"{number:.{digits}f}"


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
    Column("Train", "train.fraction", percent),
    Column("Validation", "val.fraction", percent),
    Column("Test", "test.fraction", percent),
]

RUNS = [
    Column("Method", "name", method_in_words, _notes, left=True),
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
    Column("Rank", "settings.lora.rank"),
    Column("Alpha", "settings.lora.alpha", lambda alpha: f"{alpha:g}"),
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
    Column("New seeds and new reviews", "interval", ends),
    Column("Difference", "difference_from_winner.estimate", signed),
    Column("New seeds and new reviews", "difference_from_winner", signed_ends),
]


def _p(heading: str, name: str) -> Column:
    corrected = Column("", f"{name}.holm")

    def note(verdict: Verdict) -> str:
        p = corrected.of(verdict)
        return "" if p is None else f"Holm {p_value(p)}"

    return Column(heading, f"{name}.raw", p_value, note)


VERDICTS = [
    Column("Claim", "claim.words", left=True,
           note=lambda verdict: f"{verdict.claim.kind}: {verdict.claim.test}"),
    Column("Verdict", "word", note=_text("scope"), left=True,
           alert=lambda verdict: verdict.word == "not reproduced"),
    Column("Why", "reason", left=True),
    _p("p, difference", "p_difference"),
    _p("p, sameness", "p_sameness"),
    Column("Seeds needed", "seeds_needed", count),
]  # fmt: skip


COMPARISONS = [
    Column("Methods", lambda pair: f" {MINUS} ".join(map(method_in_words, (pair.second, pair.first))),
           left=True),
    Column("Difference", "over_seeds.estimate", signed,
           lambda pair: f"n = {len(pair.seeds)} seeds"),
    Column("New seeds and new reviews", "interval", signed_ends,
           lambda pair: "" if pair.interval else "no predictions, so no interval"),
    Column("p", "p_value", p_value),
    Column("Share of seeds, %", "seeds_share", percent),
    Column("On these reviews", "over_seeds", signed_ends),
    Column("Probability of improvement", "probability_of_improvement", _rounded(2)),
]  # fmt: skip
"""Of every two methods."""


def _deviation(heading: str, name: str) -> Column:
    return Column(heading, lambda row: getattr(row.variance.components, name) ** 0.5, percent)


VARIANCE = [
    Column("Method", "name", method_in_words, left=True),
    _deviation("Standard error from seeds", "of_seeds"),
    _deviation("Standard error from reviews", "of_reviews"),
    Column("Share of seeds, %", "variance.components.seeds_share", percent),
    Column("Main interval", "interval", ends),
    Column("Without movies", "variance.by_review", ends),
    Column("Seeds, on these reviews", "test", ends),
    Column("Reviews, for these runs", "test_sampling", ends),
    Column("Median", "variance.median", percent),
    Column("Interquartile mean", "variance.interquartile_mean", percent),
]


def _score(heading: str, name: str, show: Callable[[Any], str]) -> Column:
    return Column(heading, lambda row: row.scores[name], show)


SCORES = [
    Column("Method", "name", method_in_words, left=True),
    Column("Accuracy", "test", estimate),
    _score("Accuracy at validation's threshold", "accuracy_at_threshold", percent),
    _score("AUROC, %", "auroc", percent),
    _score("Log loss", "log_loss", _rounded(3)),
    _score("Brier", "brier", _rounded(3)),
    _score("Calibration error, %", "calibration_error", percent),
]


def _on(heading: str, name: str) -> Column:
    def note(row: MethodRow) -> str:
        interval = getattr(row, name)
        return f"{ends(interval)}, n = {interval.n:,}" if interval else "none, or unknown"

    return Column(heading, name, estimate, note)


KINDS = [
    Column("Method", "name", method_in_words, left=True),
    _on("Unseen movies", "unseen_movies"),
    _on("Texts not repeated", "unique_texts"),
]

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

_SETTINGS = ("encoder", "max_tokens", "batch_size", "learning_rate", "precision", "trains")
_LORA = ("rank", "alpha", "targets", "scaling", "dropout")
LONG = [
    *_csv("role", "name", "seed", "key", "place"),
    *(Column("", f"settings.{name}", name=name) for name in _SETTINGS),
    *_csv("status", "error", "first_bad_step", "one_class", "best_epoch", "stopped_after"),
    *(Column("", f"{part}.{name}", name=f"{part}_{name.replace('fraction', 'accuracy')}")
      for part in ("train", "val", "test") for name in ("correct", "reviews", "fraction")),
    *_csv("trainable_parameters", "total_parameters", "pack", "training_seconds",
          "evaluation_seconds", "seconds", "tokens_per_second", "peak_memory_bytes", "commit",
          "cpu", "gpu", "threads"),
    *(Column("", f"settings.lora.{name}", name=name) for name in _LORA),
]  # fmt: skip


def tables(results: Results) -> dict[str, Table]:
    """Every table of the page by name; those without a row are left out."""
    fresh = [results.grid.winner, *results.grid.runners_up] if results.grid.runners_up else []
    made: list[tuple[str, Sequence[Column], Sequence[Any]]] = [
        ("verdicts", VERDICTS, [v for v in results.verdicts if v.word != "not judged"]),
        ("methods", main_columns(results), results.rows),
        ("runs", RUNS, [run for run in results.runs if run.role != "cell"]),
        ("variance", VARIANCE, [row for row in results.rows if row.variance]),
        ("scores", SCORES, [row for row in results.rows if row.scores]),
        ("comparisons", COMPARISONS, results.comparisons),
        ("choice", CHOICE, [row for row in fresh if row]),
        ("cells", CELLS, results.cells),
        ("split", SPLIT, list(results.data.parts.items())),
        ("kinds", KINDS, [row for row in results.rows if row.variance]),
        ("machines", MACHINES, results.machines),
    ]
    return {name: table(name, columns, rows) for name, columns, rows in made if rows}
