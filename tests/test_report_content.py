"""What the report says, and in which order."""

import pytest
from report_records import PARAMS, altered, make_manifest, make_records, make_study

from lora_replication.reading import load_study
from lora_replication.report.answers import Answers
from lora_replication.report.comparisons import view
from lora_replication.report.content import Content, compose, missing_runs, missing_statement
from lora_replication.report.drawing import Drawing
from lora_replication.report.summary import Summary, summarise

BLANK = {
    name: Drawing(name, "heading", "caption", b"<svg></svg>", b"")
    for name in ("accuracy_by_method", "learning_curves")
}


def composed(summary: Summary) -> Content:
    return compose(summary, make_manifest(), BLANK, view(summary, Answers()))


def test_a_complete_study_has_every_section() -> None:
    study = make_study()
    content = composed(summarise(study, make_records(study)))
    assert [section.name for section in content.sections] == [
        "verdicts",
        "result",
        "learning",
        "runs",
        "comparisons",
        "grid",
        "data",
        "machine",
        "deviations",
        "reproduce",
        "cite",
    ]
    assert len(content.warnings) == 1
    assert "cannot confirm or refute the article's numbers" in content.warnings[0]


def test_the_articles_own_complete_study_has_no_warning() -> None:
    article = load_study(PARAMS)
    content = composed(summarise(article, make_records(article)))
    assert content.warnings == ()
    code = {section.name: section.code for section in content.sections}
    assert "dvc repro" in code["reproduce"][0]


def test_another_study_is_run_by_name() -> None:
    content = composed(summarise(make_study(), []))
    code = {section.name: section.code for section in content.sections}
    assert "lora-replication run minilm-small" in code["reproduce"][0]
    assert "study minilm-small" in code["cite"][0]


@pytest.mark.fault(29)
def test_an_incomplete_study_says_so_first_and_names_what_is_missing() -> None:
    study = make_study()
    records = make_records(study)
    records[2] = altered(records[2], status="killed", error="signal 9")
    summary = summarise(study, [*records[:3], *records[4:12], *records[13:22]], ignored=2)
    content = composed(summary)
    assert content.warnings[-1].startswith("Incomplete: 19 of 23 runs have a result")
    assert missing_statement(summary) == (
        "2 of 12 runs of methods missing: last_layers seed 3 (killed: signal 9), lora_default seed 1 (not run).",
        "1 of 8 grid configurations missing: r2-a1-query-value seed 1 (not run).",
        "1 of 3 runs of the grid's winner missing: grid_winner seed 103 (not run).",
        "2 records ignored: made with other parameters, data, weights or code than the study's now, or recorded twice.",
    )
    assert any(section.heading == "Missing runs" for section in content.sections)


def test_ignored_records_alone_are_told_and_no_warning() -> None:
    study = make_study()
    content = composed(summarise(study, make_records(study), ignored=1))
    assert len(content.warnings) == 1
    assert [section.heading for section in content.sections if section.name == "missing"] == [
        "Ignored records"
    ]


def test_copies_are_named() -> None:
    study = make_study()
    summary = summarise(study, make_records(study), copies=("full/seed-1 copy", "full/old"))
    assert missing_statement(summary) == (
        "2 copies ignored: their records name another folder than full/seed-1 copy, full/old.",
    )


def test_a_long_list_is_shortened_for_a_message() -> None:
    summary = summarise(make_study(), [])
    said = missing_runs(summary, most=2)
    assert (
        said
        == "23 of 23 runs are missing: last_layers seed 1 (not run), last_layers seed 2 (not run) and 21 more"
    )
