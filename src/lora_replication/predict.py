"""Predictions of a trained run for texts of one's own."""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lora_replication.errors import DataError, EnvironmentProblem, ParameterError
from lora_replication.record import ADAPTER, RECORD, Record, Settings, checked_file, read_record
from lora_replication.study import ModelParams

AT_ONCE = 256
"""Texts that are tokenised and answered together."""


def predict_texts(
    run: Path,
    texts: Iterable[str],
    file: Path | None,
    *,
    encoder_path: Path | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Print the sentiment of each text as the recorded run ``run`` predicts it.

    ``file`` (``-``: standard input) has more texts, one a line; empty ones are named, not answered.
    ``device`` is the run's own where None; on cpu, runs of fp16-mixed predict in fp32.

    Raises:
        DataError: there is no run with a result, it was altered, the encoder is another one than
            the run's, or a text is no UTF-8.
        EnvironmentProblem: the device is missing.
        ParameterError: no text was given.
    """
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode
    record = _record(run)
    settings = _settings(record.asked.settings, device)
    asked = _asked(texts, file)
    answered = [text for text in asked.values() if text.strip()]
    answers = _answers(record, settings, checked_file(run, record, ADAPTER), answered, encoder_path)
    for origin, text in asked.items():
        if not text.strip():
            print(f"{origin} is empty and not answered", file=sys.stderr)
            continue
        probability, is_cut = next(answers)
        label = "positive" if probability > 0.5 else "negative"
        sure = max(probability, 1 - probability)
        if as_json:
            content = {"label": label, "probability": sure, "text": text, "origin": origin}
            content["cut_at_tokens"] = settings.max_tokens if is_cut else None
            print(json.dumps(content, ensure_ascii=False))
        else:
            note = f"  (cut at {settings.max_tokens} tokens)" if is_cut else ""
            print(f"{label}  {sure:6.1%}  {' '.join(text.split())[:100]}{note}")


def _record(run: Path) -> Record:
    record = read_record(run)
    if record is None:
        raise DataError(
            f"{run / RECORD}: there is no such record; "
            "name a run's folder, such as runs/article/full/seed-1"
        )
    if record.happened.status != "ok":
        raise DataError(
            f"{run / RECORD}: the run's status is {record.happened.status}; "
            "only a run with status ok can predict"
        )
    return record


def _settings(settings: Settings, device: str | None) -> Settings:
    """Those of the run, on ``device``."""
    chosen = device or settings.device
    if chosen == "cuda":
        import torch

        if not torch.cuda.is_available():
            said = "--device is cuda" if device else "the run was trained on cuda"
            raise EnvironmentProblem(
                f"{said}, but torch sees no GPU here; add --device cpu to predict without one"
            )
    update = {"device": chosen}
    if chosen == "cpu" and settings.precision == "fp16-mixed":
        update["precision"] = "fp32"  # processors compute fp16 slowly, if at all
    return settings.model_copy(update=update)


def _asked(texts: Iterable[str], file: Path | None) -> dict[str, str]:
    """The texts, each by where it comes from: an argument, or a line of the file."""
    asked = {f"argument {place}": text for place, text in enumerate(texts, 1)}
    for origin, text in asked.items():
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise DataError(f"{origin} is not UTF-8; convert it and try again")
    if file:
        try:
            content = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
            lines = content.decode("utf-8").removesuffix("\n").split("\n") if content else []
        except (OSError, UnicodeDecodeError) as problem:
            raise DataError(
                f"{file}: can't be read as UTF-8 text ({problem}); name another file"
            ) from None
        asked |= {f"line {number}": line.removesuffix("\r") for number, line in enumerate(lines, 1)}
    if not asked:
        raise ParameterError(
            "no text was given; allowed: texts as arguments, or --file FILE with one text a line"
        )
    return asked


def _answers(
    record: Record, settings: Settings, adapter: Path, texts: list[str], encoder_path: Path | None
) -> Iterator[tuple[float, bool]]:
    """For each text the probability of *positive*, and whether the text was cut."""
    from lora_replication.data.tokens import load_tokenizer, tokenise
    from lora_replication.encoders import locate_encoder
    from lora_replication.training.classifier import Classifier
    from lora_replication.training.evaluation import predict_logits

    if settings.encoder == "folder" and not encoder_path:
        raise EnvironmentProblem(
            "the run's encoder was a local folder; name it with --encoder-path"
        )
    if settings.encoder != "folder" and encoder_path:
        raise ParameterError(
            f"--encoder-path is {encoder_path}, but the run's encoder is {settings.encoder}; "
            "leave the option out"
        )
    path = str(encoder_path) if encoder_path else None
    model = {"encoder": settings.encoder, "path": path, "max_tokens": settings.max_tokens}
    encoder = locate_encoder(ModelParams.model_validate(model))
    if encoder.weights_sha256 != record.asked.weights:
        raise DataError(
            f"{encoder.weights} has sha256 {encoder.weights_sha256}; "
            f"the run was trained on {record.asked.weights}"
        )
    classifier = Classifier(encoder, settings, record.asked.seed)
    classifier.load_adapter(adapter)
    tokenizer = load_tokenizer(encoder.vocabulary, settings.max_tokens)
    for start in range(0, len(texts), AT_ONCE):
        chunk = texts[start : start + AT_ONCE]
        tokens, _ = tokenise(chunk, [0] * len(chunk), tokenizer)
        logits = predict_logits(classifier, tokens)[0].astype(np.float64)
        probabilities = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
        cut = [bool(tokenizer.encode(text).overflowing) for text in chunk]
        yield from zip(probabilities.tolist(), cut, strict=True)
