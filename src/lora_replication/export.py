"""Trained adapters for others: as PEFT's, or merged into a plain ``transformers`` model; and back.

Every export has a model card. Nothing is sent anywhere.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jinja2 import StrictUndefined, Template
from safetensors.torch import save_file
from torch import Tensor

from lora_replication import __version__, encoders, peft_form
from lora_replication.data.tokens import load_tokenizer
from lora_replication.encoders import Encoder
from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.files import project_root, write_whole
from lora_replication.mlflow_form import register_model, save_model
from lora_replication.pins import PINS
from lora_replication.predict import Trained, find_trained
from lora_replication.reading import ARTICLE, read_study
from lora_replication.record import ADAPTER
from lora_replication.report.words import trains_in_words
from lora_replication.statistics.intervals import wilson_interval
from lora_replication.tracking.store import Store, failures, resolved
from lora_replication.training.classifier import Classifier
from lora_replication.training.methods import merge

CARD = "README.md"
CARD_TEMPLATE = Path(__file__).with_name("model_card.md.j2")


@dataclass(frozen=True)
class Export:
    """What an export is made from: what was trained, its encoder, and both together in float32."""

    trained: Trained
    encoder: Encoder
    classifier: Classifier


def export_run(
    run: Path, form: str, folder: Path, encoder_path: Path | None, register: str | None = None
) -> str:
    """Write ``run``, see ``predict.find_trained``, into ``folder`` in a ``form`` of ``FORMS``.

    Returns the folder, or the address in MLflow of the model ``register``.

    Raises:
        DataError: there is no result, or the encoder is missing or another one.
        EnvironmentProblem: MLflow failed.
        ParameterError: the folder is not empty, PEFT has no such method, or what is to be
            registered is no MLflow model of a recorded run.
    """
    _refuse_unless_empty(folder)
    trained = find_trained(run)
    if register and (form != "mlflow" or trained.record is None):
        raise ParameterError("--register needs --to mlflow, and a run with its record")
    encoder = trained.encoder(encoder_path)
    exact = {"device": "cpu", "precision": "fp32"}
    settings = trained.description.settings.model_copy(update=exact)
    export = Export(trained, encoder, trained.load(encoder, settings))
    FORMS[form](export, folder)
    write_whole(folder / CARD, _card(export, form).encode())
    if register and trained.record:
        tracking = read_study(ARTICLE, project_root()).tracking
        store = Store(resolved(tracking.uri), tracking.experiment)
        return register_model(folder, register, trained.adapter.parent, trained.record, store)
    return str(folder)


def import_adapter(
    folder: Path, to: Path, encoder_path: Path | None, max_tokens: int, classes: tuple[str, str]
) -> None:
    """Write the PEFT adapter in ``folder`` to ``to``, as an adapter that describes itself.

    Raises ``DataError`` as ``peft_form.from_peft`` does, and where tensors don't fit.
    """
    _refuse_unless_empty(to)
    described, encoder, tensors = peft_form.from_peft(folder, encoder_path, max_tokens, classes)
    settings = described.settings.model_copy(update={"device": "cpu", "precision": "fp32"})
    classifier = Classifier(encoder, settings, 0)
    start = {n: t for n, t in classifier.adapter().items() if n.endswith((".A0", ".B0"))}
    classifier.fill(start | tensors, folder / peft_form.WEIGHTS)  # PEFT keeps no start of PiSSA's
    classifier.save_adapter(to / ADAPTER, metadata=described.metadata())


def _refuse_unless_empty(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ParameterError(f"{folder}: is not empty; allowed: a new or an empty folder")


def _write_peft(export: Export, folder: Path) -> None:
    settings = export.trained.description.settings
    config, tensors = peft_form.to_peft(settings, export.encoder, export.classifier)
    metadata = export.trained.description.metadata()
    _write_tensors(folder / peft_form.WEIGHTS, tensors, metadata)
    _write_json(folder / peft_form.CONFIG, config)


def _write_merged(export: Export, folder: Path) -> None:
    encoder, (model,) = export.encoder, export.classifier.models
    merge(model)
    _write_tensors(folder / encoders.WEIGHTS, model.state_dict(), {"format": "pt"})
    names = dict(enumerate(export.trained.description.classes))
    own = {
        "architectures": [encoder.layout.classifier],
        "model_type": encoder.layout.base,
        "dtype": "float32",
        "id2label": names,
        "label2id": {name: number for number, name in names.items()},
        "problem_type": "single_label_classification",
    }
    _write_json(folder / encoders.CONFIG, encoder.config | own)
    max_tokens = export.trained.description.settings.max_tokens
    tokenizer = load_tokenizer(encoder.vocabulary, max_tokens)
    tokenizer.no_truncation()
    write_whole(folder / "tokenizer.json", tokenizer.to_str().encode())
    kind = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    _write_json(folder / "tokenizer_config.json", kind | {"model_max_length": max_tokens})
    write_whole(folder / encoders.VOCABULARY, encoder.vocabulary.read_bytes())


def _write_mlflow(export: Export, folder: Path) -> None:
    with TemporaryDirectory() as temporary:
        _write_merged(export, Path(temporary) / "classifier")
        try:
            save_model(folder, Path(temporary) / "classifier")
        except failures() as problem:
            raise EnvironmentProblem(
                f"{folder}: MLflow failed ({problem}); see make setup"
            ) from None


FORMS: dict[str, Callable[[Export, Path], None]] = {
    "peft": _write_peft,
    "merged": _write_merged,
    "mlflow": _write_mlflow,
}


def _write_tensors(file: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str]) -> None:
    whole = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    write_whole(file, partial(save_file, whole, metadata=metadata))


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    write_whole(file, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n")


def _card(export: Export, form: str) -> str:
    """The model card, in the form that the Hugging Face hub reads."""
    record = export.trained.record
    test = record.happened.test if record else None
    text = CARD_TEMPLATE.read_text("utf-8")
    template = Template(text, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    card: str = template.render(
        form=form,
        described=export.trained.description,
        trains=trains_in_words(export.trained.description.settings),
        record=record,
        pin=PINS.get(export.encoder.name),
        accuracy=wilson_interval(test.correct, test.reviews, 0.95) if test else None,
        version=__version__,
    )
    return card
