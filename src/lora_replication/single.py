"""One run and predictions, for people who want neither a pipeline nor a study of their own."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lora_replication.errors import DataError, EnvironmentProblem, IncompleteError, ParameterError
from lora_replication.grid.space import cell_name
from lora_replication.jobs import Job
from lora_replication.methods import RunSettings, resolve
from lora_replication.params import TARGETS, LoraParams, MethodParams, Study
from lora_replication.records import ADAPTER, RECORD, Record, read_record
from lora_replication.workspace import open_workspace, project_root

SINGLES = "singles"


def train_single(study_name: str, method: str | None, seed: int, switches: Mapping[str, Any]) -> None:
    """Train one run on the data and with the settings of a study, and print its accuracies.

    Its record goes to ``singles/<study>/`` beside the study's own runs, so that the study's report stays what it is.

    Args:
        method: of the study; null for LoRA with ``switches``.
        switches: the article's own, without ``lora_``: r, alpha, query, key, value, projection, mlp, head.

    Raises:
        ParameterError: unknown method, or switches that make no configuration.
        IncompleteError: the run diverged, so it has no accuracies.
    """
    folder, study = open_workspace(study_name, project_root())
    job = _job(study, method, seed, switches)
    from lora_replication.data.prepare import prepare
    from lora_replication.encoders import locate_encoder
    from lora_replication.runs import Bench, perform
    from lora_replication.tracking import live_run

    bench = Bench(study, folder, SINGLES)
    if not (bench.data / "manifest.json").is_file():
        prepare(study, locate_encoder(study.model), bench.data)
    record = perform(bench, job, lambda asked: live_run(study.tracking, asked))
    happened = record.happened
    print(f"{study.title}\n{job.label}: {happened.trainable_parameters:,} trainable parameters, recorded in {bench.folder(job)}")
    if happened.status != "ok":
        raise IncompleteError(f"{job.label}: {happened.status}, first bad step {happened.first_bad_step}; there are no accuracies")
    for part, counted in (("train", happened.train), ("val", happened.val), ("test", happened.test)):
        if counted:
            print(f"{part:5} accuracy {counted.fraction:7.2%}  ({counted.correct:,} of {counted.reviews:,} reviews)")


def _job(study: Study, method: str | None, seed: int, switches: Mapping[str, Any]) -> Job:
    if not 0 <= seed < 2**32:
        raise ParameterError(f"--seed is {seed}; allowed: a whole number from 0 to 4294967295")
    if method is not None:
        if method not in study.methods:
            raise ParameterError(f"--method is {method!r}; allowed: {', '.join(study.methods)}")
        return Job("method", method, resolve(study, study.methods[method]), seed)
    from pydantic import ValidationError

    targets = tuple(target for target in TARGETS if switches[target])
    try:
        lora = LoraParams(rank=switches["r"], alpha=switches["alpha"], targets=targets)
    except ValidationError as problems:
        lines = []
        for problem in problems.errors():
            field = str(problem["loc"][0])
            allowed = LoraParams.model_fields[field].description
            lines.append(f"--lora_{'r' if field == 'rank' else field} is {problem['input']!r}; allowed: {allowed}")
        raise ParameterError("\n".join(lines)) from None
    return Job("method", cell_name(lora), resolve(study, MethodParams(trains="lora", lora=lora)), seed)


def predict_texts(run: Path, texts: Iterable[str], file: Path | None, *, encoder_path: str | None, as_json: bool) -> None:
    """Print the sentiment of each text as the recorded run ``run`` answers it, with the probability of its answer.

    Args:
        file: more texts, one a line; ``-`` is standard input.
        encoder_path: of the encoder's folder, where the run's encoder was a local folder.
        as_json: one JSON object a line instead of columns.

    Raises:
        DataError: there is no run, or the encoder is another one than the run's.
        ParameterError: no text was given.
    """
    record = read_record(run)
    if record is None:
        raise DataError(f"{run / RECORD}: there is no such record; name a run's folder, such as runs/article/full/seed-1")
    asked = [*texts, *(_lines(file) if file else ())]
    if not asked:
        raise ParameterError("no text was given; allowed: texts as arguments, or --file FILE with one text a line")
    probabilities = _probabilities(record, run / ADAPTER, asked, encoder_path)
    for text, probability in zip(asked, probabilities, strict=True):
        label = "positive" if probability > 0.5 else "negative"
        sure = max(probability, 1 - probability)
        if as_json:
            print(json.dumps({"label": label, "probability": sure, "text": text}, ensure_ascii=False))
        else:
            print(f"{label}  {sure:6.1%}  {' '.join(text.split())[:100]}")


def _lines(file: Path) -> list[str]:
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{file}: can't be read as UTF-8 text ({problem}); name another file") from None
    return [line for line in content.splitlines() if line.strip()]


def _probabilities(record: Record, adapter: Path, texts: list[str], encoder_path: str | None) -> list[float]:
    """Of the answer *positive*, for each text."""
    settings = RunSettings.from_dict(record.asked.settings)
    from lora_replication.classifier import Classifier
    from lora_replication.data.tokens import load_tokenizer, tokenise
    from lora_replication.encoders import locate_encoder
    from lora_replication.evaluation import predict_logits
    from lora_replication.params import ModelParams

    if settings.encoder == "folder" and not encoder_path:
        raise EnvironmentProblem("the run's encoder was a local folder; name it with --encoder-path")
    encoder = locate_encoder(
        ModelParams.model_validate({"encoder": settings.encoder, "path": encoder_path, "max_tokens": settings.max_tokens})
    )
    if encoder.weights_sha256 != record.asked.weights:
        raise DataError(f"{encoder.weights} has sha256 {encoder.weights_sha256}; the run was trained on {record.asked.weights}")
    classifier = Classifier(encoder, settings, record.asked.seed)
    classifier.load_adapter(adapter)
    tokens, _ = tokenise(texts, [0] * len(texts), load_tokenizer(encoder.vocabulary, settings.max_tokens), lambda _count: None)
    logits = predict_logits(classifier, tokens)[0].astype(np.float64)
    return [float(value) for value in 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))]
