"""Faults 21 and 22: whatever a study file gets wrong is told in one go, quickly, and nothing on
disk changes.
"""

import os
import re
import string
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from lora_replication.errors import ParameterError
from lora_replication.pipeline import run_study
from lora_replication.reading import load_study
from tests.projects import add_study, checkout, environment, tree
from tests.study_files import read_params, study_params

RANK = "methods.lora_default.lora"
SEEDS = "a whole number from 0 to 4294967295"
TARGETS = "at least one of query, key, value, projection, mlp, head, none twice"

BAD = [
    *(
        (f"{RANK}.rank", value, "a whole number from 1 to 768")
        for value in ("-1", "0", "2.5", '"8"', "true", "null", "1000000000")
    ),
    *(
        (f"{RANK}.alpha", value, "a number above 0, at most 1000000")
        for value in (".nan", ".inf", "-1", '"x"')
    ),
    *((f"{RANK}.targets", value, TARGETS) for value in ("[qeury]", "[]", "[query, query]")),
    *(("train.epochs", value, "a whole number from 1 to 1000") for value in ("0", "-1", "1.5")),
    *(("run.seeds", value, SEEDS) for value in ("1", "[]", "[1, 1]", "[-1]", f"[{2**32}]")),
    *(
        ("train.learning_rate", value, "a number above 0, at most 1")
        for value in (".nan", "0", "-1", '"5e-5"')
    ),
    ("train.batch_size", "0", "a whole number of reviews from 1 to 4096"),
    ("data.reviews.train", "50001", "the article's split of IMDb has 35000"),
    ("train.epochs", "2\n  epochs: 3", "write each key once"),
    ("train.epochs", "!!python/object/apply:os.system [canary]", "not plain YAML 1.2"),
]
"""The key, what is wrong, and what is said to be allowed."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = checkout(tmp_path_factory.mktemp("bad"), git=False)
    add_study(root, "bad", data={"source": "archive"})
    return root


def write(project: Path, key: str, value: str) -> int:
    """Write the study ``bad`` with this value; the number of its line."""
    file = add_study(project, "bad", data={"source": "archive"})
    by_line = YAML(typ="safe", pure=True)
    by_line.default_flow_style, by_line.width = False, 1000
    by_line.dump(read_params(file), file)
    lines, depth, place = file.read_text().splitlines(), 0, 0
    for name in key.split("."):
        start = f"{'  ' * depth}{name}:"
        place = next(n for n in range(place, len(lines)) if lines[n].startswith(start))
        depth += 1
    end = place + 1
    while end < len(lines) and lines[end].startswith(("  " * depth, "  " * (depth - 1) + "- ")):
        end += 1
    lines[place:end] = [f"{'  ' * (depth - 1)}{key.rpartition('.')[2]}: {value}"]
    file.write_text("\n".join(lines) + "\n")
    return place + 1


@pytest.mark.fault(21)
@pytest.mark.goal("bad input")
@pytest.mark.parametrize(("key", "value", "allowed"), BAD, ids=[f"{k} {v}" for k, v, _ in BAD])
def test_a_bad_input_is_refused_and_changes_nothing(project, monkeypatch, key, value, allowed):
    monkeypatch.chdir(project)
    write(project, key, value)
    before = tree(project)
    with pytest.raises(ParameterError) as problem:
        run_study("bad")
    assert tree(project) == before
    shown = re.search(r"[\w/:.-]*", value.strip('"[!.'))[0]
    parts = [r"bad/params\.yaml:\d+: ", re.escape(shown.split("\n")[0]), re.escape(allowed)]
    assert any(
        all(re.search(part, line) for part in parts) for line in str(problem.value).splitlines()
    ), problem.value


def test_there_are_thirty():
    assert len({(key, value) for key, value, _ in BAD}) == 30


@pytest.mark.fault(21)
def test_all_of_a_files_problems_are_told_at_once(project, monkeypatch):
    monkeypatch.chdir(project)
    add_study(
        project,
        "bad",
        title="",
        data={"generated_seed": -1},
        model={"max_tokens": 2},
        train={"epochs": 0, "batch_size": 0, "precision": "fp8"},
        run={"seeds": []},
        grid={"rank": [0], "seed": "x", "drpout": 0},
        report={"confidence": 1},
        tracking={"uri": ""},
        extra=1,
    )
    with pytest.raises(ParameterError) as problem:
        run_study("bad")
    wrong = (
        "title", "data.generated_seed", "model.max_tokens", "train.epochs", "train.batch_size",
        "train.precision", "run.seeds", "grid.rank.0", "grid.seed", "grid.drpout",
        "report.confidence", "tracking.uri", "extra",
    )  # fmt: skip
    lines = str(problem.value).splitlines()
    assert len(lines) == len(wrong)
    for key in wrong:
        place = rf"params\.yaml:\d+: (unknown key )?{re.escape(key)}[ ;]"
        assert any(re.search(place, line) for line in lines), key


RUN = (
    "import sys; from lora_replication.process import run_command\n"
    "from lora_replication.pipeline import run_study\n"
    "code = run_command(lambda: run_study('bad'), 'run')\n"
    "heavy = {'torch', 'transformers', 'mlflow', 'dvc', 'pandas'}\n"
    "print(sorted(heavy & set(sys.modules))); sys.exit(code)"
)


@pytest.mark.fault(21)
@pytest.mark.parametrize("case", [0, 7, 29])
def test_torch_is_never_imported_for_it(project, case):
    key, value, allowed = BAD[case]
    write(project, key, value)
    before = tree(project)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=project,
        env=environment(project),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip()) == (2, "[]")
    assert allowed in done.stderr
    assert done.stderr.endswith("run: exit code 2\n")
    assert tree(project) == before
    assert not os.path.lexists(project / "canary")


LETTERS = string.ascii_lowercase + "_"


def misspelt(draw, key: str) -> str:
    """One letter more, less or another, or two neighbours swapped."""
    place = draw(st.integers(0, len(key) - 1))
    letter = draw(st.sampled_from(LETTERS))
    kinds = (key[:place] + key[place + 1 :], key[:place] + letter + key[place:], key[:place] + letter + key[place + 1 :],
             key[:place] + key[place : place + 2][::-1] + key[place + 2 :])  # fmt: skip
    return draw(st.sampled_from(kinds))


@cache
def edits(one: str, other: str) -> int:
    """The fewest changes of ``misspelt`` that make one of the other."""
    if not one or not other:
        return len(one) + len(other)
    ways = [
        edits(one[1:], other) + 1,
        edits(one, other[1:]) + 1,
        edits(one[1:], other[1:]) + (one[0] != other[0]),
    ]
    if len(one) > 1 and one[:2] == other[1::-1]:
        ways.append(edits(one[2:], other[2:]) + 1)
    return min(ways)


def every_key() -> list[tuple[str, ...]]:
    """The path of every key of a study."""

    def below(content: object, path: tuple[str, ...]) -> list[tuple[str, ...]]:
        if not isinstance(content, dict):
            return []
        found = [(*path, name) for name in content]
        for name, value in content.items():
            found += below(value, (*path, name))
        return found

    return [path for path in below(read_params(), ()) if path[0] != "methods" or len(path) == 1]


@pytest.mark.fault(22)
@pytest.mark.parametrize("distance", [1, 2])
@settings(max_examples=150, deadline=None)
@given(st.sampled_from(every_key()), st.data())
def test_a_misspelt_key_is_refused_and_the_right_one_offered(
    tmp_path_factory, distance, path, data
):
    *parents, key = path
    wrong = key
    for _ in range(distance):
        wrong = misspelt(data.draw, wrong)
    siblings = {known for *above, known in every_key() if above == parents}
    if wrong in siblings or not wrong:
        return
    content = study_params()
    part = content
    for name in parents:
        part = part[name]
    part[wrong] = 1
    file = tmp_path_factory.mktemp("misspelt") / "params.yaml"
    YAML(typ="safe", pure=True).dump(content, file)
    with pytest.raises(ParameterError) as problem:
        load_study(file)
    (line,) = (line for line in str(problem.value).splitlines() if "unknown key" in line)
    assert f"unknown key {'.'.join([*parents, wrong])};" in line
    others = min(edits(wrong, other) for other in siblings - {key})
    # Else too little is left to tell which was meant.
    if len(key) >= 4 * distance and others > distance:
        assert f"did you mean {'.'.join(path)}?" in line
