"""Page, Markdown and LaTeX: well formed, self-contained, and safe whatever the records say."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_replication.article import article
from lora_replication.report.build import FILES, report_files
from lora_replication.report.rendering import _in_latex, _in_markdown
from tests import report_records as made

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script> | a_b $x^2$ \\input{x} 5 % #'


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a study that says something hostile wherever it can."""
    study = made.make_study(title=f"Title {HOSTILE}", report={"easy": ["A_b", HOSTILE]})
    records = made.make_records(made.make_workspace(study))
    records[0] = made.altered(records[0], status="failed", error=HOSTILE, notes=[HOSTILE])
    where = {"cpu": HOSTILE, "versions": {HOSTILE: HOSTILE}, "git_commit": HOSTILE}
    where = records[1].where.model_copy(update=where)
    records[1] = records[1].model_copy(update={"where": where})
    root = tmp_path_factory.mktemp("hostile")
    results = made.results_of(study, records, root, made.make_predictions(records))
    sources = {"source_files": {HOSTILE: HOSTILE}, "revision": HOSTILE}
    results = results.model_copy(update={"data": results.data.model_copy(update=sources)})
    found = report_files(results).items()
    assert "95\xa0%" in dict(found)["report.html"].decode()
    texts = ((n, c) for n, c in found if not n.endswith((".png", ".parquet")))
    return {n: c.decode().replace("\xa0", " ") for n, c in texts}


class Reader(HTMLParser):
    """Collects elements, and fails on tags that do not close in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def reader(files: dict[str, str]) -> Reader:
    return Reader(files["report.html"])


@pytest.mark.fault(40)
@pytest.mark.goal("property", "report escapes HTML")
def test_nothing_from_outside_becomes_an_element(reader: Reader, files: dict[str, str]) -> None:
    assert reader.open == []
    assert len(reader.all("script")) == 1
    assert not {"img", "iframe", "object", "embed", "form"} & {tag for tag, _ in reader.elements}
    names = [name for _, attributes in reader.elements for name in attributes]
    assert not [name for name in names if name.startswith("on")]
    assert files["report.html"].count("&lt;script&gt;alert(2)&lt;/script&gt;") >= 6


def test_nothing_is_fetched_and_only_the_one_script_may_run(reader, files):
    text = files["report.html"]
    places = ("src", "srcset", "href", "xlink:href", "action", "poster", "data", "ping")
    loaded = [
        str(a[name]) for tag, a in reader.elements for name in places if name in a and tag != "a"
    ]
    assert all(address == "data:," or address.startswith("#") for address in loaded)
    assert {a["href"] for a in reader.all("a") if ":" in str(a["href"])} == {article().url}
    assert all(f"]({article().url})" in files[name] for name in ("report.md", "card.md"))
    assert not re.search(r"@import|url\((?!#)", text)
    script = text[text.index("<script>") + len("<script>") : text.rindex("</script>")]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    metas = reader.all("meta")
    policy = next(a["content"] for a in metas if a.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'; style-src 'unsafe-inline'; ")
    assert f"script-src 'sha256-{digest}'; img-src data:; base-uri 'none'" in str(policy)


def test_sections_links_and_ids(reader: Reader) -> None:
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    sections = [str(a["id"]) for a in reader.all("section")]
    assert (sections[0], len(sections)) == ("summary", 16)
    linked = {str(a["href"]) for a in reader.all("a")} - {*FILES, article().url}
    shown = {name for name in map(str, ids) if name.startswith(("figure-", "table-"))}
    assert linked == {f"#{name}" for name in {*sections, *shown}}
    assert [tag for tag, _ in reader.elements if tag in ("h1", "h2")] == ["h1", *["h2"] * 16]
    assert reader.all("html") == [{"lang": "en"}]


def test_tables_have_captions_scopes_and_equal_rows(reader: Reader, files: dict[str, str]) -> None:
    assert len(reader.all("table")) == len(reader.all("caption")) == 11
    assert {attributes.get("scope") for attributes in reader.all("th")} == {"col", "row"}
    for table in re.findall(r"<table.*?</table>", files["report.html"], re.DOTALL):
        rows = re.findall(r"<tr>.*?</tr>", table, re.DOTALL)
        assert len({len(re.findall(r"<t[hd][ >]", row)) for row in rows}) == 1
    regions = [a for a in reader.all("div") if a.get("role") == "region"]
    assert [attributes["tabindex"] for attributes in regions] == ["0"] * 11
    assert len({attributes["aria-label"] for attributes in regions}) == 11


@pytest.mark.fault(40)
def test_markup_by_hand() -> None:
    markdown = {
        "<script>a</script>": "&lt;script&gt;a&lt;/script&gt;",
        "a | [x](javascript:a)": r"a \| \[x\](javascript:a)",
        "two\nlines\r\n\n# no heading": r"two lines \# no heading",
        "`code` *bold* _slanted_ lora_default": r"\`code\` \*bold\* \_slanted\_ lora_default",
        "&amp; \\|": r"&amp;amp; \\\|",
    }
    assert {text: str(_in_markdown(text)) for text in markdown} == markdown
    latex = {
        r"\input{x}": r"\textbackslash{}input\{x\}",
        "50 % & a_b #1 $": r"50 \% \& a\_b \#1 \$",
        "~^<>": r"\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}",
        "a\nb\x00c é": "a b?c ?",
    }
    assert {text: str(_in_latex(text)) for text in latex} == latex


@given(st.text())
@pytest.mark.fault(40)
@pytest.mark.goal("property", "report escapes Markdown")
def test_no_cell_border_tag_or_line_break_survives(text: str) -> None:
    bare = re.sub(r"\\[\\|\[\]]", "", str(_in_markdown(text)))
    assert not set(bare) & set("|[]<>\n\r")


def test_markdown_tables_keep_their_columns(files: dict[str, str]) -> None:
    text = files["report.md"]
    assert "<img" not in text
    blocks = [b.replace("\\|", "") for b in text.split("\n\n") if b.startswith("| ")]
    assert len(blocks) == 11
    for block in blocks:
        assert len({len(line.split("|")) for line in block.splitlines()}) == 1


@given(st.text())
@pytest.mark.fault(40)
@pytest.mark.goal("property", "report escapes LaTeX")
def test_nothing_active_survives(text: str) -> None:
    found = re.sub(r"\\text[a-z]+\{\}|\\[&%$#_{}]|\$-\$|\$\\pm\$", "", str(_in_latex(text)))
    assert not set(found) & set("\\&%$#_{}~^<>\n")
    assert found.isascii()


def test_latex_tables_by_hand(tmp_path: Path) -> None:
    study = made.article_study()
    records = made.make_records(made.make_workspace(study))[:20]
    results = made.results_of(study, records, tmp_path, made.make_predictions(records))
    found, interval = report_files(results), results.methods[0].interval
    ends = f"{100 * interval.low:.2f}--{100 * interval.high:.2f}"
    narrow, wide = (found[name].decode() for name in ("table.tex", "table_wide.tex"))
    assert rf"last layers & 78.20 & {ends} & 148,610 & 86.22 \\" in narrow.splitlines()
    ours = [line.split(" & ")[-1] for line in wide.splitlines() if line.endswith(r"\\")]
    assert ours[-4:] == [r"86.22 \\", r"89.44 \\", r"92.39 \\", r"92.31 \\"]
    assert (narrow.count(r"{table}"), wide.count(r"{table*}")) == (2, 2)
    assert "576 of 596 runs are missing" in narrow
    assert "(n = 1,000 reviews)" in wide


def test_citations_and_deviations_follow_from_the_study(files, tmp_path):
    text = files["citation.bib"]
    keys = re.findall(r"@\w+\{(\w+),", text)
    assert keys == ["raschka2023codelora", "lora_replication", "hu2022lora", "maas2011learning"]
    assert "year         = {2026}" in text
    assert "study minilm-small, commit" in text
    text = files["report.md"]
    assert "precision fp32 (article: fp16-mixed) and device cpu (article: cuda)." in text
    assert "here it is MiniLM on 2,000 training" in text
    own = report_files(made.results_of(made.article_study(), [], tmp_path))["report.md"].decode()
    assert "Training: " not in own
    assert "here it is" not in own
    grid = {"scaling": "paper", "dropout": 0.05}
    other = report_files(made.results_of(made.article_study(grid=grid), [], tmp_path))[
        "report.md"
    ].decode()
    assert "scales the low-rank term by alpha / rank" in other
    assert "drops out 0.05" in other
