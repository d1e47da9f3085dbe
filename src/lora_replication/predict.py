"""Predictions of a trained run for texts of one's own."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from lora_replication.adapter import Description, read_description
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError, EnvironmentProblem, ParameterError, first_problem
from lora_replication.files import project_root
from lora_replication.record import ADAPTER, RECORD, Record, Settings, checked_file, read_record
from lora_replication.study import ModelParams

if TYPE_CHECKING:
    from lora_replication.training.classifier import Classifier

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
    """Print the class of each text as ``run`` predicts it, see ``find_trained``.

    ``file`` (``-``: standard input) has more texts, one a line; empty ones are named, not answered.
    ``device`` is the run's own where None; on cpu, runs of fp16-mixed predict in fp32.

    Raises:
        DataError: as ``find_trained`` and ``Trained.load`` do, or a text is no UTF-8.
        EnvironmentProblem: the device is missing.
        ParameterError: no text was given.
    """
    trained = find_trained(run)
    settings = _settings(trained.description.settings, device)
    asked = _asked(texts, file)
    answered = [text for text in asked.values() if text.strip()]
    encoder = trained.encoder(encoder_path)
    answers = _answers(trained.load(encoder, settings), encoder, answered)
    for origin, text in asked.items():
        if not text.strip():
            print(f"{origin} is empty and not answered", file=sys.stderr)
            continue
        predicted, probability, is_cut = next(answers)
        label = trained.description.classes[predicted]
        if as_json:
            content = {"label": label, "probability": probability, "text": text, "origin": origin}
            content["cut_at_tokens"] = settings.max_tokens if is_cut else None
            print(json.dumps(content, ensure_ascii=False))
        else:
            note = f"  (cut at {settings.max_tokens} tokens)" if is_cut else ""
            print(f"{label}  {probability:6.1%}  {' '.join(text.split())[:100]}{note}")


@dataclass(frozen=True)
class Trained:
    """A trained adapter: its file, what it is, and the record of its run where there is one."""

    adapter: Path
    description: Description
    record: Record | None

    def encoder(self, path: Path | None) -> Encoder:
        """Its base, found and compared by sha256; ``path`` is that of a local folder."""
        settings, base = self.description.settings, self.description.base
        if settings.encoder == "folder" and not path:
            raise EnvironmentProblem(
                "the run's encoder was a local folder; name it with --encoder-path"
            )
        if settings.encoder != "folder" and path:
            raise ParameterError(
                f"--encoder-path is {path}, but the run's encoder is {settings.encoder}; "
                "leave the option out"
            )
        model = {"encoder": settings.encoder, "max_tokens": settings.max_tokens}
        model["path"] = str(path) if path else None
        try:
            encoder = locate_encoder(ModelParams.model_validate(model))
        except ValidationError as problem:
            key, value, wrong = first_problem(problem)
            raise DataError(f"{self.adapter}: {key} is {value}; {wrong}; get it again") from None
        if encoder.sha256 != base.sha256:
            raise DataError(
                f"{encoder.folder}: its weights or config are not those that the run was trained "
                f"on (sha256 {encoder.sha256}, not {base.sha256}); name another encoder"
            )
        return encoder

    def load(self, encoder: Encoder, settings: Settings) -> "Classifier":
        """The classifier; ``DataError`` where the adapter is damaged or does not fit."""
        from lora_replication.training.classifier import Classifier

        classifier = Classifier(encoder, settings, 0)  # whatever is drawn goes
        classifier.load_adapter(self.adapter)
        return classifier


def find_trained(run: Path) -> Trained:
    """What was trained: in the folder of a run, by its record, or an adapter that describes itself,
    as a file or in a folder without a record.

    Raises:
        DataError: there is none, or its run has no result, or it was altered.
    """
    record = None if run.is_file() else read_record(run)
    if record is None:
        file = run if run.is_file() else run / ADAPTER
        if not file.exists():
            raise DataError(
                f"{run / RECORD}: there is no such record, and no {ADAPTER} next to it; "
                "name a run's folder, such as runs/article/full/seed-1"
            )
        description = read_description(file)
        if description is None:
            raise DataError(
                f"{file}: does not say what it is, and there is no {RECORD} next to it; "
                "name the folder of its run, with its record"
            )
        return _without_code_from_elsewhere(Trained(file, description, None))
    if record.happened.status != "ok":
        raise DataError(
            f"{run / RECORD}: the run's status is {record.happened.status}; "
            "only a run with status ok can predict or be exported"
        )
    described = Description.of(record.asked, record.where.encoder_revision)
    file = checked_file(run, record, ADAPTER)
    return _without_code_from_elsewhere(Trained(file, described, record))


def _without_code_from_elsewhere(trained: Trained) -> Trained:
    """The same; ``DataError`` where it names a method's file that is not the project's: what comes
    with an adapter must not be run.
    """
    file, root = trained.description.settings.file, project_root().resolve()
    if file and not (root / file).resolve().is_relative_to(root):
        raise DataError(
            f"{trained.adapter}: its method is {file}, outside the project's folder; "
            f"read that file, and move it into {root} if it may be run"
        )
    return trained


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
    classifier: "Classifier", encoder: Encoder, texts: list[str]
) -> Iterator[tuple[int, float, bool]]:
    """For each text the predicted class, its probability, and whether the text was cut."""
    from lora_replication.data.tokens import load_tokenizer, tokenise
    from lora_replication.training.evaluation import predict_logits

    tokenizer = load_tokenizer(encoder.vocabulary, classifier.settings.max_tokens)
    for start in range(0, len(texts), AT_ONCE):
        chunk = texts[start : start + AT_ONCE]
        tokens, _ = tokenise(chunk, [0] * len(chunk), tokenizer)
        logits = predict_logits(classifier, tokens)[0].astype(np.float64)
        odds = np.exp(logits - logits.max(1, keepdims=True))  # to those of the predicted class
        probabilities, predicted = 1 / odds.sum(1), logits.argmax(1)
        cut = [bool(tokenizer.encode(text).overflowing) for text in chunk]
        yield from zip(predicted.tolist(), probabilities.tolist(), cut, strict=True)
