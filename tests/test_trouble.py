"""What happens to MLflow's database and to the checkout outside the program."""

import subprocess

from lora_replication import machine
from lora_replication.tracking.mirror import Mirror
from lora_replication.tracking.store import Store
from tests.tracking_runs import a_run


def test_an_experiment_deleted_in_the_page_comes_back(tmp_path, capsys, monkeypatch):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db", "e")
    store.call("delete_experiment", store.experiment_id(a_run()))
    Mirror(store, a_run()).open()
    assert "the experiment was deleted; sync restores it" in capsys.readouterr().err
    monkeypatch.setattr(store, "_quiet_until", 0.0)
    Mirror(store, a_run()).open()
    assert capsys.readouterr().err == ""
    assert len(store.runs(store.experiment_id(a_run()))) == 1


def test_the_commit_is_known_in_a_checkout_of_another_owner(tmp_path, monkeypatch):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "a"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "machine.py"))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    commit, is_dirty = machine.git_state()
    assert commit
    assert is_dirty is False
