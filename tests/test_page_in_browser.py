"""Reports in a real browser: self-contained, readable at all widths and in the dark, inert."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lora_replication.report.build import build_report
from lora_replication.report.published_report import build_published_report
from lora_replication.workspace import Workspace
from tests import report_records as made
from tests.browser import CHROMIUM, Browser
from tests.published_files import made_up, text_of

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
AXE = (files("axe_core_python") / "axe.min.js").read_text("utf-8")
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
COMMITTED = {
    f"committed {file.parent.name}": file
    for file in sorted((Path(__file__).parents[1] / "reports").glob("*/report.html"))
}
VIEWS = [(375, False), (375, True), (1280, False), (1280, True)]
MADE = ("study", "alphabets", "published")
ALPHABETS = ("Обучение 低秩适配 على ελληνικά हिन्दी " * 6)[:200]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A study's report, one of a published grid, and those that are committed."""
    folder = tmp_path_factory.mktemp("pages")
    for name, title in (("study", "MiniLM"), ("alphabets", ALPHABETS)):
        workspace = made.make_workspace(made.make_study(title=title), folder / name)
        records = made.make_records(workspace)
        made.write_study(workspace, records, made.make_predictions(records))
        build_report(Workspace(workspace.study, folder / name), folder / name)
    (folder / "results.txt").write_bytes(text_of(made_up(570)))
    build_published_report(folder / "results.txt", folder / "published", 0.95)
    return COMMITTED | {name: folder / name / "report.html" for name in MADE}


def wrong(browser: Browser) -> dict[str, Any]:
    """What axe-core finds wrong: rules with the places that they are about."""
    browser.evaluate(f"{AXE}; null")
    rules = "rules => Object.fromEntries(rules.map(r => [r.id, r.nodes.map(n => n.target[0])]))"
    return browser.evaluate(f"axe.run().then(found => ({rules})(found.violations))")


@pytest.mark.parametrize("name", [*MADE, *COMMITTED])
@pytest.mark.parametrize(("width", "dark"), VIEWS)
def test_a_page_is_quiet_whole_and_readable(browser, pages, name, width, dark):
    browser.open(pages[name], width, dark=dark)
    assert wrong(browser) == {}
    assert browser.evaluate(CONTRAST) == []
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    shown = (
        "[...document.querySelectorAll('{}')].map(e => e.getBoundingClientRect())"
        ".every(r => r.width > 200 && r.height > 40)"
    )
    for what, least in (("figure svg", 2 if name == "committed minilm" else 3), (".scroll", 3)):
        assert browser.evaluate(f"document.querySelectorAll('{what}').length") >= least
        assert browser.evaluate(shown.format(what))
    assert browser.complaints == []
    fetched = [url for url in browser.requests if not url.startswith("data:")]
    assert fetched == [pages[name].resolve().as_uri()]


def test_the_grid_can_be_sorted_and_filtered(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["study"], 1400)
    shown = "[...document.querySelectorAll('table.cells tbody tr')].filter(r => !r.hidden)"

    def parameters() -> list[int]:
        texts = browser.evaluate(f"{shown}.map(r => r.cells[8].textContent)")
        return [int(text.replace(",", "")) for text in texts]

    click = "document.querySelectorAll('table.cells thead button')[8].click()"
    browser.evaluate(click)
    values = parameters()
    assert values == sorted(values)
    browser.evaluate(click)
    assert parameters() == values[::-1]
    heading = "document.querySelectorAll('table.cells thead th')[8]"
    assert browser.evaluate(f"{heading}.getAttribute('aria-sort')") == "descending"
    key = browser.evaluate("document.querySelector('table.cells tbody td:last-child').textContent")
    found = {"a16 mlp": 2, "A16": 4, "16": 4, "query ok": 8, key: 1, key[1:]: 0, "[": 0, "": 8}
    for words, rows in found.items():
        browser.evaluate(
            f"(() => {{ const i = document.querySelector('#grid .filter input'); "
            f"i.value = '{words}'; i.dispatchEvent(new Event('input')); }})()"
        )
        assert browser.evaluate(f"{shown}.length") == rows, words
        matches = browser.evaluate("document.querySelector('#grid .filter output').textContent")
        assert matches == (f"{rows} of 8" if words else "")


@pytest.mark.parametrize(("width", "most"), [(1280, 800), (375, 1400)])
def test_the_result_and_the_first_verdict_are_on_the_first_screen(browser, pages, width, most):
    browser.open(pages["committed minilm-small"], width)
    for what in ("figure svg", ".verdicts li"):
        bottom = f"document.querySelector('{what}').getBoundingClientRect().bottom"
        assert 0 < browser.evaluate(f"{bottom} + scrollY") <= most, what
