"""The schema of results.json: what is written follows it, and the documented copy is the same."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from report_records import altered, diverged, make_answers, make_manifest, make_records, make_study

from lora_replication.report.answers import Answers
from lora_replication.report.comparisons import view
from lora_replication.report.export import results_json
from lora_replication.report.schema import Results, results_schema
from lora_replication.report.summary import summarise

DOCUMENTED = Path(__file__).parents[1] / "docs" / "results.schema.json"


def written(*, answers: bool = True) -> bytes:
    study = make_study()
    records = make_records(study)
    records[4], records[5] = (
        diverged(records[4]),
        altered(records[5], status="failed", error="out of memory"),
    )
    summary = summarise(study, records)
    return results_json(
        summary,
        make_manifest().model_dump(mode="json"),
        view(summary, make_answers(records) if answers else Answers()),
    )


@pytest.mark.parametrize("answers", [True, False])
def test_what_is_written_follows_it_and_loses_nothing(answers: bool) -> None:
    content = written(answers=answers)
    assert json.loads(Results.model_validate_json(content).model_dump_json()) == json.loads(content)


def test_an_unknown_and_a_missing_key_are_refused() -> None:
    content = json.loads(written())
    for wrong in (
        content | {"more": 1},
        {key: value for key, value in content.items() if key != "verdicts"},
        content | {"schema_version": 2},
    ):
        with pytest.raises(ValidationError):
            Results.model_validate(wrong)


def test_the_documented_schema_is_this_one() -> None:
    assert DOCUMENTED.read_bytes() == results_schema()
