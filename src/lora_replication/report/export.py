"""The report for programs, at full precision: CSV and JSON. Accuracies are fractions from 0 to 1,
losses in nats.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from lora_replication import __version__
from lora_replication.article import CITATION, SETTING, PublishedMethod, published
from lora_replication.record import Count, Record
from lora_replication.report.comparisons import Views
from lora_replication.report.schema import Results
from lora_replication.report.summary import PARTS, MethodSummary, Summary
from lora_replication.report.tables import article_note
from lora_replication.report.verdicts import WORDS, Verdict, headline, judge
from lora_replication.report.wording import remark, reservation, title
from lora_replication.statistics import Interval, exact_interval, wilson_interval

SCHEMA = 1
PRIVATE: dict[str, Any] = {"tracking": True, "data": {"path"}, "model": {"path"}}
"""Keys of a study that stay on the machine: an address may hold a password, and paths tell of their
owner.
"""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def table_csv(summary: Summary) -> bytes:
    """One row per method and for the grid's winner. Text that a spreadsheet would take for a
    formula gets a leading apostrophe.
    """
    rows = [_csv_row(summary, row) for row in summary.rows]
    return csv_bytes(list(rows[0]), rows)


def learning_curves_csv(summary: Summary) -> bytes:
    """One row per epoch of every run of a method; losses in nats, empty where not finite."""
    names = [
        "method",
        "seed",
        "status",
        "epoch",
        "train_loss",
        "train_accuracy",
        "val_loss",
        "val_accuracy",
        "seconds",
        "remark",
    ]
    rows = [
        {
            "method": run.asked.name,
            "seed": run.asked.seed,
            "status": run.happened.status,
            **epoch.model_dump(mode="json"),
            "remark": remark(summary.study),
        }
        for run in summary.runs
        for epoch in run.happened.epochs
    ]
    return csv_bytes(names, rows)


def inert(value: Any) -> Any:
    """A value that no spreadsheet computes: text that starts like a formula gets a leading
    apostrophe.
    """
    return (
        f"'{value}"
        if isinstance(value, str) and value.lstrip(" \n").startswith(FORMULA_STARTS)
        else value
    )


def csv_bytes(names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows under ``names`` as CSV in UTF-8, texts inert."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: inert(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _csv_row(summary: Summary, row: MethodSummary) -> dict[str, Any]:
    seeds, sampling = row.parts["test"], row.test_sampling
    accuracies = {
        f"{part}_accuracy": interval.estimate if interval else None
        for part, interval in row.parts.items()
    }
    return {
        "study": summary.study.study,
        "title": title(summary.study),
        "method": row.name,
        "role": row.role,
        "trains": row.trains,
        "trainable_parameters": row.trainable_parameters,
        "runs_asked": len(row.seeds),
        "runs_done": len(row.runs),
        "runs_diverged": row.diverged,
        "runs_one_class": row.one_class,
        **accuracies,
        "test_reviews": sampling.n if sampling else None,
        "confidence_level": summary.study.report.confidence,
        "wilson_low": sampling.low if sampling else None,
        "wilson_high": sampling.high if sampling else None,
        "t_runs": seeds.n if seeds else 0,
        "t_low": seeds.low if seeds else None,
        "t_high": seeds.high if seeds else None,
        **_article_columns(row),
        "remark": " ".join(filter(None, [remark(summary.study), article_note(summary.study, row)])),
    }


def _article_columns(row: MethodSummary) -> dict[str, Any]:
    article = row.published
    return {
        "article_trainable_parameters": int(article.trainable_parameters.value)
        if article
        else None,
        "article_train_accuracy": _fraction(article.train_percent.value) if article else None,
        "article_val_accuracy": _fraction(article.val_percent.value) if article else None,
        "article_test_accuracy": _fraction(article.test_percent.value) if article else None,
        "article_minutes": article.minutes.value if article and article.minutes else None,
        "article_comparable": row.comparable if article else None,
    }


def _fraction(percent: float) -> float:
    """The published percentage, which has two decimals, as the fraction with four."""
    return round(percent / 100, 4)


def results_json(summary: Summary, manifest: Mapping[str, Any], views: Views) -> bytes:
    """Everything that the report tells, for programs, by the schema ``Results``; ``manifest`` as it
    was written beside the data.
    """
    study = summary.study
    content = {
        "schema_version": SCHEMA,
        "made_by": f"lora-replication {__version__}",
        "units": "accuracies and interval ends are fractions from 0 to 1; durations are seconds; memory is bytes",
        "title": title(study),
        "reservation": reservation(study),
        "comparable_with_the_article": study.is_the_articles,
        "study": study.model_dump(mode="json", exclude=PRIVATE),
        "complete": not summary.missing,
        "runs_asked": summary.asked,
        "verdicts": [_verdict(verdict) for verdict in judge(summary)],
        "missing": [asdict(missing) for missing in summary.missing],
        "records_ignored": summary.ignored,
        "methods": {row.name: _method(summary, row) for row in summary.methods},
        "comparisons": [asdict(pair) for pair in views.comparisons],
        "test_reviews": [asdict(slices) for slices in views.slices],
        "runs": [_run(record, study.report.confidence) for record in summary.runs],
        "grid": _grid(summary),
        "article": {
            "citation": CITATION,
            "setting": SETTING,
            "methods": {name: _published(row) for name, row in published().items()},
        },
        "data": manifest,
        "machines": _machines(summary.records),
    }
    Results.model_validate_json(json.dumps(content))
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def verdicts_json(summary: Summary) -> bytes:
    """The verdicts alone, with what their words mean; accuracies in percent, differences in
    points.
    """
    verdicts = judge(summary)
    content = {
        "schema_version": SCHEMA,
        "title": title(summary.study),
        "reservation": reservation(summary.study),
        "runs_asked": summary.asked,
        "runs_missing": len(summary.missing),
        "headline": headline(verdicts),
        "words": WORDS,
        "verdicts": [_verdict(verdict) for verdict in verdicts],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def metrics_json(summary: Summary) -> bytes:
    """The few numbers per method that ``dvc metrics`` compares: mean accuracies, the interval over
    seeds of the test's, runs.
    """
    metrics = {
        row.name: {
            **{
                f"{part}_accuracy": interval.estimate
                for part, interval in row.parts.items()
                if interval
            },
            **(
                {"test_t_low": test.low, "test_t_high": test.high}
                if (test := row.parts["test"]) and test.low is not None
                else {}
            ),
            "runs": len(row.runs),
        }
        for row in summary.rows
    }
    return (
        json.dumps(
            {"title": title(summary.study), "missing_runs": len(summary.missing), **metrics},
            indent=1,
        ).encode()
        + b"\n"
    )


def _verdict(verdict: Verdict) -> dict[str, Any]:
    claim = verdict.claim
    return {
        **{
            name: getattr(claim, name)
            for name in ("name", "words", "kind", "test", "number", "digits", "source")
        },
        "methods": list(claim.methods),
        "verdict": verdict.word,
        "reason": verdict.reason,
        "scope": verdict.scope,
        "measured_percent": _interval(verdict.measured),
        "measured_count": verdict.count,
        "p_difference": _p_values(verdict.p_difference),
        "p_sameness": _p_values(verdict.p_sameness),
        "seeds_needed": verdict.seeds_needed,
    }


def _p_values(pair: tuple[float, float] | None) -> dict[str, float] | None:
    return {"raw": pair[0], "holm": pair[1]} if pair else None


def _method(summary: Summary, row: MethodSummary) -> dict[str, Any]:
    return {
        "name": row.name,
        "role": row.role,
        "trains": row.trains,
        "trainable_parameters": row.trainable_parameters,
        "seeds": list(row.seeds),
        "runs_done": len(row.runs),
        "runs_diverged": row.diverged,
        "runs_one_class": row.one_class,
        "over_seeds": {part: _interval(row.parts[part]) for part in PARTS},
        "test_sampling": _interval(row.test_sampling),
        "article_comparable": row.comparable,
        "remark": " ".join(filter(None, [remark(summary.study), article_note(summary.study, row)])),
    }


def _interval(interval: Interval | None) -> dict[str, Any] | None:
    return asdict(interval) if interval else None


def _published(article: PublishedMethod) -> dict[str, Any]:
    return {name: value for name, value in asdict(article).items() if name != "name"}


def _run(record: Record, level: float) -> dict[str, Any]:
    test = record.happened.test
    return {
        **_facts(record),
        "epochs": [epoch.model_dump(mode="json") for epoch in record.happened.epochs],
        "test_wilson": _interval(wilson_interval(test.correct, test.reviews, level))
        if test
        else None,
        "test_exact": _interval(exact_interval(test.correct, test.reviews, level))
        if test
        else None,
    }


def _facts(record: Record) -> dict[str, Any]:
    asked, happened = record.asked, record.happened
    return {
        "role": asked.role,
        "name": asked.name,
        "seed": asked.seed,
        "key": asked.key,
        "lora": asked.settings["lora"],
        "status": happened.status,
        "error": happened.error,
        "first_bad_step": happened.first_bad_step,
        "one_class": happened.one_class,
        "best_epoch": happened.best_epoch,
        **{part: _count(getattr(happened, part)) for part in PARTS},
        "trainable_parameters": happened.trainable_parameters,
        "total_parameters": happened.total_parameters,
        "training_seconds": happened.training_seconds,
        "evaluation_seconds": happened.evaluation_seconds,
        "tokens_per_second": happened.tokens_per_second,
        "peak_memory_bytes": happened.peak_memory_bytes,
        "notes": happened.notes,
    }


def _count(count: Count | None) -> dict[str, Any] | None:
    return {**count.model_dump(), "accuracy": count.fraction} if count else None


def _grid(summary: Summary) -> dict[str, Any]:
    grid = summary.grid
    return {
        "configurations_asked": grid.asked,
        "configurations_done": len(grid.cells),
        "diverged": grid.diverged,
        "one_class": grid.one_class,
        "ended_without_result": len(grid.unfinished),
        "winner_by_validation": grid.best.asked.name if grid.complete and grid.best else None,
        "winner_on_fresh_seeds": _method(summary, grid.winner) if grid.winner else None,
        "runners_up_on_fresh_seeds": [
            _method(summary, row)
            | {
                "difference_from_winner": _interval(
                    grid.difference_from_winner(row, summary.study.report.confidence)
                )
            }
            for row in grid.runners_up
        ],
        "cells": [_facts(record) for record in (*grid.cells, *grid.unfinished)],
    }


def _machines(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Each distinct machine and software once, times left out, with its number of runs."""
    places: dict[str, dict[str, Any]] = {}
    for record in records:
        place = record.where.model_dump(mode="json", exclude={"started", "finished"})
        places.setdefault(json.dumps(place, sort_keys=True), {**place, "runs": 0})["runs"] += 1
    return [places[name] for name in sorted(places)]
