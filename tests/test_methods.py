import json
from pathlib import Path

from lora_replication.reading import load_study
from lora_replication.record import Settings, resolve
from lora_replication.study import MethodParams

STUDY = load_study(Path(__file__).resolve().parents[1] / "params.yaml")


def test_a_method_takes_from_the_study_what_it_does_not_set_itself():
    own = resolve(STUDY, MethodParams(trains="all", learning_rate=1e-3))
    taken = resolve(STUDY, MethodParams(trains="all"))
    assert (own.learning_rate, taken.learning_rate) == (1e-3, 5e-5)
    assert (taken.encoder, taken.epochs, taken.batch_size, taken.precision) == (
        "distilbert-base-uncased",
        3,
        12,
        "fp16-mixed",
    )


def test_settings_survive_json():
    for method in STUDY.methods.values():
        settings = resolve(STUDY, method)
        assert Settings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings
