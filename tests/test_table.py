"""Texts of one's own: read or refused, split, trained with as many outputs, told by class names."""

import json
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lora_replication.compare.foreign import read_answers
from lora_replication.data.prepare import is_prepared, prepare
from lora_replication.data.reviews import PARTS
from lora_replication.data.table import is_of_table, load_table
from lora_replication.encoders import locate_encoder
from lora_replication.errors import DataError, ParameterError
from lora_replication.export import export_run, import_adapter
from lora_replication.grid.ray import SILENT
from lora_replication.grid.space import grid_runs
from lora_replication.predict import predict_texts
from lora_replication.reading import load_study
from lora_replication.statistics.scores import class_scores
from lora_replication.study import DataParams
from lora_replication.training.evaluation import count
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.projects import SMALL, add_study, checkout, run
from tests.study_files import write_params
from tests.tiny_encoders import tiny_encoder

WORDS = {"sport": "goal match team", "money": "bank price market", "weather": "rain cloud wind"}
WRITERS = {
    ".csv": partial(pd.DataFrame.to_csv, index=False),
    ".jsonl": partial(pd.DataFrame.to_json, orient="records", lines=True),
    ".parquet": pd.DataFrame.to_parquet,
}


def texts(number: int) -> pd.DataFrame:
    """Texts of three classes in turn."""
    labels = [list(WORDS)[row % 3] for row in range(number)]
    rows = [f'the {WORDS[label]} is\na "{row}", of' for row, label in enumerate(labels)]
    return pd.DataFrame({"text": rows, "label": labels})


def write(frame: pd.DataFrame, file: Path) -> Path:
    WRITERS[file.suffix](frame, file)
    return file


def asked(path: Path, *sizes: int, **table: object) -> DataParams:
    reviews = dict(zip(PARTS, sizes or (6, 3, 3), strict=True))
    content = {"source": "table", "path": str(path), "reviews": reviews, "generated_seed": 1}
    return DataParams.model_validate(content | {"table": table})


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_a_drawn_split_has_each_class_in_its_share_and_train_grows_by_itself(tmp_path, form):
    rows, file = texts(90).drop(range(75, 90, 3)), tmp_path / f"a.{form}"
    split, loaded = load_table(asked(write(rows, file), 34, 17, 17))
    assert loaded.classes == ("money", "sport", "weather")  # 30, 25 and 30 of them
    for part, size in zip(PARTS, (34, 17, 17), strict=True):
        counts = np.bincount([review.label for review in split[part]])
        assert np.abs(counts - size * np.array([30, 25, 30]) / 85).max() <= 1
    every = {review for own in split.values() for review in own}
    assert len(every) == 68
    for review in every:
        row = rows.iloc[int(review.name.removeprefix(f"a.{form}:")) - 1]
        assert (review.text, loaded.classes[review.label]) == (row.text, row.label)
    larger, _ = load_table(asked(file, 40, 17, 17))
    assert (larger["val"], larger["train"][:34]) == (split["val"], split["train"])
    assert load_table(asked(file, 34, 17, 17, seed=2))[0] != split


def test_a_given_split_comes_from_a_column_or_from_a_file_for_each_part(tmp_path):
    parts, file = np.repeat(PARTS, [6, 3, 3]), tmp_path / "a.csv"
    rows = texts(12).assign(label=np.arange(12) % 3 + 9, name=parts)
    by_column, loaded = load_table(asked(write(rows, file), split="name"))
    assert loaded.classes == ("9", "10", "11")  # as numbers are ordered
    (folder := tmp_path / "folder").mkdir()
    for part, form in zip(PARTS, (".csv", ".jsonl", ".parquet"), strict=True):
        write(rows[parts == part], folder / (part + form))
    by_file, _ = load_table(asked(folder))
    for part in PARTS:
        assert [r[:2] for r in by_file[part]] == [r[:2] for r in by_column[part]]
    with pytest.raises(DataError, match="row 1 has no part: one of train, val, test; 6 of 12 rows"):
        load_table(asked(write(rows.replace("train", "dev"), file), split="name"))


def test_a_file_of_the_hub_has_an_address_with_its_commit_and_its_classes_names(
    tmp_path, monkeypatch
):
    noted = {"info": {"features": {"label": {"names": list(WORDS), "_type": "ClassLabel"}}}}
    numbered = pa.table({"text": texts(30)["text"], "label": [row % 3 for row in range(30)]})
    snapshot = tmp_path / "datasets--someone--news" / "snapshots" / ("ab" * 20)
    (snapshot / "data").mkdir(parents=True)
    table = numbered.replace_schema_metadata({"huggingface": json.dumps(noted)})
    pq.write_table(table, snapshot / "data" / "train-0.parquet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    address = f"hub://someone/news@{'ab' * 20}/data/train-0.parquet"
    split, loaded = load_table(asked(address))
    assert loaded.classes == tuple(sorted(WORDS))
    for review in split["train"]:
        assert WORDS[loaded.classes[review.label]] in review.text
    study = write_params(tmp_path, data={"source": "table", "path": address})
    assert load_study(study).data.path == address
    assert is_of_table(asked(address), loaded.files)
    for other in (address.replace("ab" * 20, "cd" * 20), address.replace("-0", "-1")):
        assert not is_of_table(asked(other), loaded.files)
    for wrong in (address.replace("@ab", "@"), address.replace("data/", "../")):
        with pytest.raises(ValueError, match="allowed: for source table, hub://OWNER/NAME@COMMIT"):
            asked(wrong)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'text,label\n"a,x\nb,y\n', "after row 0: unexpected end of data"),
        ("a.csv", 'text,label\na,x\n"b,x\n"c",y\n', "after row 1: ',' expected after '\"'"),
        ("a.csv", "text,label\na,x,y\n", "row 1 has too many cells"),
        ("a.csv", "text,label\na,x\nb\n ,x\n", "row 2 has no label: .*; 2 of 3 rows are wrong"),
        ("a.csv", f"text,label\n{'x' * 10_000_000},y\n", "field larger than field limit"),
        ("a.csv", "text,topic\na,x\n", "it has no column label"),
        ("a.csv", "text,label\na,x\nb,x\n", r"has 1 classes \(x\); allowed: 2 to 150"),
        ("a.parquet", "text,label\n", "Parquet magic bytes not found"),
        ("a.jsonl", '{"text": ' + "[" * 10**5, "maximum recursion depth"),
        ("a.jsonl", "[]", "'list' object is not a mapping"),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}', "half a surrogate pair"),
        ("a.jsonl", '{"text": "", "label": 1}', "row 1 has no text of 1 to 1,048,576 characters"),
        ("a.jsonl", '{"text": "a", "label": 0.5}', "row 1 has no label: a whole number"),
        ("a.xlsx", "", r"it is no \.csv or \.jsonl or \.parquet of at most 1,073,741,824 bytes"),
    ],
)
def test_bad_tables_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        load_table(asked(tmp_path / name))


def test_what_the_table_can_not_give_is_refused(tmp_path):
    file = write(texts(12), tmp_path / "a.csv")
    with pytest.raises(ParameterError, match=r"data\.reviews\.train is 7; allowed: at most 6, "):
        load_table(asked(file, 7, 3, 3))
    with pytest.raises(DataError, match="val has no text of 'sport'; allowed: each class in each"):
        load_table(asked(file, 3, 1, 3))
    with pytest.raises(DataError, match="allowed: a file for each part"):
        load_table(asked(tmp_path))
    with file.open("r+b") as stream:
        stream.truncate(2**30 + 1)
    with pytest.raises(DataError, match="of at most 1,073,741,824 bytes"):
        load_table(asked(file))


def test_counts_scores_and_foreign_answers_of_three_classes_by_hand(tmp_path):
    logits, labels = np.log([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1]]), np.arange(3)
    assert [count(logits[rows], labels[rows]).ones for rows in ([0, 1, 2], [0, 2])] == [2, 2]
    assert count(logits[[0, 2]], labels[:2]).one_class
    found = class_scores(logits, labels)
    assert found.log_loss == pytest.approx(-np.log(0.7 * 0.6 * 0.1) / 3)
    assert found.brier == pytest.approx((0.14 + 0.26 + 1.22) / 6)
    assert found.calibration_error == pytest.approx((0.3 + 0.4 + 0.5) / 3)
    table = pd.DataFrame(logits, columns=["score_0", "score_1", "score_2"])
    file = write(table.assign(split="test", row=labels, label=labels), tmp_path / "seed-1.csv")
    assert read_answers(file, labels.astype(float)).tolist() == [1, 1, 0]


def test_a_pack_of_three_classes_predicts_their_names_wherever_it_goes(tmp_path, capsys):
    file = write(texts(150), tmp_path / "a.csv")
    own = {"source": "table", "path": "a.csv", "reviews": {"train": 90, "val": 30, "test": 30}}
    study, encoder = load_study(write_params(tmp_path, data=own)), tiny_encoder("distilbert")
    workspace, located = Workspace(study, tmp_path), locate_encoder(study.model)
    prepare(study, located, workspace.data)
    assert "a.csv; classes money, sport, weather\n" in capsys.readouterr().out
    records = perform(workspace, grid_runs(workspace)[:2], lambda _run: nullcontext(SILENT))
    assert [record.happened.pack for record in records] == [2, 2]
    folder = workspace.folder(records[0].asked)
    export_run(folder, "merged", tmp_path / "merged", encoder)
    config = json.loads((tmp_path / "merged" / "config.json").read_bytes())
    assert config["id2label"] == {"0": "money", "1": "sport", "2": "weather"}
    export_run(folder, "peft", tmp_path / "peft", encoder)
    import_adapter(tmp_path / "peft", tmp_path / "back", encoder, 64, ("0", "1"))
    table = pd.read_parquet(folder / "predictions.parquet")
    logits = table[["logit_0", "logit_1", "logit_2"]].to_numpy(float)[-1]
    logits = logits - np.logaddexp.reduce(logits)
    text = pd.read_parquet(workspace.data / "test.parquet")["text"].iloc[-1]
    for place in (folder, folder / "adapter.safetensors", tmp_path / "back"):
        predict_texts(place, [text], None, encoder_path=encoder, device=None, as_json=True)
        said = json.loads(capsys.readouterr().out)
        assert said["label"] == config["id2label"][str(logits.argmax())]
        assert said["probability"] == pytest.approx(np.exp(logits.max()))
    assert is_prepared(study, located, workspace.data)
    write(texts(151), file)
    assert not is_prepared(study, located, workspace.data)
    file.unlink()
    assert is_prepared(study, located, workspace.data)


@pytest.mark.slow
def test_a_study_of_600_texts_runs_to_its_report_and_predicts_class_names(tmp_path):
    root = checkout(tmp_path)
    own = {"source": "table", "path": "a.csv", "reviews": {"train": 360, "val": 120, "test": 120}}
    changes = {"study": "own", "title": "Three topics", "data": own, "train": {"epochs": 2}}
    write(texts(600), add_study(root, "own", **SMALL | changes).parent / "a.csv")
    done = run(root, "run", "own", timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (root / "reports/own/report.md").read_text("utf-8")
    assert "Texts of a table of its own, not IMDb" in page
    assert "| sport | 120 | 40 | 40 |" in page
    for word in ("Verdict", "Article", "Deviations", "IMDb's"):
        assert word not in page
    assert json.loads((root / "reports/own/verdicts.json").read_bytes())["verdicts"] == []
    encoder = str(tiny_encoder("distilbert"))
    words = ["predict", "runs/own/full/seed-1", "a goal of the match", "--encoder-path", encoder]
    assert run(root, *words).stdout.startswith("sport  ")
