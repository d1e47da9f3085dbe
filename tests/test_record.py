import json
from pathlib import Path

import pytest

from lora_replication.errors import DataError
from lora_replication.files import digest, file_digest
from lora_replication.reading import load_study
from lora_replication.record import (
    ADAPTER,
    PREDICTIONS,
    Count,
    Happened,
    Record,
    Run,
    Settings,
    checked_file,
    read_record,
    read_records,
    write_record,
)
from lora_replication.study import LoraParams, MethodParams
from tests.made_runs import WHERE

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "reports" / "minilm-small" / "records"
LORA = LoraParams(rank=8, alpha=16, targets=("query", "value"))
CHANGES = {
    "encoder": "minilm", "max_tokens": 65, "epochs": 3, "batch_size": 5, "learning_rate": 1e-3,
    "precision": "bf16-mixed", "device": "cuda", "trains": "all", "evaluate_train": False,
    "evaluate_test": False, "stop_one_class": True, "train_head": True, "options": {"x": 1},
    "file_sha256": "ab", "classes": ("a", "b", "c"),
}  # fmt: skip
LORA_CHANGES = {
    "rank": 4, "alpha": 1.0, "targets": ("query",), "scaling": "paper", "dropout": 0.05,
}  # fmt: skip


@pytest.fixture
def run(settings) -> Run:
    return Run(
        study="s", title="A study", role="method", name="lora_default",
        settings=settings(trains="lora", lora=LORA), seed=1, data="da", weights="we", results=1,
    )  # fmt: skip


def with_settings(run: Run, **changes) -> Run:
    return run.model_copy(update={"settings": run.settings.model_copy(update=changes)})


@pytest.fixture
def record(run) -> Record:
    where = WHERE.model_copy(update={"cpu_features": ["avx2"]})
    happened = Happened(status="ok", test=Count(correct=3, reviews=4, ones=2), adapter_sha256="a")
    return Record(asked=run, happened=happened, where=where)


def test_a_key_is_the_digest_of_settings_seed_data_weights_and_results_alone(run):
    """So no pin, no layout, no message, no column and no name of a function is part of it."""
    settings = {
        "encoder": "folder", "max_tokens": 64, "epochs": 2, "batch_size": 12, "learning_rate": 0.01,
        "precision": "fp32", "device": "cpu", "trains": "lora",
        "lora": {"rank": 8, "alpha": 16.0, "targets": ["query", "value"]},
    }  # fmt: skip
    decides = {"settings": settings, "seed": 1, "data": "da", "weights": "we", "results": 1}
    assert run.key == digest(decides)
    elsewhere = {"study": "t", "title": "T", "role": "winner", "name": "grid_winner"}
    assert run.model_copy(update=elsewhere).key == run.key


def test_every_setting_changes_the_key_once_it_is_set(run):
    keys = {run.key}
    assert CHANGES.keys() | {"lora", "file"} == Settings.model_fields.keys()
    assert LORA_CHANGES.keys() == LoraParams.model_fields.keys()
    keys |= {with_settings(run, **{name: value}).key for name, value in CHANGES.items()}
    keys |= {
        with_settings(run, lora=LORA.model_copy(update={name: value})).key
        for name, value in LORA_CHANGES.items()
    }
    others = {"seed": 2, "nudge": 1, "data": "db", "weights": "wf", "results": 2}
    keys |= {run.model_copy(update={name: value}).key for name, value in others.items()}
    assert len(keys) == 1 + len(CHANGES) + len(LORA_CHANGES) + len(others)


def test_an_option_at_its_default_or_unused_is_in_no_settings(settings):
    assert "lora" not in settings(trains="head").as_dict()
    explicit = settings(lora={"scaling": "article", "dropout": 0.0}, evaluate_train=True)
    plain = settings(lora={})
    assert explicit.as_dict() == plain.as_dict()
    assert plain.as_dict()["lora"].keys() == {"rank", "alpha", "targets"}


def test_a_method_takes_from_the_study_what_it_does_not_set_itself():
    study = load_study(ROOT / "params.yaml")
    own = Settings.of(study, MethodParams(trains="all", learning_rate=1e-3), stop_one_class=True)
    assert (own.learning_rate, own.stop_one_class, own.lora) == (1e-3, True, None)
    taken = Settings.of(study, MethodParams(trains="lora", lora=LORA))
    assert (taken.learning_rate, taken.lora, taken.evaluate_train) == (5e-5, LORA, True)
    assert (taken.encoder, taken.max_tokens) == ("distilbert-base-uncased", 512)
    assert (taken.epochs, taken.batch_size) == (3, 12)
    assert (taken.precision, taken.device) == ("fp16-mixed", "cuda")


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    folder = tmp_path / record.asked.place
    assert folder == tmp_path / "lora_default" / "seed-1"
    write_record(record, folder)
    assert read_record(folder) == record
    assert read_records(tmp_path) == [(folder, record)]
    content = (folder / "record.json").read_bytes()
    assert list(json.loads(content)) == ["schema_version", "asked", "happened", "where"]
    assert Record.from_json(content, folder).to_json() == content
    assert read_record(tmp_path / "none") is None


@pytest.mark.parametrize(
    ("role", "name", "place"),
    [
        ("cell", "r8-a1e+06-query", "grid/r8-a1e+06-query/seed-1"),
        ("winner", "grid_winner", "grid_winner/seed-1"),
        ("runner_up", "r8-a1-query", "grid_runners_up/r8-a1-query/seed-1"),
    ],
)
def test_each_role_has_its_folder(run, role, name, place):
    assert run.model_copy(update={"role": role, "name": name}).place == Path(place)


def test_the_published_records_are_read_with_their_keys_and_written_byte_for_byte():
    records = read_records(RECORDS)
    assert len(records) == 81
    for folder, record in records:
        assert record.asked.place == folder.relative_to(RECORDS)
        assert record.to_json() == (folder / "record.json").read_bytes()


def altered(part, name, value):
    def change(content):
        changed = json.loads(content)
        changed[part][name] = value
        return json.dumps(changed).encode()

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c[:-30], "not a record of this project"),
        (lambda c: c.replace(b'"seed"', b'"sead"'), r"not a record .*asked\.seed: Field required"),
        (lambda _c: b"[]", "not a record of this project"),
        (lambda _c: b"", "not a record of this project"),
        (altered("asked", "seed", 2), "so the record was altered"),
        (altered("asked", "key", None), "so the record was altered"),
        (altered("asked", "name", "../elsewhere"), "asked.name: String should match pattern"),
        (altered("asked", "study", "/root"), "asked.study: String should match pattern"),
        (altered("happened", "tokens_per_second", "many"), "happened.tokens_per_second"),
        (altered("happened", "test", {"correct": 5, "reviews": 4, "ones": 0}), "only 4 reviews"),
        (altered("happened", "best_epoch", 99), "best_epoch is 99 of 0 epochs"),
        (altered("happened", "pack", 0), "happened.pack: Input should be greater than"),
        (altered("where", "finished", "later"), "where.finished"),
        (lambda c: c.replace(b'_version": 2', b'_version": 1'), "schema 1, this version reads 2"),
    ],
)
@pytest.mark.fault(20)
def test_a_damaged_altered_or_older_record_is_refused(record, tmp_path, spoil, message):
    write_record(record, tmp_path)
    file = tmp_path / "record.json"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(DataError, match=message) as problem:
        read_record(tmp_path)
    assert str(problem.value).startswith(f"{file}: ")
    assert str(problem.value).endswith("; delete it to train the run again")


def test_what_is_no_small_file_is_no_record(tmp_path):
    (tmp_path / "record.json").write_bytes(b" " * 5_000_000)
    with pytest.raises(DataError, match="no file of at most 4,194,304 bytes"):
        read_record(tmp_path)
    (tmp_path / "record.json").unlink()
    (tmp_path / "record.json").mkdir()
    with pytest.raises(DataError, match=r"record\.json: can't be read \(Is a directory\)"):
        read_record(tmp_path)


def test_an_accuracy_is_its_count():
    assert Count(correct=3, reviews=4, ones=2).fraction == 0.75
    assert [Count(correct=1, reviews=2, ones=n).one_class for n in (0, 1, 2)] == [True, False, True]


@pytest.mark.parametrize(
    ("name", "field"), [(PREDICTIONS, "predictions_sha256"), (ADAPTER, "adapter_sha256")]
)
def test_files_are_those_that_the_run_wrote(record, tmp_path, name, field):
    file = tmp_path / name
    with pytest.raises(DataError, match=r"can't be read \(No such file"):
        checked_file(tmp_path, record, name)
    file.write_bytes(b"whole")
    sha256 = {"predictions_sha256": None, "adapter_sha256": None, field: file_digest(file)}
    whole = record.model_copy(update={"happened": record.happened.model_copy(update=sha256)})
    assert checked_file(tmp_path, whole, name) == file
    file.write_bytes(b"other")
    with pytest.raises(DataError, match="altered; its record says sha256"):
        checked_file(tmp_path, whole, name)
    sha256[field] = None  # as in the first edition
    early = record.model_copy(update={"happened": record.happened.model_copy(update=sha256)})
    assert checked_file(tmp_path, early, name) == file
