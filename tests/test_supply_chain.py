"""Everything that is installed but torch comes by its hash from requirements.lock."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.version import Version

from lora_replication.pins import PINS

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
BLOCK = re.compile(
    r"(?P<name>[a-z0-9.-]+)==(?P<version>[^ ;\\\n]+)(?: ; (?P<marker>[^\\]+?))?"
    r"(?P<hashes>(?: \\\n +--hash=sha256:[0-9a-f]{64})+)\n"
)


def read_lock(text: str) -> dict[str, re.Match]:
    """Each requirement by name. Raises ``ValueError`` for a line that is no pinned one."""
    found = list(BLOCK.finditer(text))
    rest = [line for line in BLOCK.sub("", text).splitlines() if line and not line.startswith("#")]
    if rest:
        raise ValueError(f"{rest[0]} has no exact version with hashes")
    return {block["name"]: block for block in found}


LOCKED = read_lock(LOCK.read_text("utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXCLUDED = set(PROJECT["tool"]["uv"]["exclude-dependencies"])
TORCH = re.search(r"^TORCH := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)[1]
WAIVERS = tomllib.loads((ROOT / "supply_chain" / "waivers.toml").read_text("utf-8"))["waiver"]


def asked() -> list[str]:
    project = PROJECT["project"]
    extras = [text for extra in project["optional-dependencies"].values() for text in extra]
    return sorted({*project["dependencies"], *extras, *PROJECT["dependency-groups"]["lock"]})


@pytest.mark.parametrize("text", asked())
def test_what_the_project_asks_for_is_locked_within_its_range(text):
    requirement = Requirement(text)
    name = requirement.name.lower().replace(".", "-").replace("_", "-")
    version = TORCH if name == "torch" else LOCKED[name]["version"]
    assert requirement.specifier.contains(version)


FLOORS = {
    "torch": "2.10.1", "transformers": "5.2.1", "mlflow": "3.17", "dvc": "3.67", "ray": "2.52",
    "pytorch-lightning": "2.6.6",
}  # fmt: skip
"""Of each the first version without known holes."""


def test_every_requirement_has_hashes_no_address_and_no_known_hole():
    assert len(LOCKED) > 150
    assert LOCKED[PINS["minilm"].source]["version"] == PINS["minilm"].revision
    for name, least in FLOORS.items():
        version = TORCH if name == "torch" else LOCKED[name]["version"]
        assert Version(version) >= Version(least), name
    assert "://" not in LOCK.read_text("utf-8")
    assert not EXCLUDED & LOCKED.keys()


def test_all_that_is_needed_here_is_in_it():
    """What is installed in the locked versions needs nothing that the lock lacks."""
    import importlib.metadata

    lacking = set()
    for name, one in LOCKED.items():
        if one["marker"] is None or Marker(one["marker"]).evaluate():
            for text in importlib.metadata.requires(name) or ():
                needed = Requirement(text)
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    lacking.add(needed.name.lower().replace(".", "-").replace("_", "-"))
    assert lacking - LOCKED.keys() <= EXCLUDED


def test_make_installs_by_hash_and_wheels_but_for_one_package():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    locked = re.search(r"\nLOCKED := (.+)\n", makefile)[1]
    assert "--no-deps --require-hashes --only-binary :all:" in locked
    assert re.findall(r"--no-binary (\S+)", locked) == ["antlr4-python3-runtime"]
    installing = re.findall(r"(?:\$\(PIP\)|uv pip install) (.+?)(?: \|\||\n)", makefile)
    others = [words for words in installing if "$(LOCKED)" not in words]
    assert others == [
        "--only-binary :all: torch==$(TORCH)",
        "--no-deps --no-build-isolation --editable .",
    ]


def test_what_git_ignores_stays_out_of_the_container():
    listed, ignored = (
        {line.removeprefix("**/").strip("/") for line in (ROOT / file).read_text("utf-8").split()}
        for file in (".dockerignore", ".gitignore")
    )
    assert {".git", "data"} <= {".git", *ignored} <= listed


def test_the_container_installs_with_make_and_chooses_torchs_build_alone():
    lines = (ROOT / "Containerfile").read_text("utf-8").splitlines()
    assert [line for line in lines if "pip " in line] == []
    assert [line.split("=")[0] for line in lines if line.startswith("ARG")] == ["ARG TORCH_INDEX"]
    assert 'RUN PIP_EXTRA_INDEX_URL="$TORCH_INDEX" make setup' in lines


@pytest.mark.parametrize("waiver", WAIVERS, ids=[waiver["id"] for waiver in WAIVERS])
def test_a_waiver_says_of_what_why_and_until_when(waiver):
    assert re.fullmatch(r"CVE-\d{4}-\d+|GHSA(-\w{4}){3}|PYSEC-\d{4}-\d+", waiver["id"])
    assert LOCKED[waiver["package"]]["version"] == waiver["version"], (
        "another version: is the waiver still needed?"
    )
    assert isinstance(waiver["since"], date)
    assert waiver["since"] < waiver["until"]
    assert min(len(waiver["reason"]), len(waiver["closed_by"])) > 40
