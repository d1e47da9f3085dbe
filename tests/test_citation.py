"""The citation file is that of this version."""

from pathlib import Path

from ruamel.yaml import YAML

from lora_replication import __version__

ROOT = Path(__file__).parents[1]


def test_the_citation_names_this_version_the_licence_and_the_article() -> None:
    citation = YAML(typ="safe").load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == __version__
    assert citation["license"] in (ROOT / "pyproject.toml").read_text("utf-8")
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["references"][0]["title"] == "Code LoRA from Scratch"
