"""What travels to workers, without Ray."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lora_replication.errors import DataError
from lora_replication.grid.ray import receive, send
from lora_replication.grid.space import grid_runs
from lora_replication.training.run import perform
from tests.grid_faults import Faults, left_behind, make_workspace


@pytest.fixture
def workspace(tiny_root):
    return make_workspace(tiny_root)


@pytest.fixture
def inputs(workspace, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return send(workspace, dict)


class Fetched(list):
    """Returns what was sent, in its time, and notes how often."""

    def __call__(self, contents):
        time.sleep(0.2)
        self.append(len(contents))
        return contents


def test_a_copy_is_fetched_once_and_trains_to_the_same_bits(workspace, inputs, tmp_path):
    fetched = Fetched()
    there = receive(inputs, fetched)
    assert receive(inputs, fetched).data == there.data == there.encoder.folder
    assert there.data.is_relative_to(tmp_path / "cache")
    assert fetched == [7]
    run = grid_runs(there)[0]
    assert run == grid_runs(workspace)[0]
    there.runs, there.state = tmp_path / "there", tmp_path / "state"
    for one in (workspace, there):
        perform(one, [run], Faults(tmp_path))
    assert left_behind(workspace.runs) == left_behind(there.runs) != {}


@pytest.mark.parametrize("name", ["model.safetensors", "tokens-train.safetensors", "manifest.json"])
def test_a_damaged_copy_is_mended(inputs, name):
    file = receive(inputs, Fetched()).data / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fetched = Fetched()
    receive(inputs, fetched)
    assert file.read_bytes() == whole
    assert fetched == [7]


@pytest.mark.fault(20)
def test_what_was_altered_on_the_way_is_refused(inputs):
    with pytest.raises(DataError, match=r"config\.json: came with another sha256 than sent"):
        receive(inputs, lambda contents: contents | {"config.json": b"{}"})


@pytest.mark.fault(13)
def test_of_two_processes_of_a_machine_one_fetches_the_copy(inputs):
    fetched = Fetched()
    with ThreadPoolExecutor(2) as at_once:
        list(at_once.map(receive, [inputs] * 2, [fetched] * 2))
    assert fetched == [7]
