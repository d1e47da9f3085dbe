"""The data card."""

from report_records import make_manifest, make_study

from lora_replication.report.data_card import data_tables


def test_parts_and_facts() -> None:
    parts, facts = data_tables(make_manifest(), make_study())
    assert [[cell.text for cell in row[:3]] for row in parts.rows] == [
        ["Training", "2,000", "50.30"],
        ["Validation", "500", "50.30"],
        ["Test", "1,000", "50.30"],
    ]
    told = {row[0].text: row[1].text for row in facts.rows}
    assert told["Tokens per review"] == "mean 187.2, median 190, longest 256"
    assert told["Reviews cut at 256 tokens"] == "40.50 %"
    assert told["Test reviews of a movie that also has training reviews"] == "41.20 %"
    assert told["Test reviews whose text also stands in train"] == "2"
    assert told["Source file aclImdb_v1.tar.gz"].startswith("sha256 c3c3")
    assert told["The article's split"].startswith("checked bit for bit")


def test_generated_reviews_claim_no_split_and_no_movies() -> None:
    _, facts = data_tables(make_manifest("generated"), make_study())
    told = {row[0].text: row[1].text for row in facts.rows}
    assert told["Source"] == "generated reviews, not IMDb"
    assert told["The article's split"] == "not used: these reviews were generated"
    assert told["Test reviews of a movie that also has training reviews"] == "unknown"
