"""Markdown: everything from outside stays text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_records import altered, make_answers, make_manifest, make_records, make_study

from lora_replication.report.comparisons import view
from lora_replication.report.content import compose
from lora_replication.report.figures import draw_figures
from lora_replication.report.markdown import escaped, markdown
from lora_replication.report.summary import summarise


@pytest.mark.parametrize(
    ("text", "inert"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("a | b", r"a \| b"),
        ("[x](javascript:alert(1))", r"\[x\](javascript:alert(1))"),
        ("two\nlines\r\n\n# not a heading", r"two lines \# not a heading"),
        ("`code` *bold* _slanted_", r"\`code\` \*bold\* \_slanted\_"),
        ("lora_default", "lora_default"),
        ("&amp;", "&amp;amp;"),
        ("\\|", r"\\\|"),
    ],
)
def test_markup_is_inert(text: str, inert: str) -> None:
    assert escaped(text) == inert


@given(st.text())
@pytest.mark.fault(40)
@pytest.mark.goal("property", "report escapes Markdown")
def test_no_cell_border_tag_or_line_break_survives(text: str) -> None:
    found = escaped(text)
    bare = found.replace("\\\\", "").replace("\\|", "").replace("\\[", "").replace("\\]", "")
    assert not set(bare) & set("|[]<>\n\r")


def test_tables_keep_their_columns_whatever_a_record_says() -> None:
    study = make_study(title="A | title <b>")
    records = make_records(study)
    records[0] = altered(
        records[0], status="failed", error="a | b\n| c | `d` <img src=x onerror=alert(1)>"
    )
    summary = summarise(study, records)
    views = view(summary, make_answers(records))
    text = markdown(
        compose(
            summary,
            make_manifest(),
            {drawing.name: drawing for drawing in draw_figures(summary, views)},
            views,
        )
    ).decode()
    assert text.startswith("# A \\| title &lt;b&gt;\n")
    assert "<img" not in text
    widths = [
        len(block.replace("\\|", "").splitlines()[0].split("|"))
        for block in text.split("\n\n")
        if block.startswith("| ")
    ]
    tables = [
        block.replace("\\|", "").splitlines()
        for block in text.split("\n\n")
        if block.startswith("| ")
    ]
    assert [len(table[0].split("|")) for table in tables] == widths
    assert all(
        len(line.split("|")) == width
        for table, width in zip(tables, widths, strict=True)
        for line in table
    )
    assert len(tables) == 9
