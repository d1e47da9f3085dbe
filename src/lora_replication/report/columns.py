"""The columns of every table of a study's report: the one place where each is stated."""

from collections.abc import Sequence
from typing import Any

from lora_replication.record import Epoch
from lora_replication.report.results import (
    Comparison,
    MethodRow,
    PValues,
    Results,
    RunRow,
    Slices,
    Verdict,
)
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
    text,
)
from lora_replication.statistics import Interval


def main_columns(results: Results) -> list[Column]:
    """Of the main table: a row a method, and the grid's winner."""
    confidence = level(results.confidence)
    return [
        Column("", lambda row: results.study["study"], name="study"),
        Column("", lambda row: results.title, name="title"),
        Column("", lambda row: row.name, name="method"),
        Column("Method", lambda row: row.name, method, lambda row: row.trains, left=True,
               short="Method", narrow=True),
        Column("", lambda row: row.role, name="role"),
        Column("", lambda row: row.trains, name="trains"),
        Column("Trainable parameters", lambda row: row.trainable_parameters, count,
               name="trainable_parameters", short="Parameters", narrow=True),
        Column("", lambda row: len(row.seeds), name="runs_asked"),
        Column("", lambda row: row.runs_done, name="runs_done"),
        Column("", lambda row: row.runs_diverged, name="runs_diverged"),
        Column("", lambda row: row.runs_one_class, name="runs_one_class"),
        Column("Runs", _runs, note=_odd_runs, alert=lambda row: bool(_odd_runs(row)) or
               row.runs_done < len(row.seeds), short="Runs"),
        Column("Train", lambda row: row.train, estimate, name="train_accuracy", short="Train"),
        Column("Validation", lambda row: row.val, estimate, name="val_accuracy", short="Val."),
        Column("Test", lambda row: row.test, estimate, name="test_accuracy", short="Test",
               narrow=True),
        Column("", lambda row: _n(row.test_sampling), name="test_reviews"),
        Column("", lambda row: results.confidence, name="confidence_level"),
        Column(f"Test sampling, {confidence}", lambda row: row.test_sampling, ends,
               lambda row: _n_note(row.test_sampling, "reviews"), name="wilson", short="Sampling"),
        Column("", lambda row: _n(row.test) or 0, name="t_runs"),
        Column(f"Seeds, {confidence}", lambda row: row.test, ends, _seeds_note, name="t",
               short="Seeds", narrow=True),
        Column("Article: trainable parameters", _published("trainable_parameters"), count, _note,
               name="article_trainable_parameters"),
        Column("Article: train / validation / test", _article_accuracies, note=_note),
        *(Column("", _published(f"{part}_percent", 100), name=f"article_{part}_accuracy")
          for part in ("train", "val", "test")),
        Column("Article: minutes on one A10G", _published("minutes"), _hundredths, _minutes_note,
               name="article_minutes"),
        Column("", lambda row: row.comparable if row.published else None,
               name="article_comparable"),
        Column("", _comparable_test, short="Article"),
        Column("", lambda row: " ".join(filter(None, [results.remark, row.note])), name="remark"),
    ]  # fmt: skip


def _runs(row: MethodRow) -> str:
    return f"{row.runs_done} of {len(row.seeds)}"


def _odd_runs(row: MethodRow) -> str:
    counts = {"diverged": row.runs_diverged, "collapsed": row.runs_one_class}
    return ", ".join(f"{number} {what}" for what, number in counts.items() if number)


def _n(interval: Interval | None) -> int | None:
    return interval.n if interval else None


def _n_note(interval: Interval | None, what: str) -> str:
    return f"n = {interval.n:,} {what}" if interval else ""


def _seeds_note(row: MethodRow) -> str:
    if row.test and row.test.low is None:
        return "one run: no interval"
    return _n_note(row.test, "runs")


def _published(name: str, divisor: float = 1) -> Any:
    """A number of the article's; a percentage has two decimals, so its fraction has four."""

    def value(row: MethodRow) -> float | None:
        number = getattr(row.published, name) if row.published else None
        return number if number is None or divisor == 1 else round(number / divisor, 4)

    return value


def _note(row: MethodRow) -> str:
    return row.note if row.published else ""


def _minutes_note(row: MethodRow) -> str:
    return "not stated" if row.published and row.published.minutes is None else _note(row)


def _hundredths(number: float | None) -> str:
    return ABSENT if number is None else f"{number:.2f}"


def _article_accuracies(row: MethodRow) -> str | None:
    known = row.published
    if known is None:
        return None
    return f"{known.train_percent:.2f} / {known.val_percent:.2f} / {known.test_percent:.2f}"


def _comparable_test(row: MethodRow) -> str:
    return f"{row.published.test_percent:.2f}" if row.comparable and row.published else ABSENT


PART_COLUMNS = [
    Column("Train", lambda run: run.train_accuracy, percent, name="train_accuracy"),
    Column("Validation", lambda run: run.val_accuracy, percent, name="val_accuracy"),
    Column("Test", lambda run: run.test_accuracy, percent, name="test_accuracy"),
]


def _status(run: RunRow) -> str:
    return "ok, collapsed" if run.status == "ok" and run.one_class else run.status


def _status_note(run: RunRow) -> str:
    step = f"from step {run.first_bad_step:,}" if run.first_bad_step else ""
    return "" if run.status == "ok" else run.error or step


STATUS = Column("Status", _status, note=_status_note, alert=lambda run: _status(run) != "ok",
                left=True)  # fmt: skip
KEY = Column("Key", lambda run: run.key[:10], left=True)

RUNS = [
    Column("Method", lambda run: run.name, method, lambda run: "; ".join(run.notes), left=True),
    Column("Seed", lambda run: run.seed),
    STATUS,
    Column("Best epoch", lambda run: run.best_epoch, count),
    *PART_COLUMNS,
    Column("Time", lambda run: run.seconds, duration),
    Column("Tokens / s", lambda run: run.tokens_per_second, count),
    Column("Memory", lambda run: run.peak_memory_bytes, gibibytes),
    KEY,
]

CELLS = [
    Column("Place", lambda ranked: ranked[0]),
    *(
        Column(column.heading, lambda ranked, c=column: c.value(ranked[1]), column.show,
               lambda ranked, c=column: c.note(ranked[1]),
               lambda ranked, c=column: c.alert(ranked[1]), column.left)
        for column in (
            Column("Configuration", lambda run: run.name, note=lambda run: "; ".join(run.notes),
                   left=True),
            Column("Rank", lambda run: run.lora.rank),
            Column("Alpha", lambda run: f"{run.lora.alpha:g}"),
            Column("Trainable parameters", lambda run: run.trainable_parameters, count),
            *PART_COLUMNS,
            STATUS,
            KEY,
        )
    ),
]  # fmt: skip

CHOICE = [
    Column("Configuration", lambda row: row.configuration +
           (" (winner)" if row.role == "winner" else ""), note=lambda row: row.trains, left=True),
    Column("Trainable parameters", lambda row: row.trainable_parameters, count),
    Column("Runs", _runs),
    Column("Validation in the grid", lambda row: row.grid_val_accuracy, percent),
    Column("Test", lambda row: row.test, estimate),
    Column("Over seeds", lambda row: row.test, ends),
    Column("Difference", lambda row: row.difference_from_winner and
           row.difference_from_winner.estimate, signed),
    Column("Over seeds", lambda row: row.difference_from_winner, signed_ends),
]  # fmt: skip


def _p_cell(heading: str, name: str) -> Column:
    def pair(verdict: Verdict) -> PValues | None:
        found: PValues | None = getattr(verdict, name)
        return found

    return Column(
        heading,
        lambda verdict: (p := pair(verdict)) and p.raw,
        p_value,
        lambda verdict: f"Holm {p_value(p.holm)}" if (p := pair(verdict)) else "",
    )


def _fails(verdict: Verdict) -> bool:
    follows_from_sizes = bool(verdict.scope) and verdict.claim.is_about_sizes
    return verdict.word == "not reproduced" and not follows_from_sizes


VERDICTS = [
    Column("Claim", lambda verdict: verdict.claim.words,
           note=lambda verdict: f"{verdict.claim.kind}: {verdict.claim.test}", left=True),
    Column("Verdict", lambda verdict: verdict.word, note=lambda verdict: verdict.scope,
           alert=_fails, left=True),
    Column("Why", lambda verdict: verdict.reason, left=True),
    _p_cell("p, difference", "p_difference"),
    _p_cell("p, sameness", "p_sameness"),
    Column("Seeds needed", lambda verdict: verdict.seeds_needed, count),
]  # fmt: skip


def comparison_columns(results: Results) -> list[Column]:
    """Of every two methods."""
    alpha, power = 1 - results.confidence, level(results.study["report"]["power"])
    seeds = len(results.study["run"]["seeds"])

    def found(pair: Comparison) -> str:
        significant = sum(test.p_value < alpha for test in pair.mcnemar)
        return f"{significant} of {len(pair.mcnemar)}" if pair.mcnemar else ABSENT

    def by_movie(pair: Comparison) -> str:
        return f"by movie {signed_ends(pair.both_by_movie)}" if pair.both_by_movie else ""

    def holm(pair: Comparison) -> str:
        return "" if pair.p_holm is None else f"Holm {pair.p_holm:.3g}"

    return [
        Column("Methods", lambda pair: f"{method(pair.second)} {MINUS} {method(pair.first)}",
               left=True),
        Column("Difference", lambda pair: pair.paired.difference.estimate, signed),
        Column("Seeds", lambda pair: pair.paired.difference, signed_ends,
               lambda pair: f"n = {of(len(pair.seeds), seeds)} seeds"),
        Column("p", lambda pair: pair.paired.p_value, _three_digits, holm),
        Column("Seeds and reviews", lambda pair: pair.both, signed_ends, by_movie),
        Column("McNemar", found),
        Column(f"Detectable difference ({power} power), seeds",
               lambda pair: pair.detectable_by_seeds, percent),
        Column(f"Detectable difference ({power} power), reviews",
               lambda pair: pair.detectable_by_reviews, percent),
    ]  # fmt: skip


def _three_digits(p: float | None) -> str:
    return ABSENT if p is None else f"{p:.3g}"


def _slice(heading: str, name: str) -> Column:
    def note(row: Slices) -> str:
        interval = getattr(row, name)
        return f"{ends(interval)}, n = {interval.n:,}" if interval else "none, or unknown"

    return Column(heading, lambda row: getattr(row, name), estimate, note)


def _movies(row: Slices) -> str:
    if row.by_movie is None:
        return "movies unknown"
    return row.by_movie.source.removeprefix("test sampling, ")


SLICES = [
    Column("Method", lambda row: row.name, method,
           lambda row: f"{row.runs} run{'s' if row.runs > 1 else ''}", left=True),
    _slice("All test reviews", "plain"),
    Column("By movie", lambda row: row.by_movie, ends, _movies),
    Column("Runs and reviews", lambda row: row.both, ends),
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
    Column("Runs", lambda place: place["runs"], count),
    Column("Code", lambda place: (place["git_commit"] or "no git")[:12],
           note=lambda place: "with local changes" if place["git_dirty"] else "",
           alert=lambda place: bool(place["git_dirty"]), left=True),
    Column("Processor", lambda place: place["cpu"],
           note=lambda place: f"{place['cores']} cores", left=True),
    Column("GPU", lambda place: place["gpu"] or "none", left=True),
    Column("Threads of torch", lambda place: place["threads"]),
    Column("Memory", lambda place: place["memory_bytes"], gibibytes),
    Column("System", lambda place: place["platform"], left=True),
    Column("Versions", lambda place: ", ".join(
        f"{name} {version}" for name, version in sorted(place["versions"].items())), left=True),
]  # fmt: skip

CURVES = [
    Column("", lambda row: row[0].name, name="method"),
    Column("", lambda row: row[0].seed, name="seed"),
    Column("", lambda row: row[0].status, name="status"),
    *(
        Column("", lambda row, field=field: getattr(row[1], field), name=field)
        for field in Epoch.model_fields
    ),
    Column("", lambda row: row[2], name="remark"),
]

LONG = [
    Column("", lambda run, field=field: getattr(run, field), text, name=field)
    for field in RunRow.model_fields
    if field not in ("epochs", "test_wilson", "test_exact", "lora", "notes")
] + [
    Column("", lambda run, field=field: getattr(run.lora, field, None), name=f"lora_{field}")
    for field in ("rank", "alpha", "targets", "scaling", "dropout")
]  # fmt: skip


def tables(results: Results) -> dict[str, Table]:
    """Every table of the page by name; those without a row are left out."""
    fresh = [results.grid.winner, *results.grid.runners_up]
    made: list[tuple[str, Sequence[Column], Sequence[Any]]] = [
        ("verdicts", VERDICTS, [v for v in results.verdicts if v.word != "not judged"]),
        ("methods", main_columns(results), results.rows),
        ("runs", RUNS, [run for run in results.runs if run.role != "cell"]),
        ("comparisons", comparison_columns(results), results.comparisons),
        ("choice", CHOICE, [row for row in fresh if row] if results.grid.runners_up else []),
        ("cells", CELLS, list(enumerate(results.cells, start=1))),
        ("split", SPLIT, list(results.data.parts.items())),
        ("slices", SLICES, results.slices),
        ("machines", MACHINES, results.machines),
    ]
    return {name: table(name, columns, rows) for name, columns, rows in made if rows}
