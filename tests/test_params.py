import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_replication.errors import ParameterError
from lora_replication.reading import load_study
from lora_replication.study import Study

ROOT = Path(__file__).resolve().parents[1]
PARAMS = ROOT / "params.yaml"


def overlaid(tmp_path: Path, text: str) -> Study:
    file = tmp_path / "study.yaml"
    file.write_text(text, "utf-8")
    return load_study(PARAMS, file)


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ParameterError) as problem:
        overlaid(tmp_path, text)
    assert problem.value.exit_code == 2
    return str(problem.value).replace(f"{tmp_path}/", "").splitlines()


def test_the_articles_study_reads_as_the_facts_say():
    study = load_study(PARAMS)
    assert study.is_the_articles
    assert study.methods["lora_tuned"].lora.targets == ("query", "value", "mlp")
    assert (study.train.epochs, study.train.batch_size, study.train.learning_rate) == (3, 12, 5e-5)
    assert study.data.reviews.model_dump() == {"train": 35_000, "val": 5_000, "test": 10_000}


@pytest.mark.parametrize(
    "file", sorted((ROOT / "studies").glob("*.yaml")), ids=lambda file: file.stem
)
def test_every_study_reads_and_says_that_it_is_not_the_articles(file):
    study = load_study(PARAMS, file)
    assert study.study == file.stem
    assert not study.is_the_articles
    assert "not" in study.title


def test_a_study_states_only_what_differs(tmp_path):
    study = overlaid(
        tmp_path,
        "train: {epochs: 1}\nmethods: {lora_default: {lora: {rank: 4}}}\nrun: {seeds: [9]}",
    )
    base = load_study(PARAMS)
    assert (study.train.epochs, study.train.batch_size) == (1, base.train.batch_size)
    assert (study.methods["lora_default"].lora.rank, study.methods["lora_default"].lora.alpha) == (
        4,
        16,
    )
    assert study.run.seeds == [9]
    assert study.run.methods == base.run.methods


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    assert overlaid(tmp_path, "train: {learning_rate: 5e-5}").train.learning_rate == 5e-5


def test_targets_are_put_in_one_order(tmp_path):
    study = overlaid(tmp_path, "methods: {lora_default: {lora: {targets: [mlp, query]}}}")
    assert study.methods["lora_default"].lora.targets == ("query", "mlp")


RANK = "study.yaml:1: methods.lora_default.lora.rank is {}; allowed: a whole number from 1 to 768"
ALPHA = "study.yaml:1: methods.lora_default.lora.alpha is {}; allowed: a number above 0, at most 1000000"
LR = "study.yaml:1: train.learning_rate is {}; allowed: a number above 0, at most 1, written without quotes"
SEEDS = "at least one whole number from 0 to 4294967295, none twice"
SEED = "a whole number from 0 to 4294967295"
EPOCHS = "study.yaml:1: train.epochs is {}; allowed: a whole number from 1 to 1000"

TIMEOUT = "seconds, a number above 0, or null"
ADDRESS = "null, auto, or the head's host:port, without ray://"
EXECUTION_PROBLEMS = [
    *(
        ("pack", v, v, "a whole number of configurations from 1 to 1024, or null")
        for v in ("0", "1025", "1.5")
    ),
    ("executor", "dask", "'dask'", "one of here, processes, ray"),
    *(
        ("workers", v, v, "a whole number of processes from 1 to 1024")
        for v in ("0", "true", "null")
    ),
    *(("attempts", v, v, "a whole number from 1 to 100") for v in ("0", "-1", "101")),
    *(
        ("pack_timeout", v, s, TIMEOUT)
        for v, s in (("0", "0"), ("-1", "-1"), (".inf", "inf"), ('"60"', "'60'"))
    ),
    *(
        ("ray_address", f'"{v}"', f"'{v}'", ADDRESS)
        for v in ("ray://head:10001", "head", "", "head:port", "a b:1")
    ),
    *(("ray_cpus", v, v, "a whole number of CPUs from 1 to 1024") for v in ("0", "0.5")),
    *(
        ("ray_gpu_share", v, v, "a share of one GPU, above 0, at most 1")
        for v in ("0", "1.5", "null")
    ),
]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((f"methods: {{lora_default: {{lora: {{rank: {v}}}}}}}", RANK.format(s))
          for v, s in (("-1", "-1"), ("0", "0"), ("2.5", "2.5"), ('"8"', "'8'"), ("true", "true"), ("null", "null"), ("9" * 9,) * 2)),
        *((f"methods: {{lora_default: {{lora: {{alpha: {v}}}}}}}", ALPHA.format(s))
          for v, s in ((".nan", "nan"), (".inf", "inf"), ("-1", "-1"), ("x", "'x'"))),
        *((f"train: {{learning_rate: {v}}}", LR.format(s)) for v, s in ((".nan", "nan"), ("0", "0"), ("-1", "-1"), ('"5e-5"', "'5e-5'"))),
        *((f"train: {{epochs: {v}}}", EPOCHS.format(v)) for v in ("0", "-1", "1.5")),
        ("train: {batch_size: 0}", "study.yaml:1: train.batch_size is 0; allowed: a whole number of reviews from 1 to 4096"),
        ("run: {seeds: 1}", f"study.yaml:1: run.seeds is 1; allowed: {SEEDS}"),
        ("run: {seeds: []}", f"study.yaml:1: run.seeds is []; allowed: {SEEDS}"),
        ("run: {seeds: [1, 1]}", f"study.yaml:1: run.seeds is [1, 1]; allowed: {SEEDS}"),
        ("run: {seeds: [-1]}", f"study.yaml:1: run.seeds.0 is -1; allowed: {SEEDS}"),
        ("run: {seeds: [4294967296]}", f"study.yaml:1: run.seeds.0 is 4294967296; allowed: {SEEDS}"),
        ("grid: {seed: -1}", f"study.yaml:1: grid.seed is -1; allowed: {SEED}"),
        ("grid: {seed: 101}", "study.yaml:1: grid: winner_seeds holds the grid's own seed 101; the winner is trained again on fresh seeds"),
        ("grid: {query: [false], value: [false]}",
         "study.yaml:1: grid: one configuration would have no target; set one of query, key, value, projection, mlp, head to [true]"),
        ("grid: {key: [true, true]}", "study.yaml:1: grid.key is [True, True]; allowed: a list of true, false or both, none twice"),
        *((f"grid: {{{key}: {v}}}", f"study.yaml:1: grid.{key} is {s}; allowed: {allowed}") for key, v, s, allowed in EXECUTION_PROBLEMS),
        ("grid: {stop_one_class: 1}", "study.yaml:1: grid.stop_one_class is 1; allowed: true or false"),
        ("grid: {executor: ray, pack: null}",
         "study.yaml:1: grid: pack null measures the memory of this machine, not of Ray's; set grid.pack to a number for executor ray"),
        ("grid: {pack_timeout: 60}",
         "study.yaml:1: grid: pack_timeout needs executor processes or ray, which can kill what hangs; set it to null for executor here"),
        ("data: {reviews: {train: 35001}}", "study.yaml:1: data: reviews.train is 35001, but the article's split of IMDb has 35000"),
        ("data: {source: parquet}", "study.yaml:1: data: source parquet needs data.path"),
        ("data: {source: web}", "study.yaml:1: data.source is 'web'; allowed: one of hub, archive, folder, parquet, generated"),
        ("model: {encoder: folder}", "study.yaml:1: model: model.path is needed by encoder folder, and by no other"),
        ("methods: {full: {trains: lora}}", "study.yaml:1: methods.full: lora settings are needed where trains is lora, and nowhere else"),
        ("methods: {grid: {trains: all}}", "methods.grid: this name is the grid's own; allowed: any other"),
        ("run: {methods: [ful]}", "run.methods names 'ful'; allowed: last_layers, lora_default, lora_tuned, full"),
        ("study: -away", "study is '-away'; allowed: 1 to 64 of the characters A-Z a-z 0-9 . _ -, not starting with . or -"),
        ("data: {path: reviews.tar.gz}", "data.path is 'reviews.tar.gz', but source hub reads no path; set it to null"),
        ("data: {source: generated, path: x}", "data.path is 'x', but source generated reads no path"),
        ("study: ../away", "study is '../away'; allowed: 1 to 64 of the characters A-Z a-z 0-9 . _ -, not starting with . or -"),
        ("a: 1\na: 2", 'study.yaml:2: found duplicate key "a"; write each key once'),
        ("study: !!python/object:os.system x", "not plain YAML 1.2"),
        ("train: [1", "study.yaml:1: not plain YAML 1.2"),
        ("7", "study.yaml: holds int; a study is a mapping of keys to values"),
    ],
)  # fmt: skip
@pytest.mark.fault(21)
def test_a_wrong_value_is_told_with_file_line_key_value_and_what_is_allowed(
    tmp_path, text, message
):
    (told,) = problems(tmp_path, text)
    assert message in told


@pytest.mark.parametrize("targets", ["[qeury]", "[]", "[query, query]"])
def test_targets_that_are_wrong_empty_or_doubled(tmp_path, targets):
    told = problems(tmp_path, f"methods: {{lora_default: {{lora: {{targets: {targets}}}}}}}")
    assert all(
        "allowed: at least one of query, key, value, projection, mlp, head, none twice" in line
        for line in told
    )


@pytest.mark.fault(21)
def test_all_problems_are_told_at_once_each_with_its_own_line(tmp_path):
    told = problems(tmp_path, "train:\n  epochs: 0\n  batch_size: 0\nrun:\n  seeds: []\n")
    assert [line.split(" is ")[0] for line in told] == [
        "study.yaml:2: train.epochs", "study.yaml:3: train.batch_size", "study.yaml:5: run.seeds",
    ]  # fmt: skip


def test_a_missing_key_is_named_with_what_belongs_there(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(PARAMS.read_text("utf-8").replace("  epochs: 3\n", ""))
    with pytest.raises(
        ParameterError, match=r"train\.epochs is missing; allowed: a whole number from 1 to 1000"
    ):
        load_study(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ParameterError, match=r"none\.yaml: there is no such file"):
        load_study(tmp_path / "none.yaml")


def every_key() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []

    def walk(content: object, path: tuple[str, ...]) -> None:
        for key, value in content.items() if isinstance(content, dict) else ():
            if path[:1] != ("methods",) or len(path) != 1:
                found.append((*path, key))
            walk(value, (*path, key))

    walk(load_study(PARAMS).model_dump(exclude_none=True), ())
    return [path for path in found if path != ("methods",) and len(path[-1]) > 3]


@given(st.sampled_from(every_key()), st.data())
@pytest.mark.fault(22)
def test_a_misspelt_key_is_told_with_the_right_one(tmp_path_factory, path, data):
    """One letter left out, or two neighbours swapped, anywhere in any key."""
    *parents, key = path
    place = data.draw(st.integers(0, len(key) - 2))
    wrong = data.draw(
        st.sampled_from(
            [
                key[:place] + key[place + 1 :],
                key[:place] + key[place + 1] + key[place] + key[place + 2 :],
            ]
        )
    )
    if wrong == key:
        return
    text = (
        "".join(f"{'  ' * depth}{name}:\n" for depth, name in enumerate(parents))
        + f"{'  ' * len(parents)}{wrong}: 1\n"
    )
    told = problems(tmp_path_factory.mktemp("misspelt"), text)
    assert any(
        f"unknown key {'.'.join([*parents, wrong])}; did you mean {'.'.join(path)}?" in line
        for line in told
    )


def test_a_name_that_would_leave_its_folder_is_refused(tmp_path):
    (told,) = problems(tmp_path, "methods:\n  ../x: {trains: all}\n")
    assert told.startswith("study.yaml:2: the name '../x' is not allowed; allowed: 1 to 64 of")


def test_parameters_are_read_without_torch_or_transformers():
    code = (
        "import sys; from pathlib import Path; from lora_replication.params import load_study; load_study(Path(sys.argv[1])); "
        "print([n for n in ('torch', 'transformers', 'mlflow', 'scipy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(PARAMS)],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.strip() == "[]"
