"""CSV and JSON: full precision, every number recomputed from the records by plain loops and
statsmodels.
"""

import csv
import io
import json
from typing import Any

import numpy as np
import pytest
from report_records import altered, count, diverged, make_manifest, make_records, make_study
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import DescrStatsW

from lora_replication.record import Record
from lora_replication.report.answers import Answers
from lora_replication.report.comparisons import view
from lora_replication.report.export import (
    inert,
    learning_curves_csv,
    metrics_json,
    results_json,
    table_csv,
)
from lora_replication.report.summary import Summary, summarise
from lora_replication.study import Study


@pytest.fixture(scope="module")
def study() -> Study:
    return make_study()


@pytest.fixture(scope="module")
def records(study: Study) -> list[Record]:
    records = make_records(study)
    records[4] = diverged(records[4])
    records[7] = altered(records[7], one_class=True, test=count(493, 1000))
    return records


@pytest.fixture(scope="module")
def table(study: Study, records: list[Record]) -> list[dict[str, str]]:
    return list(
        csv.DictReader(io.StringIO(table_csv(summarise(study, records)).decode(), newline=""))
    )


@pytest.fixture(scope="module")
def results(study: Study, records: list[Record]) -> dict[str, Any]:
    return json.loads(exported(summarise(study, records, ignored=3)))


def exported(summary: Summary) -> bytes:
    return results_json(summary, make_manifest().model_dump(mode="json"), view(summary, Answers()))


def fractions(records: list[Record], name: str, part: str) -> list[float]:
    counts = [getattr(record.happened, part) for record in records if record.asked.name == name]
    return [one.correct / one.reviews for one in counts if one]


def test_table_recomputed(table: list[dict[str, str]], records: list[Record]) -> None:
    assert [row["method"] for row in table] == [
        "last_layers",
        "lora_default",
        "lora_tuned",
        "full",
        "grid_winner",
    ]
    for row in table:
        for part in ("train", "val", "test"):
            values = fractions(records, row["method"], part)
            assert float(row[f"{part}_accuracy"]) == pytest.approx(
                sum(values) / len(values), abs=1e-15
            )
        test = fractions(records, row["method"], "test")
        wilson = proportion_confint(1000 * sum(test) / len(test), 1000, 0.05, "wilson")
        assert (float(row["wilson_low"]), float(row["wilson_high"])) == pytest.approx(
            wilson, abs=1e-12
        )
        assert (float(row["t_low"]), float(row["t_high"])) == pytest.approx(
            np.clip(DescrStatsW(test).tconfint_mean(), 0, 1), abs=1e-12
        )
        assert (int(row["t_runs"]), int(row["test_reviews"])) == (len(test), 1000)
    assert [
        (row["runs_done"], row["runs_diverged"], row["runs_one_class"]) for row in table[:3]
    ] == [
        ("3", "0", "0"),
        ("3", "1", "0"),
        ("3", "0", "1"),
    ]


def test_table_gives_the_article_as_fractions_and_says_that_they_are_another_study(
    table: list[dict[str, str]],
) -> None:
    assert [row["article_test_accuracy"] for row in table] == [
        "0.8622",
        "0.8944",
        "0.9239",
        "0.9231",
        "",
    ]
    assert [row["article_minutes"] for row in table] == ["6.02", "13.28", "", "15.68", ""]
    assert {row["article_comparable"] for row in table[:4]} == {"False"}
    assert all("Not DistilBERT on the whole of IMDb" in row["remark"] for row in table)


def test_results_recomputed(results: dict[str, Any], records: list[Record]) -> None:
    for name, row in results["methods"].items():
        for part, interval in row["over_seeds"].items():
            values = fractions(records, name, part)
            assert interval["estimate"] == pytest.approx(sum(values) / len(values), abs=1e-15)
            assert (interval["low"], interval["high"]) == pytest.approx(
                np.clip(DescrStatsW(values).tconfint_mean(), 0, 1), abs=1e-12
            )
            assert interval["n"] == len(values)
    by_key = {
        (record.asked.role, record.asked.name, record.asked.seed): record for record in records
    }
    for row in [*results["runs"], *results["grid"]["cells"]]:
        record = by_key.pop((row["role"], row["name"], row["seed"]))
        assert row["key"] == record.asked.key
        for part in ("train", "val", "test"):
            found = getattr(record.happened, part)
            assert row[part] == (
                found and {**found.model_dump(), "accuracy": found.correct / found.reviews}
            )
        if row["role"] != "cell" and record.happened.test:
            exact = proportion_confint(record.happened.test.correct, 1000, 0.05, "beta")
            assert (row["test_exact"]["low"], row["test_exact"]["high"]) == pytest.approx(
                exact, abs=1e-9
            )
    assert by_key == {}


def test_results_tell_what_the_study_is(results: dict[str, Any]) -> None:
    assert (
        results["schema_version"],
        results["complete"],
        results["missing"],
        results["records_ignored"],
    ) == (1, True, [], 3)
    assert "not DistilBERT on the whole of IMDb" in results["reservation"]
    assert results["comparable_with_the_article"] is False
    assert results["grid"]["winner_by_validation"] == "r8-a1-query-value"
    assert results["article"]["methods"]["full"]["test_percent"]["value"] == 92.31
    assert results["data"]["parts"]["test"]["reviews"] == 1000
    assert [machine["runs"] for machine in results["machines"]] == [23]


def test_addresses_and_paths_stay_on_the_machine() -> None:
    study = make_study(tracking={"uri": "https://me:canary@example.org", "experiment": "x"})
    study = study.model_copy(
        update={"data": study.data.model_copy(update={"path": "/home/canary/reviews.tar.gz"})}
    )
    assert b"canary" not in exported(summarise(study, make_records(study)))


def test_an_incomplete_grid_has_no_winner_and_missing_runs_are_listed(
    study: Study, records: list[Record]
) -> None:
    results = json.loads(exported(summarise(study, records[:19])))
    assert results["grid"]["winner_by_validation"] is None
    assert results["complete"] is False
    assert results["missing"][0] == {
        "role": "cell",
        "name": "r8-a16-query-value-mlp",
        "seed": 1,
        "reason": "not run",
    }
    assert (len(results["missing"]), results["runs_asked"]) == (4, 23)


def test_curves_have_a_row_per_epoch(study: Study, records: list[Record]) -> None:
    rows = list(
        csv.DictReader(io.StringIO(learning_curves_csv(summarise(study, records)).decode()))
    )
    assert len(rows) == (12 + 3) * 3
    assert [row["epoch"] for row in rows[:3]] == ["1", "2", "3"]
    assert float(rows[1]["val_accuracy"]) == records[0].happened.epochs[1].val_accuracy


def test_metrics_for_comparison(study: Study, records: list[Record]) -> None:
    metrics = json.loads(metrics_json(summarise(study, records)))
    assert metrics["last_layers"]["test_accuracy"] == pytest.approx(2350 / 3000)
    assert metrics["lora_default"]["runs"] == 3
    assert metrics["missing_runs"] == 0
    single = make_study(run={"methods": ["full"], "seeds": [7]})
    assert (
        "test_t_low"
        not in json.loads(metrics_json(summarise(single, make_records(single))))["full"]
    )


@pytest.mark.parametrize(
    "text", ["=cmd()", "+1", "-1", "@sum", "\t=1", "\r=1", "  =cmd()", "\n=cmd()"]
)
@pytest.mark.fault(40)
def test_formulas_are_inert(text: str) -> None:
    assert inert(text) == f"'{text}"


@pytest.mark.parametrize("value", ["lora_default", "a = b", -0.5, None, True])
def test_other_values_are_left_alone(value: Any) -> None:
    assert inert(value) == value


@pytest.mark.fault(40)
def test_a_title_that_is_a_formula_is_inert_in_the_table() -> None:
    study = make_study(title='=HYPERLINK("http://x")')
    rows = list(csv.DictReader(io.StringIO(table_csv(summarise(study, [])).decode(), newline="")))
    assert {row["title"] for row in rows} == {'\'=HYPERLINK("http://x")'}
