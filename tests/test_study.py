"""A study is read as DVC reads it; what is wrong is told with file, line, key, value, allowed."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lora_replication.errors import ParameterError
from lora_replication.reading import load_study
from tests.study_files import read_params

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params.yaml"


def edited(folder: Path, **values: str) -> Path:
    """The article's params with other values, written as YAML: ``train__epochs="0"``."""
    text = PARAMS.read_text("utf-8")
    for key, value in values.items():
        place = 0
        for depth, step in enumerate(key.split("__")):
            found = re.compile(rf"^{'  ' * depth}{step}: ?|[{{,] ?{step}: ?", re.M)
            place = found.search(text, place).end()
        in_braces = "{" in text[text.rindex("\n", 0, place) : place]
        old = re.compile(r"\[[^]]*\]|[^,}]*" if in_braces else r".*").match(text, place)
        text = text[:place] + value + text[old.end() :]
    (folder / "params.yaml").write_text(text, "utf-8")
    return folder / "params.yaml"


def problems(file: Path) -> list[str]:
    with pytest.raises(ParameterError) as problem:
        load_study(file)
    assert problem.value.exit_code == 2
    return str(problem.value).replace(f"{file.parent}/", "").splitlines()


def test_the_articles_study_reads_as_the_facts_say():
    study = load_study(PARAMS)
    assert study.is_the_articles
    assert study.methods["lora_tuned"].lora.targets == ("query", "value", "mlp")
    assert (study.train.epochs, study.train.batch_size, study.train.learning_rate) == (3, 12, 5e-5)
    assert study.data.reviews.model_dump() == {"train": 35_000, "val": 5_000, "test": 10_000}


@pytest.mark.parametrize(
    "file", sorted(ROOT.glob("studies/*/params.yaml")), ids=lambda file: file.parent.name
)
def test_every_other_study_reads_and_says_that_it_is_not_the_articles(file):
    study = load_study(file)
    assert study.study == file.parent.name
    assert not study.is_the_articles
    assert "not" in study.title


def test_numbers_targets_and_paths_are_read_as_they_are_meant(tmp_path):
    file = edited(
        tmp_path, study="v1.2_-x", train__learning_rate="5e-5", data__source="archive",
        data__path="a.gz", methods__lora_default__lora__targets="[mlp, query]",
    )  # fmt: skip
    study = load_study(file)
    assert study.train.learning_rate == 5e-5
    assert study.methods["lora_default"].lora.targets == ("query", "mlp")
    assert study.data.path == str(tmp_path / "a.gz")
    assert study.tracking.uri == f"sqlite:///{tmp_path}/mlflow.db"


WRONG = read_params(Path(__file__).with_name("wrong_values.yaml"))


@pytest.mark.parametrize(
    ("key", "allowed", "value", "shown"),
    [
        (key, allowed, value, shown)
        for key, own in WRONG.items()
        for allowed, cases in own.items()
        for value, shown in cases.items()
    ],
)
@pytest.mark.fault(21)
@pytest.mark.goal("bad input")
def test_a_wrong_value_is_told_with_file_line_key_value_and_what_is_allowed(
    tmp_path, key, allowed, value, shown
):
    file = edited(tmp_path, **{key: value})
    before, after = PARAMS.read_text("utf-8").splitlines(), file.read_text("utf-8").splitlines()
    (line,) = [n for n, pair in enumerate(zip(before, after, strict=True), 1) if len(set(pair)) > 1]
    expected = f"params.yaml:{line}: {key.replace('__', '.')} is {shown}; allowed: {allowed}"
    assert problems(file) == [expected]


TOGETHER = read_params(Path(__file__).with_name("wrong_together.yaml"))
MANY = {
    "grid__alpha": str(list(range(1, 1100))),
    "told": "grid: there are 105,504 configurations; all",
}


@pytest.mark.parametrize("values", [*TOGETHER, MANY], ids=lambda values: values["told"])
@pytest.mark.fault(21)
def test_a_value_that_does_not_go_with_another_is_told_with_both(tmp_path, values):
    (told,) = problems(edited(tmp_path, **{k: v for k, v in values.items() if k != "told"}))
    assert values["told"] in told
    assert told.startswith("params.yaml:")


@pytest.mark.fault(21)
def test_all_problems_are_told_at_once_each_with_its_own_line(tmp_path):
    file = edited(tmp_path, train__epochs="0", run__seeds="[1, x]", execution__attempts="0")
    lines = file.read_text("utf-8").splitlines()
    edits = ("  epochs: 0", "  seeds: [1, x]", "  attempts: 0")
    places = {f"params.yaml:{lines.index(edit) + 1}" for edit in edits}
    assert {told.split(": ")[0] for told in problems(file)} >= places


def test_a_missing_key_is_named_with_what_belongs_there(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text("utf-8").replace("  epochs: 3\n", ""))
    (told,) = problems(file)
    assert told.endswith("train.epochs is missing; allowed: a whole number from 1 to 1000")


BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\na: 2", 'params.yaml:2: not plain YAML 1.2: found duplicate key "a"; write each'),
        ("study: x\ntitle: !!python/object:os.system x", "params.yaml:2: not plain YAML 1.2"),
        (f"a0: &a0 [x]\n{BOMB}title: *a9", "params.yaml:11: title is [[[[[[[...], "),
        ("run:\n  seeds: *x", "params.yaml:2: not plain YAML 1.2"),
        (f"run:\n  seeds: {'9' * 5000}", "params.yaml: not plain YAML 1.2: Exceeds the limit"),
        (f"title: {'x' * 300_000}", "params.yaml: has 300,007 bytes; allowed: at most 65,536"),
        ("title: 2026-99-99", "params.yaml: not plain YAML 1.2: month must be in 1..12"),
        ("[" * 2_000 + "]" * 2_000, "params.yaml: not plain YAML 1.2: "),
        ("train: [1", "params.yaml:1: not plain YAML 1.2"),
        ("7", "params.yaml: holds int; a study is a mapping of keys to values"),
        ("", "params.yaml: holds NoneType; a study is a mapping"),
        (b"title: \xff", "params.yaml: not in UTF-8"),
        ("? [a]\n: 1", "params.yaml:1: "),
        ("1: 2", "params.yaml:1: "),
    ],
)
@pytest.mark.fault(21)
def test_what_is_no_plain_yaml_is_refused_before_it_is_built(tmp_path, text, message):
    file = tmp_path / "params.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert any(line.startswith(message) for line in problems(file))


def test_a_missing_file_is_named(tmp_path):
    (told,) = problems(tmp_path / "none.yaml")
    assert told.startswith("none.yaml: can't be read (No such file or directory)")
    assert problems(tmp_path)[0].endswith("that of the article is in the project's folder")


def every_key() -> list[tuple[str, ...]]:
    """Of a study, but for the methods' names, with more than three letters."""
    found: list[tuple[str, ...]] = []

    def walk(content: object, path: tuple[str, ...]) -> None:
        for key, value in content.items() if isinstance(content, dict) else ():
            if path != ("methods",) and len(key) > 3:
                found.append((*path, key))
            walk(value, (*path, key))

    walk(read_params(), ())
    return found


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(every_key()), st.data())
@pytest.mark.fault(22)
def test_a_misspelt_key_is_told_with_the_right_one(tmp_path_factory, path, data):
    """One letter left out, or two neighbours swapped, anywhere in any key."""
    *parents, key = path
    at = data.draw(st.integers(0, len(key) - 2))
    swapped = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
    wrong = data.draw(st.sampled_from([key[:at] + key[at + 1 :], swapped]))
    if wrong == key:
        return
    text = "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate([*parents, wrong]))
    file = tmp_path_factory.mktemp("misspelt") / "params.yaml"
    file.write_text(text.rstrip() + " 1\n")
    expected = f"unknown key {'.'.join([*parents, wrong])}; did you mean {'.'.join(path)}?"
    assert any(line.endswith(expected) for line in problems(file))
