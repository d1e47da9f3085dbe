"""An exported run is loaded, registered and served by MLflow."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lora_replication.errors import ParameterError
from lora_replication.export import export_run
from lora_replication.predict import predict_texts
from tests.study_files import ROOT
from tests.tiny_encoders import tiny_encoder

ENCODER = tiny_encoder("distilbert")
TEXTS = ["A fine film, and the ending is perfect.", "dull " * 100]


def answers(folder: Path, texts: list[str], log: Path) -> list[dict[str, object]]:
    """Of ``mlflow models serve`` on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["mlflow", "models", "serve", "-m", folder, "--env-manager", "local"]
    found = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", *command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=stream, stderr=stream, env=os.environ | found, start_new_session=True,
        )  # fmt: skip
    curl = re.search(r"^curl .*$", (ROOT / "docs/usage.md").read_text("utf-8"), re.MULTILINE)[0]
    words = shlex.split(curl.replace(":5000", f":{port}").replace('["A joy."]', json.dumps(texts)))
    try:
        while server.poll() is None:
            answer = subprocess.run([*words, "--silent"], capture_output=True, check=False)
            if answer.returncode == 0:
                return json.loads(answer.stdout)["predictions"]
            assert answer.returncode == 7, answer  # nobody listens yet
            time.sleep(0.5)
        raise AssertionError(log.read_text()[-2000:])
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


@pytest.mark.slow
def test_mlflow_loads_registers_and_serves_what_predict_answers(
    trained, tmp_path, monkeypatch, capsys
):
    import mlflow

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    predict_texts(trained, TEXTS, None, encoder_path=ENCODER, device=None, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [(line["label"], pytest.approx(line["probability"], abs=1e-5)) for line in lines]
    folder = tmp_path / "model"
    assert export_run(trained, "mlflow", folder, ENCODER, "sentiment") == "models:/sentiment/1"
    assert not [file for file in folder.rglob("*") if file.suffix in (".pkl", ".bin", ".pt")]
    assert str(tmp_path) not in (folder / "MLmodel").read_text()
    mlflow.set_tracking_uri(uri)
    loaded = mlflow.pyfunc.load_model("models:/sentiment/1").predict(TEXTS)
    assert [(each.label, each.probability) for each in loaded] == expected
    client = mlflow.MlflowClient(uri)
    version = client.get_model_version("sentiment", "1")
    run, model_id = client.get_run(version.run_id), version.source.removeprefix("models:/")
    model = client.get_logged_model(model_id)
    assert model.source_run_id == run.info.run_id
    assert [output.model_id for output in run.outputs.model_outputs] == [model_id]
    told = {each.key: each.value for each in model.metrics}
    assert told["accuracy/test"] == run.data.metrics["accuracy/test"]
    assert model.params == run.data.params
    served = answers(folder, TEXTS, tmp_path / "log")
    assert [(each["label"], each["probability"]) for each in served] == expected


def test_only_an_mlflow_model_of_a_recorded_run_is_registered(trained, tmp_path):
    for run, form in ((trained, "merged"), (trained / "adapter.safetensors", "mlflow")):
        with pytest.raises(ParameterError, match="needs --to mlflow, and a run with its record"):
            export_run(run, form, tmp_path / "model", ENCODER, "sentiment")
