"""The article's numbers and claims: what its statements say of them, and counts by hand."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from ruamel.yaml import YAML

from lora_replication import __version__
from lora_replication.article import Claim, article
from tests.report_records import article_study

ROOT = Path(__file__).parents[1]


def test_claims_are_named_once_with_words_source_and_test() -> None:
    found = article().claims
    assert len({claim.name for claim in found}) == len(found) == 18
    assert {claim.kind for claim in found} == set(article().tests)
    assert all(claim.words and claim.source and claim.test for claim in found)
    assert [m.source for m in article().methods.values() if not m.source] == []
    for method in article().methods.values():  # whole numbers of 5,000 validation reviews
        assert round(method.val_percent * 50) == pytest.approx(method.val_percent * 50)
    with pytest.raises(ValidationError, match="kind"):
        Claim(name="x", kind="hope", words="x", source="x", test="x")


def test_every_claims_words_give_its_number() -> None:
    for claim in article().claims:
        if claim.number is not None:
            number = claim.number
            forms = {f"{number:,.2f}", f"{number:,.0f}", f"{number / 1000:.0f}k"}
            found = [rf"(?<![\d.,]){re.escape(form)}(?![\d.])" for form in forms]
            assert any(re.search(form, claim.words) for form in found), claim.words


def test_the_articles_study_configures_the_articles_methods() -> None:
    study = article_study()
    assert all(method.configures(study.methods[name]) for name, method in article().methods.items())
    default = study.methods["lora_default"]
    assert not article().methods["lora_default"].configures(study.methods["lora_tuned"])
    assert not article().methods["full"].configures(study.methods["last_layers"])
    paper = default.lora.model_copy(update={"scaling": "paper"})
    changed = default.model_copy(update={"lora": paper})
    assert not article().methods["lora_default"].configures(changed)
    train = {key: getattr(study.train, key) for key in article().training}
    assert train == article().training


def test_the_citation_file_names_this_version_the_licence_and_the_article() -> None:
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] in (ROOT / "pyproject.toml").read_text("utf-8")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["references"][0]["title"] == "Code LoRA from Scratch"
