"""What travels to workers on other machines and back, without Ray."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from grid_faults import Faults
from test_executors import study_with

from lora_replication.errors import DataError, EnvironmentProblem, GpuLost
from lora_replication.grid.executors import on_ray, open_executor
from lora_replication.grid.executors.attempts import Task
from lora_replication.grid.executors.cargo import load_cargo, unload_cargo
from lora_replication.grid.space import cell_jobs
from lora_replication.files import file_digest
from lora_replication.record import Record, read_record
from lora_replication.training.run import Bench, perform


@pytest.fixture
def bench(tiny_root):
    return Bench(study_with(executor="ray"), tiny_root)


@pytest.fixture
def cargo(bench, tmp_path, monkeypatch):
    """Of the tiny study; the cache is the test's own from here on."""
    cargo = load_cargo(bench, bytes)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cargo


class Fetched(list):
    """Gives the bytes that a cargo holds, and notes their sizes."""

    def __call__(self, content):
        self.append(len(content))
        return content


def copied(tmp_path: Path, name: str) -> Path:
    (file,) = (tmp_path / "cache/lora-replication/cargo").rglob(name)
    return file


def test_a_copy_is_written_once_and_trains_to_the_same_bits(bench, cargo, tmp_path):
    fetched = Fetched()
    there = unload_cargo(cargo, fetched)
    assert len(fetched) == 7
    unload_cargo(cargo, fetched)
    assert len(fetched) == 7
    job = cell_jobs(bench.study)[0]
    perform(bench, job, Faults(tmp_path))
    perform(there, job, Faults(tmp_path))
    assert there.encoder.folder.is_relative_to(tmp_path / "cache")
    for name in ("predictions.parquet", "adapter.safetensors"):
        assert file_digest(bench.folder(job) / name) == file_digest(there.folder(job) / name)


@pytest.mark.parametrize("name", ["model.safetensors", "tokens-train.safetensors", "manifest.json"])
def test_a_damaged_copy_is_mended(cargo, tmp_path, name):
    unload_cargo(cargo, Fetched())
    whole = copied(tmp_path, name).read_bytes()
    copied(tmp_path, name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    fetched = Fetched()
    unload_cargo(cargo, fetched)
    assert copied(tmp_path, name).read_bytes() == whole
    assert fetched == [len(whole)]


@pytest.mark.fault(20)
def test_what_was_changed_on_the_way_is_refused(cargo, tmp_path):
    with pytest.raises(DataError, match="came with another sha256"):
        unload_cargo(cargo, lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert not list((tmp_path / "cache").rglob("*.json"))


UNLOAD = """
import pickle, sys
from lora_replication.grid.executors.cargo import unload_cargo
cargo = pickle.loads(sys.stdin.buffer.read())
fetched = []
print("ready", flush=True)
unload_cargo(cargo, lambda content: fetched.append(1) or content)
print(len(fetched))
"""


@pytest.mark.fault(13)
def test_of_two_processes_of_a_machine_one_writes_the_copy(cargo):
    import pickle

    both = [
        subprocess.Popen(
            [sys.executable, "-c", UNLOAD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    for process in both:
        process.stdin.write(pickle.dumps(cargo))
        process.stdin.close()
    fetched = [int(process.stdout.read().split()[-1]) for process in both]
    assert all(process.wait(10) == 0 for process in both)
    assert sorted(fetched) == [0, 7]


def test_a_run_comes_back_whole_and_the_first_one_stays(
    bench, cargo, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(on_ray, "_benches", {cargo.digest: unload_cargo(cargo, Fetched())})
    jobs = cell_jobs(bench.study)[:2]
    started, answer = on_ray.run_pack(cargo, Task(jobs, 3), [bench.asked(job).key for job in jobs])
    assert started is None
    mirror = Faults(tmp_path)
    records = [
        on_ray.keep(bench, job, files, mirror) for job, files in zip(jobs, answer, strict=True)
    ]
    assert [bench.recorded(job) for job in jobs] == records
    assert [record.happened.attempt for record in records] == [3, 3]
    assert mirror.started == [f"{job.name} seed 1" for job in jobs]
    assert not list((tmp_path / "cache").rglob("record.json"))

    content = json.loads(answer[0]["record.json"])
    content["happened"]["attempt"] = 4
    second = dict(answer[0]) | {
        "record.json": json.dumps(content).encode(),
        "predictions.parquet": b"?",
    }
    assert on_ray.keep(bench, jobs[0], second, mirror) == records[0]
    assert "recorded already; the second record is dropped" in capsys.readouterr().err
    assert (
        read_record(bench.folder(jobs[0]))
        == records[0]
        == Record.model_validate_json(answer[0]["record.json"])
    )
    assert (bench.folder(jobs[0]) / "predictions.parquet").read_bytes() == answer[0][
        "predictions.parquet"
    ]
    assert len(mirror.started) == 2


def test_a_worker_whose_gpu_is_lost_ends_so_that_ray_starts_another(bench, cargo, monkeypatch):
    def lost(*_):
        raise GpuLost("no answer")

    def end(code):
        raise SystemExit(code)

    monkeypatch.setattr(on_ray, "_benches", {cargo.digest: unload_cargo(cargo, Fetched())})
    monkeypatch.setattr(on_ray, "attempt", lost)
    monkeypatch.setattr(on_ray.os, "_exit", end)
    jobs = cell_jobs(bench.study)[:1]
    pack = on_ray.run_pack(cargo, Task(jobs), [bench.asked(job).key for job in jobs])
    assert next(pack) is None
    with pytest.raises(SystemExit, match="1"):
        next(pack)


def test_a_worker_with_other_code_is_found_out(bench, cargo, monkeypatch):
    monkeypatch.setattr(on_ray, "_benches", {cargo.digest: unload_cargo(cargo, Fetched())})
    _, answer = on_ray.run_pack(cargo, Task(cell_jobs(bench.study)[:1]), ["another key"])
    assert isinstance(answer, EnvironmentProblem)
    assert "install the same commit" in str(answer)


def test_without_the_package_it_says_what_to_install(bench, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
    with open_executor(bench, Faults(tmp_path)) as executor:
        assert list(executor([])) == []
        with pytest.raises(EnvironmentProblem, match=r"pip install 'ray>=2\.52'") as problem:
            list(executor([cell_jobs(bench.study)]))
    assert problem.value.exit_code == 4
