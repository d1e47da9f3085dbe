"""One run and predictions, for people who want neither a pipeline nor a study of their own."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lora_replication.errors import DataError, EnvironmentProblem, IncompleteError, ParameterError
from lora_replication.files import only_writer
from lora_replication.grid.space import cell_name
from lora_replication.jobs import Job, checked_seed, method_job, run_key
from lora_replication.methods import RunSettings, resolve
from lora_replication.record import ADAPTER, RECORD, Record, read_record
from lora_replication.study import TARGETS, LoraParams, MethodParams, Study
from lora_replication.workspace import open_workspace, project_root

if TYPE_CHECKING:
    from lora_replication.training.run import Bench, Mirror

SINGLES = "singles"

OUT_OF_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED")
"""Words of the plain ``RuntimeError`` in which torch and its libraries tell of it on some
devices.
"""


def train_single(
    study_name: str, method: str | None, seed: int, switches: Mapping[str, Any]
) -> None:
    """Train one run on the data and with the settings of a study, and print its accuracies, or that
    it diverged.

    Its record goes to ``singles/<study>/`` beside the study's own runs, so that the study's report
    stays what it is. Data that is missing, or was prepared for what the study asked before, is
    prepared first.

    Args:
        method: of the study; null for LoRA with ``switches``.
        switches: the article's own, without ``lora_``: r, alpha, query, key, value, projection,
            mlp, head.

    Raises:
        ParameterError: unknown method, or switches that make no configuration.
        EnvironmentProblem: another process prepares the data or is at this run, or the device is
            missing.
        IncompleteError: memory ran out; the run is recorded as failed.
    """
    folder, study = open_workspace(study_name, project_root())
    job = _job(study, method, seed, switches)
    from lora_replication.tracking import live_run
    from lora_replication.training.run import Bench

    bench = Bench(study, folder, SINGLES)
    _prepare(bench)
    record = perform_one(bench, job, lambda asked: live_run(study.tracking, asked))
    happened = record.happened
    print(
        f"{study.title}\n{job.label}: {happened.trainable_parameters:,} trainable parameters, recorded in {bench.folder(job)}"
    )
    if happened.status != "ok":
        step = f" from step {happened.first_bad_step:,}" if happened.first_bad_step else ""
        print(
            f"{happened.status}{step}: loss or weights are not finite, so there are no accuracies"
        )
    for part, counted in (
        ("train", happened.train),
        ("val", happened.val),
        ("test", happened.test),
    ):
        if counted:
            print(
                f"{part:5} accuracy {counted.fraction:7.2%}  ({counted.correct:,} of {counted.reviews:,} reviews)"
            )


def perform_one(
    bench: "Bench", job: Job, mirror: "Callable[[Asked], AbstractContextManager[Mirror]]"
) -> Record:
    """Train, evaluate and record ``job``, or give the record that is there already.

    Raises:
        EnvironmentProblem: another process is at this run, the device is missing, the disk is full.
        IncompleteError: memory ran out; the run is recorded as failed and tried again by the next
            start.
    """
    from lora_replication import machine
    from lora_replication.training.run import perform, record_failure

    try:
        return perform(bench, job, mirror)
    except (RuntimeError, MemoryError) as problem:
        # Anything else is a bug to be seen.
        if not isinstance(problem, MemoryError) and not any(
            words in str(problem) for words in OUT_OF_MEMORY
        ):
            raise
        error = f"{type(problem).__name__} at batch_size {job.settings.batch_size}: {problem}"
        record_failure(bench, job, "failed", error, machine.peak_memory_bytes(job.settings.device))
        raise IncompleteError(
            f"{job.label}: failed, recorded in {bench.folder(job)}: {error}; set a smaller train.batch_size, then run again"
        ) from None


def _prepare(bench: "Bench") -> None:
    from lora_replication.data.prepare import is_prepared, prepare
    from lora_replication.encoders import locate_encoder

    encoder = locate_encoder(bench.study.model)
    if not is_prepared(bench.study, encoder, bench.data):
        with only_writer(bench.state / "prepare.lock"):
            prepare(bench.study, encoder, bench.data)


def _job(study: Study, method: str | None, seed: int, switches: Mapping[str, Any]) -> Job:
    if method is not None:
        return method_job(study, method, seed)
    from pydantic import ValidationError

    targets = tuple(target for target in TARGETS if switches[target])
    if not targets:
        raise ParameterError(
            f"{', '.join(f'--lora_{target}' for target in TARGETS)} are all False; allowed: True for at least one of them"
        )
    try:
        lora = LoraParams(rank=switches["r"], alpha=switches["alpha"], targets=targets)
    except ValidationError as problems:
        lines = []
        for problem in problems.errors():
            field = str(problem["loc"][0])
            allowed = LoraParams.model_fields[field].description
            lines.append(
                f"--lora_{'r' if field == 'rank' else field} is {problem['input']!r}; allowed: {allowed}"
            )
        raise ParameterError("\n".join(lines)) from None
    return Job(
        "method",
        cell_name(lora),
        resolve(study, MethodParams(trains="lora", lora=lora)),
        checked_seed(seed),
    )


def predict_texts(
    run: Path,
    texts: Iterable[str],
    file: Path | None,
    *,
    encoder_path: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Print the sentiment of each text as the recorded run ``run`` answers it, with the probability
    of its answer.

    Args:
        file: more texts, one a line; ``-`` is standard input.
        encoder_path: of the encoder's folder, where the run's encoder was a local folder.
        device: cpu or cuda, the run's own where null. On cpu a run of fp16-mixed predicts in fp32.
        as_json: one JSON object a line instead of columns.

    Raises:
        DataError: there is no run with a result, its record was altered, or the encoder is another
            one than the run's.
        EnvironmentProblem: the device is missing.
        ParameterError: no text was given.
    """
    record = read_record(run)
    if record is None:
        raise DataError(
            f"{run / RECORD}: there is no such record; name a run's folder, such as runs/article/full/seed-1"
        )
    if record.happened.status != "ok":
        raise DataError(
            f"{run / RECORD}: the run's status is {record.happened.status}; only a run with status ok can predict"
        )
    settings = _settings(record.asked, run / RECORD, device)
    asked = [*texts, *(_lines(file) if file else ())]
    if not asked:
        raise ParameterError(
            "no text was given; allowed: texts as arguments, or --file FILE with one text a line"
        )
    probabilities = _probabilities(record.asked, settings, run / ADAPTER, asked, encoder_path)
    for text, probability in zip(asked, probabilities, strict=True):
        label = "positive" if probability > 0.5 else "negative"
        sure = max(probability, 1 - probability)
        if as_json:
            print(
                json.dumps({"label": label, "probability": sure, "text": text}, ensure_ascii=False)
            )
        else:
            print(f"{label}  {sure:6.1%}  {' '.join(text.split())[:100]}")


def _settings(asked: Asked, file: Path, device: str | None) -> RunSettings:
    """Those of the run, on ``device``. Raises ``DataError`` where they are not what the run was
    made with.
    """
    if asked.key != run_key(asked.settings, asked.seed, asked.data, asked.weights, asked.code):
        raise DataError(
            f"{file}: what it says was asked does not make its key, so it was altered; restore it, or train the run again"
        )
    try:
        settings = RunSettings.from_dict(asked.settings)
    except (TypeError, KeyError, ValueError) as problem:
        raise DataError(
            f"{file}: its settings are not of this version of the project ({problem}); train the run again"
        ) from None
    chosen = device or settings.device
    if chosen == "cuda":
        import torch

        if not torch.cuda.is_available():
            said = "--device is cuda" if device else "the run was trained on cuda"
            raise EnvironmentProblem(
                f"{said}, but torch sees no GPU here; add --device cpu to predict without one"
            )
    if chosen == "cpu" and settings.precision == "fp16-mixed":
        return replace(
            settings, device="cpu", precision="fp32"
        )  # processors compute fp16 slowly, if at all
    return replace(settings, device="cuda" if chosen == "cuda" else "cpu")


def _lines(file: Path) -> list[str]:
    try:
        content = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(
            f"{file}: can't be read as UTF-8 text ({problem}); name another file"
        ) from None
    return [line for line in content.splitlines() if line.strip()]


def _probabilities(
    asked: Asked, settings: RunSettings, adapter: Path, texts: list[str], encoder_path: Path | None
) -> list[float]:
    """Of the answer *positive*, for each text."""
    from lora_replication.data.tokens import load_tokenizer, tokenise
    from lora_replication.encoders import locate_encoder
    from lora_replication.study import ModelParams
    from lora_replication.training.classifier import Classifier
    from lora_replication.training.evaluation import predict_logits

    if settings.encoder == "folder" and not encoder_path:
        raise EnvironmentProblem(
            "the run's encoder was a local folder; name it with --encoder-path"
        )
    if settings.encoder != "folder" and encoder_path:
        raise ParameterError(
            f"--encoder-path is {encoder_path}, but the run's encoder is {settings.encoder}; leave the option out"
        )
    encoder = locate_encoder(
        ModelParams.model_validate(
            {
                "encoder": settings.encoder,
                "path": encoder_path and str(encoder_path),
                "max_tokens": settings.max_tokens,
            }
        )
    )
    if encoder.weights_sha256 != asked.weights:
        raise DataError(
            f"{encoder.weights} has sha256 {encoder.weights_sha256}; the run was trained on {asked.weights}"
        )
    classifier = Classifier(encoder, settings, asked.seed)
    classifier.load_adapter(adapter)
    tokens, _ = tokenise(
        texts,
        [0] * len(texts),
        load_tokenizer(encoder.vocabulary, settings.max_tokens),
        lambda _count: None,
    )
    logits = predict_logits(classifier, tokens)[0].astype(np.float64)
    return [float(value) for value in 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))]
