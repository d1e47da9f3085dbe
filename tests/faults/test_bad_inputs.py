"""Faults 21 and 22: whatever a study file gets wrong is told in one go, quickly, and nothing on
disk changes.
"""

import os
import re
import string
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_params import every_key
from test_pipeline import ROOT, checkout, environment, tree

from lora_replication.errors import ParameterError
from lora_replication.pipeline import run_study
from lora_replication.reading import load_study

RANK = ("methods:", "  lora_default:", "    lora:")
SEEDS = "at least one whole number from 0 to 4294967295, none twice"
TARGETS = "at least one of query, key, value, projection, mlp, head, none twice"

BAD = [
    *(
        (RANK, f"rank: {value}", "a whole number from 1 to 768")
        for value in ("-1", "0", "2.5", '"8"', "true", "null", 10**9)
    ),
    *(
        (RANK, f"alpha: {value}", "a number above 0, at most 1000000")
        for value in (".nan", ".inf", "-1", '"x"')
    ),
    *((RANK, f"targets: {value}", TARGETS) for value in ("[qeury]", "[]", "[query, query]")),
    *(
        (("train:",), f"epochs: {value}", "a whole number from 1 to 1000")
        for value in ("0", "-1", "1.5")
    ),
    *(
        (("run:",), f"seeds: {value}", SEEDS)
        for value in ("1", "[]", "[1, 1]", "[-1]", f"[{2**32}]")
    ),
    *(
        (("train:",), f"learning_rate: {value}", "a number above 0, at most 1")
        for value in (".nan", "0", "-1", '"5e-5"')
    ),
    (("train:",), "batch_size: 0", "a whole number of reviews from 1 to 4096"),
    (
        ("data:", "  source: archive", "  reviews:"),
        "train: 50001",
        "the article's split of IMDb has 35000",
    ),
    (("train:", "  epochs: 1"), "epochs: 2", "write each key once"),
    (("train:",), "epochs: !!python/object/apply:os.system [canary]", "not plain YAML 1.2"),
]
"""Lines above it, the line that is wrong, and what is said to be allowed."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("bad"))


def write(project: Path, above: tuple[str, ...], line: str) -> int:
    """Write the study ``bad`` and give the number of the line that is wrong."""
    indent = " " * (len(above[-1]) - len(above[-1].lstrip()) + 2 * above[-1].endswith(":"))
    lines = ["study: bad", "title: A bad study", *above, f"{indent}{line}"]
    (project / "studies" / "bad.yaml").write_text("\n".join(lines) + "\n")
    return len(lines)


@pytest.mark.fault(21)
@pytest.mark.goal("bad input")
@pytest.mark.parametrize(("above", "line", "allowed"), BAD, ids=[line for _, line, _ in BAD])
def test_a_bad_input_is_told_and_changes_nothing(project, monkeypatch, above, line, allowed):
    monkeypatch.chdir(project)
    number = write(project, above, line)
    before, started = tree(project), time.monotonic()
    with pytest.raises(ParameterError) as told:
        run_study("bad")
    assert time.monotonic() - started < 2
    assert tree(project) == before
    assert told.value.exit_code == 2
    key, _, value = line.partition(": ")
    at = (
        number - 3 if key == "train" else number
    )  # what is wrong with sizes is told of the whole part
    shown = re.search(r"[\w/:.-]*", value.strip('"[!.'))[0]
    parts = (
        f"bad.yaml:{at}: ",
        key if "!!" not in value else "",
        shown,
        allowed,
    )  # a tag is told without its key
    assert any(
        all(part in message for part in parts) for message in str(told.value).splitlines()
    ), told.value


def test_there_are_thirty():
    assert len({line for _, line, _ in BAD}) == 30


@pytest.mark.fault(21)
def test_all_of_a_files_problems_are_told_at_once(project, monkeypatch):
    monkeypatch.chdir(project)
    (project / "studies" / "bad.yaml").write_text(
        "study: bad\ntitle: ''\ndata: {generated_seed: -1}\nmodel: {max_tokens: 2}\ntrain: {epochs: 0, batch_size: 0, precision: fp8}\n"
        "run: {seeds: []}\ngrid: {rank: [0], seed: x, drpout: 0}\nreport: {confidence: 1}\ntracking: {uri: ''}\nextra: 1\n"
    )
    with pytest.raises(ParameterError) as told:
        run_study("bad")
    wrong = ("title", "data.generated_seed", "model.max_tokens", "train.epochs", "train.batch_size", "train.precision", "run.seeds",
             "grid.rank.0", "grid.seed", "grid.drpout", "report.confidence", "tracking.uri", "extra")  # fmt: skip
    lines = str(told.value).splitlines()
    assert len(lines) == len(wrong)
    assert all(
        any(
            re.search(rf"bad\.yaml:\d+: (unknown key )?{re.escape(key)}[ ;]", line)
            for line in lines
        )
        for key in wrong
    )


RUN = (
    "import sys; from lora_replication.process import run_command; from lora_replication.pipeline import run_study\n"
    "code = run_command(lambda: run_study('bad'), 'run')\n"
    "print([name for name in ('torch', 'transformers', 'mlflow', 'dvc') if name in sys.modules]); sys.exit(code)"
)


@pytest.mark.fault(21)
@pytest.mark.parametrize("case", [0, 7, 29])
def test_torch_is_never_imported_for_it(project, case):
    above, line, allowed = BAD[case]
    write(project, above, line)
    before = tree(project)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
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
    siblings = {known for *above, known in every_key() if above == parents} | {
        "val",
        "uri",
        "mlp",
        "key",
    }
    if wrong in siblings or not wrong:
        return
    text = (
        "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(parents))
        + f"{'  ' * len(parents)}'{wrong}': 1\n"
    )
    file = tmp_path_factory.mktemp("misspelt") / "study.yaml"
    file.write_text(text)
    with pytest.raises(ParameterError) as told:
        load_study(ROOT / "params.yaml", file)
    (line,) = (line for line in str(told.value).splitlines() if "unknown key" in line)
    assert f"study.yaml:{len(parents) + 1}: unknown key {'.'.join([*parents, wrong])};" in line
    others = min(edits(wrong, other) for other in siblings - {key})
    if (
        len(key) >= 4 * distance and others > distance
    ):  # else too little is left to tell which was meant
        assert f"did you mean {'.'.join(path)}?" in line
    assert told.value.exit_code == 2
