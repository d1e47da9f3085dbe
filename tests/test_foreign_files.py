"""Files of others: each is read, or refused with the file and what to do; nothing else happens."""

import json
import resource
import shutil
from contextlib import nullcontext, suppress
from copy import deepcopy
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from safetensors.torch import load_file, save, save_file

from lora_replication.adapter import METADATA, read_description
from lora_replication.article.published_file import parse_published_grid
from lora_replication.compare import foreign
from lora_replication.data.imdb import read_parquet_folder
from lora_replication.data.manifest import read_manifest
from lora_replication.data.prepare import summary
from lora_replication.data.table import load_table
from lora_replication.data.tokens import load_tokenizer
from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError, ParameterError
from lora_replication.export import export_run, import_adapter
from lora_replication.grid.ray import SILENT
from lora_replication.plan import method_run
from lora_replication.predict import find_trained, predict_texts
from lora_replication.reading import load_study
from lora_replication.record import (
    ADAPTER,
    PREDICTIONS,
    Record,
    checked_file,
    read_record,
    write_record,
)
from lora_replication.report.predictions import read_columns
from lora_replication.study import ModelParams
from lora_replication.tracking import content as tracked
from lora_replication.training.checkpoints import Checkpoint
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import load_classifier
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.published_files import made_up, text_of
from tests.study_files import link_data, study_params, write_params
from tests.test_table import asked, texts, write
from tests.tiny_encoders import tiny_encoder

ENCODER = tiny_encoder("distilbert")
ODD = st.sampled_from([
    None, True, -1, 0, 3, 2.5, 1e308, 10**12, 10**400, "2", "", "../../x", "\u2028", "=1+1",
    [], {},
])  # fmt: skip
"""Values in the place of others."""


@pytest.fixture(scope="module")
def place(tiny_study, tiny_data, tmp_path_factory):
    """A project with a run; ``early`` is its record as if of a time that kept no sha256."""
    workspace = Workspace(tiny_study, link_data(tmp_path_factory.mktemp("foreign"), tiny_data))
    run = method_run(workspace, "last_layers", 1)
    [record] = perform(workspace, [run], lambda _run: nullcontext(SILENT))
    none = {"predictions_sha256": None, "adapter_sha256": None}
    happened = record.happened.model_copy(update=none)
    return Place(workspace, record.model_copy(update={"happened": happened}))


class Place:
    def __init__(self, workspace: Workspace, early: Record) -> None:
        self.run, self.early = workspace.folder(early.asked), early
        self.data = workspace.data
        self.folder = workspace.state / "file"
        self.folder.mkdir(parents=True)
        encoder = workspace.encoder
        self.classifier = Classifier(encoder, early.asked.settings, 1)

    def write(self, name: str, content: bytes) -> Path:
        (self.folder / name).write_bytes(content)
        return self.folder / name


@st.composite
def spoiled(draw, content: bytes) -> bytes:
    """Some bytes at a place replaced by others."""
    start = draw(st.integers(0, len(content)))
    end = draw(st.sampled_from([start, start + 1, start + 8, len(content)]))
    return content[:start] + draw(st.binary(max_size=12)) + content[end:]


@st.composite
def altered(draw, content: dict) -> dict:
    """One value somewhere in it replaced by an odd one."""
    content = deepcopy(content)
    node, key = content, draw(st.sampled_from(list(content)))
    while node[key] and isinstance(node[key], dict | list) and draw(st.booleans()):
        node = node[key]
        key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
    node[key] = draw(ODD)
    return content


def study(place, draw):
    file = place.folder / "params.yaml"
    YAML(pure=True).dump(draw(altered(study_params())), file)
    if draw(st.booleans()):
        file.write_bytes(draw(spoiled(file.read_bytes())))
    load_study(file)


def encoder(place, draw):
    folder = place.folder / "encoder"
    shutil.copytree(ENCODER, folder, dirs_exist_ok=True)
    name = draw(st.sampled_from(["config.json", "vocab.txt", "model.safetensors", "values"]))
    if name == "values":
        config = json.loads((ENCODER / "config.json").read_bytes())
        (folder / "config.json").write_text(json.dumps(draw(altered(config))))
    else:
        (folder / name).write_bytes(draw(spoiled((ENCODER / name).read_bytes())))
    found = locate_encoder(ModelParams(encoder="folder", path=str(folder), max_tokens=64))
    load_tokenizer(found.vocabulary, 64).encode("a fine film")
    load_classifier(found)


def record(place, draw):
    content = json.loads((place.run / "record.json").read_bytes())
    if draw(st.booleans()):
        del content["asked"]["key"]
    text = json.dumps(draw(altered(content))).encode()
    place.write("record.json", draw(spoiled(text)) if draw(st.booleans()) else text)
    read = read_record(place.folder)
    read.to_json()
    assert (Path("/runs") / read.asked.place).resolve().is_relative_to("/runs")
    for words in (tracked.run_tags, tracked.parameters):
        words(read.asked)
    tracked.outcome_tags(read)
    tracked.record_points(read)
    tracked.milliseconds(read.where.started)


def manifest(place, draw):
    content = json.loads((place.data / "manifest.json").read_bytes())
    place.write("manifest.json", json.dumps(draw(altered(content))).encode())
    read = read_manifest(place.folder)
    assert read.digest and summary(read, place.folder)


def adapter(place, draw):
    whole = (place.run / ADAPTER).read_bytes()
    file = place.write(ADAPTER, draw(spoiled(whole)))
    place.classifier.load_adapter(checked_file(file.parent, place.early, ADAPTER))


def described_adapter(place, draw):
    file = place.write(ADAPTER, (place.run / ADAPTER).read_bytes())
    described = json.loads(read_description(file).metadata()[METADATA])
    text = json.dumps(draw(altered(described)))
    save_file(load_file(file), file, {METADATA: draw(st.sampled_from([text, text[:-9]]))})
    if draw(st.booleans()):
        place.write(ADAPTER, draw(spoiled(file.read_bytes())))
    trained = find_trained(file)
    trained.load(trained.encoder(ENCODER), trained.description.settings)


def peft_adapter(place, draw):
    folder = place.folder / "peft"
    shutil.rmtree(folder, ignore_errors=True)
    export_run(place.run, "peft", folder, ENCODER)
    name = draw(st.sampled_from(["adapter_config.json", "adapter_model.safetensors", "values"]))
    if name == "values":
        name = "adapter_config.json"
        config = json.loads((folder / name).read_bytes())
        (folder / name).write_text(json.dumps(draw(altered(config | {"use_dora": False}))))
    else:
        (folder / name).write_bytes(draw(spoiled((folder / name).read_bytes())))
    shutil.rmtree(place.folder / "imported", ignore_errors=True)
    import_adapter(folder, place.folder / "imported", ENCODER, 64, ("0", "1"))


def predictions(place, draw):
    file = place.write(PREDICTIONS, draw(spoiled((place.run / PREDICTIONS).read_bytes())))
    read_columns(file, place.early)


def checkpoint(place, draw):
    whole = place.write("checkpoint", b"")
    Checkpoint(whole, ["key"]).save([], [])
    Checkpoint(place.write("checkpoint", draw(spoiled(whole.read_bytes()))), ["key"]).restore([])


def table_of_texts(place, draw):
    folder = place.folder / "texts"
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": ["a", "b"], "label": [0, 1]}), folder / "a.parquet")
    (folder / "a.parquet").write_bytes(draw(spoiled((folder / "a.parquet").read_bytes())))
    read_parquet_folder(folder)


def own_table(place, draw):
    form = draw(st.sampled_from(["csv", "jsonl", "parquet"]))
    content = write(texts(12), place.folder / f"own.{form}").read_bytes()
    load_table(asked(place.write(f"own.{form}", draw(spoiled(content)))))


def foreign_predictions(place, draw):
    lines = [f"test,{row},{row % 2},0.25,0.5" for row in range(3)]
    whole = "\n".join(["split,row,label,score_0,score_1", *lines]).encode()
    foreign.read_answers(place.write("seed-1.csv", draw(spoiled(whole))), np.arange(3) % 2)
    described = json.dumps(draw(altered({"name": "m", "study": "demo"}))).encode()
    foreign.read_description(place.write("predictions.json", draw(spoiled(described))))


def authors_results(place, draw):
    parse_published_grid(draw(spoiled(text_of(made_up(2)))))


KINDS = [
    study, encoder, record, manifest, adapter, described_adapter, peft_adapter, predictions,
    checkpoint, table_of_texts, own_table, authors_results, foreign_predictions,
]  # fmt: skip
FUZZED = {
    "deadline": timedelta(seconds=10),
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
    "print_blob": True,
}


def _most_memory() -> int:
    """What this process has ever taken, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def spoiling(examples):
    @pytest.mark.parametrize("kind", KINDS)
    @settings(max_examples=examples, **FUZZED)
    @given(data=st.data())
    def test(place, kind, data):
        before = _most_memory()
        with suppress(DataError, ParameterError):
            kind(place, data.draw)
        assert _most_memory() - before < 2**20, "a GiB, in KiB"

    return test


test_a_spoiled_file_is_read_or_refused = pytest.mark.fault(37, 38, 41)(spoiling(25))
test_thousands_of_spoiled_files_are_read_or_refused = pytest.mark.slow(spoiling(2000))


@pytest.mark.fault(21)
def test_a_few_lines_that_stand_for_millions_are_refused(tmp_path):
    lines = ["x0: &x0 {a0: 1}"]
    lines += [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}" for n in range(1, 10)]
    file = write_params(tmp_path)
    file.write_text("\n".join(lines) + "\n" + file.read_text())
    with pytest.raises(ParameterError, match=r"params\.yaml:2: .*merge keys \(<<\) are not read"):
        load_study(file)
    plain = write_params(tmp_path).read_text()
    assert "epochs: 2" in plain
    file.write_text(plain.replace("epochs: 2", f"epochs: 0x{'f' * 5000}"))
    with pytest.raises(ParameterError, match=r"epochs is a number of thousands of digits"):
        load_study(file)


@pytest.mark.fault(38)
def test_a_lone_carriage_return_does_not_move_the_pieces(tmp_path):
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_bytes(b"[UNK]\n[CLS]\n[SEP]\nx\ry\nfilm\n")
    assert load_tokenizer(vocabulary, 8).encode("film").ids == [1, 4, 2]


@pytest.mark.fault(20, 38)
def test_another_adapter_of_the_same_shapes_does_not_predict(place, tmp_path):
    run = shutil.copytree(place.run, tmp_path / "run")
    negated = {name: -tensor for name, tensor in load_file(run / ADAPTER).items()}
    (run / ADAPTER).write_bytes(save(negated))
    options = {"encoder_path": ENCODER, "device": "cpu", "as_json": True}
    with pytest.raises(DataError, match=r"adapter\.safetensors: altered; its record says sha256"):
        predict_texts(run, ["x"], None, **options)
    write_record(place.early, run)
    (run / ADAPTER).write_bytes(save({name: t * float("nan") for name, t in negated.items()}))
    with pytest.raises(DataError, match="not finite"):
        predict_texts(run, ["x"], None, **options)
    (run / ADAPTER).unlink()
    (run / ADAPTER).symlink_to(place.run / ADAPTER)
    with pytest.raises(DataError, match="is no plain file"):
        checked_file(run, place.early, ADAPTER)


@pytest.mark.fault(20)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "x", [1.0]])
def test_predictions_that_are_no_numbers_are_refused(place, tmp_path, value):
    table = pq.read_table(place.run / PREDICTIONS)
    at = table.column_names.index("logit_0")
    odd = pa.array([value] * len(table), None if value is not None else pa.float32())
    pq.write_table(table.set_column(at, "logit_0", odd), tmp_path / PREDICTIONS)
    with pytest.raises(DataError, match=r"predictions\.parquet: can't be read"):
        read_columns(tmp_path / PREDICTIONS, place.early)
