"""Every command that the documents show is run, and the lesson prints what it shows."""

import contextlib
import io
import json
import re
import shlex
from pathlib import Path

from click import Context
from ruamel.yaml import YAML

from lora_replication.cli import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "benchmarks/README.md")
CI = ".github/workflows/ci.yml"


def test_each_command_is_run_where_commands_yaml_says_and_has_known_options():
    places = YAML(typ="safe").load(Path(__file__).with_name("commands.yaml"))
    known = [one for some in places.values() for one in some]
    held = set(known) - set(places.pop("none"))
    text = "\n".join(file.read_text("utf-8") for page in PAGES for file in ROOT.glob(page))
    text = text.replace(".venv/bin/", "").replace("\\\n", "")
    fences = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    shown = [line for kind, block in fences.findall(text) if not kind for line in block.split("\n")]
    program = re.compile(rf"({'|'.join(one.split()[0] for one in known)}) ")
    shown += filter(program.match, re.findall(r"`([^`]+)`", fences.sub("", text)))
    matches = {one: {h for h in held if f"{one} ".startswith(f"{h} ")} for one in shown if one}
    assert [one for one, found in matches.items() if not found] == []
    assert held == set().union(*matches.values())
    assert [place for place in places if not (ROOT / place).is_file()] == []
    assert [h for h in places[CI] if h.split()[-1] not in (ROOT / CI).read_text("utf-8")] == []
    for one in filter(re.compile("lora-replication ").match, shown):
        name, *words = shlex.split(one)[1:]
        cli.commands[name].make_parser(Context(cli.commands[name])).parse_args(words)


def test_the_lesson_prints_what_it_shows():
    cells = json.loads((ROOT / "docs" / "lesson.ipynb").read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 5
    names = {}
    for cell in code:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec("".join(cell["source"]), names)  # noqa: S102  # our own notebook
        assert printed.getvalue() == "".join(cell["outputs"][0]["text"])
