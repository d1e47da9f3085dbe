import hashlib
import json
import os
import resource
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import digest, file_digest, write_whole
from lora_replication.record import (
    Count,
    Epoch,
    read_record,
    read_records,
    run_folder,
    write_record,
)
from tests.report_records import make_records, make_study


@pytest.fixture(scope="module")
def record():
    return make_records(make_study())[0]


def test_a_record_comes_back_as_it_was_written(record, tmp_path):
    folder = run_folder("study", "method", "full", 3, tmp_path)
    assert folder == tmp_path / "study" / "full" / "seed-3"
    write_record(record, folder)
    assert read_record(folder) == record
    assert read_records("study", tmp_path) == [(folder, record)]


def test_grid_configurations_lie_in_the_grids_folder(tmp_path):
    assert (
        run_folder("s", "cell", "r8-a1-query", 1, tmp_path)
        == tmp_path / "s/grid/r8-a1-query/seed-1"
    )


def test_where_there_is_no_record_there_is_none(tmp_path):
    assert read_record(tmp_path / "none") is None


@pytest.mark.parametrize(
    "spoil",
    [lambda c: c[:-30], lambda c: c.replace(b'"seed"', b'"sead"'), lambda c: b"[]", lambda c: b""],
)
def test_a_damaged_record_is_named(record, tmp_path, spoil):
    write_record(record, tmp_path)
    file = tmp_path / "record.json"
    file.write_bytes(spoil(file.read_bytes()))
    with pytest.raises(
        DataError, match=r"record\.json: not a record of this project .*; delete it to run it again"
    ):
        read_record(tmp_path)


def test_no_number_in_a_record_may_be_infinite_or_not_a_number():
    with pytest.raises(ValidationError):
        Epoch(
            epoch=1,
            train_loss=float("nan"),
            train_accuracy=0.5,
            val_loss=None,
            val_accuracy=0.5,
            seconds=1.0,
        )


def test_an_accuracy_is_its_count():
    assert Count(correct=3, reviews=4, ones=2).fraction == 0.75


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON, min_size=1, max_size=6), st.randoms())
@pytest.mark.goal("property", "key ignores order")
def test_a_digest_knows_content_not_order(content, random):
    keys = list(content)
    random.shuffle(keys)
    assert digest({key: content[key] for key in keys}) == digest(content)
    assert digest(content | {keys[0]: [content[keys[0]]]}) != digest(content)


def test_the_digest_of_a_file_is_its_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.fault(7)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "file"
    write_whole(file, b"old")

    def fail(temporary):
        temporary.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        EnvironmentProblem, match=r"file: could not be written \(No space left on device"
    ):
        write_whole(file, fail)
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.fault(7)
def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path):
    file = tmp_path / "file"
    write_whole(file, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(EnvironmentProblem, match="could not be written"):
            write_whole(file, bytes(2000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert file.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.fault(2)
def test_a_reader_never_sees_half_a_file(tmp_path):
    """A writer is killed at random moments while it writes two whole contents in turn."""
    code = (
        "import sys; from pathlib import Path; from lora_replication.record import write_whole\nprint(flush=True)\n"
        "while True:\n for c in b'ab': write_whole(Path(sys.argv[1]), bytes([c]) * 3_000_000)"
    )
    for wait in (0.01, 0.05, 0.11):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "file")], stdout=subprocess.PIPE
        ) as writer:
            writer.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(wait + 0.1)
            os.kill(writer.pid, signal.SIGKILL)
        content = (tmp_path / "file").read_bytes()
        assert content in (b"a" * 3_000_000, b"b" * 3_000_000)


def test_a_record_is_plain_json(record, tmp_path):
    write_record(record, tmp_path)
    content = json.loads((tmp_path / "record.json").read_bytes())
    assert list(content) == ["schema_version", "asked", "happened", "where"]


def test_a_folder_in_the_place_of_a_record_is_told(tmp_path):
    (tmp_path / "record.json").mkdir()
    with pytest.raises(DataError, match=r"record\.json: can't be read \(Is a directory\)"):
        read_record(tmp_path)
