"""What DVC's lock calls done and the records do not: it is computed by the next start."""

import os
import shutil

import pytest
from ruamel.yaml import YAML

from lora_replication.errors import DataError
from lora_replication.files import write_whole
from lora_replication.pipeline import forget_undone
from lora_replication.plan import method_run
from lora_replication.reading import load_study
from lora_replication.training.run import perform
from lora_replication.workspace import Workspace
from tests.projects import checkout, dvc, places, run
from tests.study_files import write_params
from tests.tiny_encoders import tiny_encoder

STAGES = ("prepare", "train@full", "train@last_layers", "gridsearch", "report")
ENTRY = {"cmd": "x", "deps": [], "outs": []}


@pytest.fixture
def workspace(tiny_root):
    """A prepared study whose only run is done, and a lock that says so of every stage."""
    write_lock(tiny_root)
    return workspace_of(tiny_root)


def write_lock(folder):
    content = {"schema": "2.0", "stages": dict.fromkeys(STAGES, ENTRY)}
    YAML(pure=True).dump(content, folder / "dvc.lock")


def locked(folder) -> list[str]:
    return list(YAML(typ="safe", pure=True).load(folder / "dvc.lock")["stages"])


def workspace_of(root, **changes):
    plain = {"run": {"methods": ["last_layers"], "seeds": [1]}, "grid": None}
    file = write_params(root / "params", **plain | changes)
    return Workspace(load_study(file), root)


def test_what_is_recorded_stays_done(workspace, tmp_path, mirror):
    perform(workspace, [method_run(workspace, "last_layers", 1)], mirror)
    assert forget_undone(workspace, tmp_path) == []
    assert locked(tmp_path) == list(STAGES)


@pytest.mark.fault(30)
def test_runs_that_the_parameters_ask_for_now_are_not_done(workspace, tmp_path, mirror):
    perform(workspace, [method_run(workspace, "last_layers", 1)], mirror)
    now = workspace_of(tmp_path, train={"learning_rate": 2e-2})
    assert forget_undone(now, tmp_path) == []
    assert locked(tmp_path) == [name for name in STAGES if name != "train@last_layers"]
    write_lock(tmp_path)
    forget_undone(workspace_of(tmp_path, grid={"runners_up": 0, "rank": [1]}), tmp_path)
    assert "gridsearch" not in locked(tmp_path)


def test_a_report_older_than_the_parameters_is_made_again(workspace, tmp_path, mirror):
    perform(workspace, [method_run(workspace, "last_layers", 1)], mirror)
    write_whole(tmp_path / "params.yaml", b"")
    write_whole(workspace.report / "results.json", b"")
    forget_undone(workspace, tmp_path)
    assert "report" in locked(tmp_path)
    os.utime(workspace.report / "results.json", (1, 1))
    forget_undone(workspace, tmp_path)
    assert "report" not in locked(tmp_path)


@pytest.mark.fault(20, 30)
@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"reviews": {"train": 47}}},
        {"data": {"generated_seed": 9}},
        {"model": {"max_tokens": 32}},
    ],
)
def test_data_prepared_for_other_parameters_is_not_used(workspace, tmp_path, changes):
    now = workspace_of(tmp_path, **changes)
    with pytest.raises(DataError, match="prepared for other parameters"):
        _ = now.tokens
    assert forget_undone(now, tmp_path) == ["--no-run-cache"]
    assert "prepare" not in locked(tmp_path)


@pytest.mark.fault(38)
@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "config.json"])
def test_an_encoder_whose_files_are_replaced_is_prepared_for_again(workspace, tmp_path, name):
    other = shutil.copytree(tiny_encoder("distilbert"), tmp_path / "encoder")
    content = (other / name).read_bytes()
    ends = {"model": content[:-4] + b"\0\0\0\0", "vocab": content[:-2] + b"\xc3\xa9\n"}
    ends["config"] = content.replace(b'"n_heads": 2', b'"n_heads": 4')
    write_whole(other / name, ends[name.partition(".")[0]])
    now = workspace_of(tmp_path, model={"path": str(other)})
    assert forget_undone(now, tmp_path) == ["--no-run-cache"]
    assert "prepare" not in locked(tmp_path)


@pytest.mark.slow
@pytest.mark.fault(30)
def test_an_edit_while_a_stage_works_is_computed_by_the_next_start(tmp_path):
    root = checkout(tmp_path)
    params, stage = root / "studies/small/params.yaml", root / "stages/train.py"
    edit = "sed -i 's/learning_rate: 0.01/learning_rate: 0.02/' params.yaml"
    text, end = stage.read_text(), 'sys.exit(run_command(train, "train"))'
    assert end in text
    edits = f'code = run_command(train, "train"); import os; os.system("{edit}"); sys.exit(code)'
    stage.write_text(text.replace(end, edits))
    done = dvc(root, "repro")
    assert done.returncode != 0
    assert "run them (lora-replication run small)" in done.stdout + done.stderr
    stage.write_text(text)
    done = run(root, "run", "small")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(places(root)) == 5
    assert "0.02" in params.read_text()
