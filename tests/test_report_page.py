"""The page: well formed, self-contained, and safe whatever the records say."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from report_records import altered, make_answers, make_manifest, make_records, make_study

from lora_replication.report.comparisons import view
from lora_replication.report.content import compose
from lora_replication.report.figures import draw_figures
from lora_replication.report.page import bound, page
from lora_replication.report.summary import summarise

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'
VOID = {"meta", "link", "br", "img"}


class Reader(HTMLParser):
    """Collects elements, and fails on tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    study = make_study(title=f"Title {HOSTILE}")
    records = make_records(study)
    records[0] = altered(records[0], status="failed", error=HOSTILE, notes=[HOSTILE])
    where = records[1].where.model_copy(
        update={"cpu": HOSTILE, "versions": {HOSTILE: HOSTILE}, "git_commit": HOSTILE}
    )
    records[1] = records[1].model_copy(update={"where": where})
    summary = summarise(study, records)
    views = view(summary, make_answers(records))
    manifest = make_manifest().model_copy(
        update={"source_files": {HOSTILE: HOSTILE}, "revision": HOSTILE}
    )
    return page(
        compose(
            summary,
            manifest,
            {drawing.name: drawing for drawing in draw_figures(summary, views)},
            views,
        )
    ).decode()


@pytest.fixture(scope="module")
def reader(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    reader.close()
    return reader


def test_tags_close_in_order(reader: Reader) -> None:
    assert reader.open == []


def test_nothing_from_outside_becomes_an_element(reader: Reader) -> None:
    assert len(reader.all("script")) == 1
    assert not {"img", "iframe", "object", "embed", "form"} & {tag for tag, _ in reader.elements}
    assert not [
        name for _, attributes in reader.elements for name in attributes if name.startswith("on")
    ]


@pytest.mark.fault(40)
@pytest.mark.goal("property", "report escapes HTML")
def test_hostile_text_is_shown_as_text(text: str) -> None:
    assert text.count("&lt;script&gt;alert(2)&lt;/script&gt;") >= 6


def test_nothing_is_fetched(reader: Reader, text: str) -> None:
    addresses = [
        value
        for _, attributes in reader.elements
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action")
    ]
    assert all(address == "data:," or str(address).startswith("#") for address in addresses)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_policy_allows_styles_and_the_one_script_by_its_hash(reader: Reader, text: str) -> None:
    script = text[text.index("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policies = [
        attributes["content"]
        for attributes in reader.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == [
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    ]


def test_tables_have_captions_scopes_and_equal_rows(text: str, reader: Reader) -> None:
    assert len(reader.all("table")) == len(reader.all("caption")) == 9
    assert {attributes.get("scope") for attributes in reader.all("th")} == {"col", "row"}
    for table in re.findall(r"<table.*?</table>", text, re.DOTALL):
        assert (
            len(
                {
                    len(re.findall(r"<t[hd][ >]", row))
                    for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
                }
            )
            == 1
        )
    regions = [attributes for attributes in reader.all("div") if attributes.get("role") == "region"]
    assert [attributes["tabindex"] for attributes in regions] == ["0"] * 9


def test_links_lead_to_sections_and_ids_are_unique(reader: Reader) -> None:
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(attributes["href"])[1:] for attributes in reader.all("a")} <= set(ids)
    assert [tag for tag, _ in reader.elements if tag in ("h1", "h2")] == ["h1", *["h2"] * 12]


def test_language_and_viewport_are_given(reader: Reader) -> None:
    assert reader.all("html") == [{"lang": "en"}]
    assert "viewport" in [attributes.get("name") for attributes in reader.all("meta")]


def test_numbers_keep_their_units() -> None:
    assert (
        bound("95 % of n = 1,000 reviews in = 5")
        == "95\u00a0% of n\u00a0=\u00a01,000 reviews in = 5"
    )
