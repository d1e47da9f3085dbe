"""Fault 21: thirty bad inputs are each told with key, value and what is allowed, quickly, and
nothing on disk changes. ``test_study.py`` looks at every key, several problems, misspelt keys.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lora_replication.errors import ParameterError
from lora_replication.pipeline import run_study
from tests.projects import add_study, checkout, environment, tree

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
    ("train.epochs", "2, epochs: 3", "write each key once"),
    ("train.epochs", "!!python/object/apply:os.system [canary]", "not plain YAML 1.2"),
]
"""The key, what is wrong, and what is said to be allowed."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkout(tmp_path_factory.mktemp("bad"), git=False)


def write(project: Path, key: str, value: str) -> None:
    """Write the study ``bad`` with this value, as text, at this key."""
    section, *names = key.split(".")
    change: object = "PLACE"
    for name in reversed(names):
        change = {name: change}
    data = {"source": "archive"}
    changes = {section: change | data} if section == "data" else {section: change, "data": data}
    file = add_study(project, "bad", **changes)
    text = file.read_text()
    assert text.count("PLACE") == 1
    file.write_text(text.replace("PLACE", value))


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
    parts = [r"bad/params\.yaml:\d+: ", re.escape(shown), re.escape(allowed)]
    lines = str(problem.value).splitlines()
    assert any(all(re.search(part, line) for part in parts) for line in lines), problem.value


RUN = """
import sys
from lora_replication.pipeline import run_study
from lora_replication.process import run_command
code = run_command(lambda: run_study("bad"), "run")
print(sorted({"torch", "transformers", "mlflow", "dvc", "pandas"} & set(sys.modules)))
sys.exit(code)
"""


@pytest.mark.fault(21)
def test_it_ends_with_2_and_torch_is_never_imported_nor_an_object_built_for_it(project):
    key, value, allowed = BAD[-1]
    write(project, key, value)
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=project, env=environment(project), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (2, "[]")
    assert allowed in done.stderr
    assert done.stderr.endswith("run: exit code 2\n")
    assert not os.path.lexists(project / "canary")
