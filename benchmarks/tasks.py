"""What is measured: every contender on every method and size, turn by turn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.flops import empty_model, matrix_rate, needed_flops
from benchmarks.gate import Case
from benchmarks.results import Measurement, Phase, Precision
from benchmarks.worker import PHASES, Turn, Worker, alternate
from benchmarks.workload import Workload, distilbert_size, make_workload, review_lengths
from lora_replication import machine
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.reading import load_study
from lora_replication.record import Settings, resolve
from lora_replication.study import ModelParams

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"

SIZES = ("distilbert-size", "minilm")
METHODS = ("last_layers", "lora_default", "full")
BATCHES = {"cpu": 2, "cuda": 50}
PADDED_BATCHES = {"cpu": 1, "cuda": 50}
"""Batches of a turn: few on a CPU, where a step takes seconds, and of padded ones, which all cost
the same, a single one.
"""

FLOPS_OF_REVIEWS = 1000
"""Reviews whose mean is the count of operations for a review."""


@dataclass(frozen=True)
class Task:
    """One method at one size: ``cases`` hold each contender's part, in the order of turns."""

    size: str
    method: str
    encoder: Encoder
    workload: Workload
    cases: tuple[Case, ...]


@contextmanager
def model_of(size: str) -> Iterator[ModelParams]:
    """The encoder of ``size``, one of ``SIZES`` or a tiny one, for as long as the context lasts."""
    with TemporaryDirectory() as folder:
        yield (
            distilbert_size(Path(folder))
            if size == "distilbert-size"
            else ModelParams(encoder=size, max_tokens=512)
        )


def make_task(size: str, method: str, model: ModelParams, device: str) -> Task:
    """The article's batch size, learning rate and methods, from params.yaml, on another encoder and
    device.
    """
    study = load_study(PARAMS)
    settings = replace(resolve(study, study.methods[method]), device=device, encoder=model.encoder)
    encoder = locate_encoder(model)
    vocabulary_size = int(empty_model(encoder).config.vocab_size)
    workload = make_workload(BATCHES[device], settings.batch_size, vocabulary_size)
    return Task(size, method, encoder, workload, tuple(_cases(model, settings)))


def precisions(device: str) -> tuple[Precision, ...]:
    """Those that ``device`` multiplies matrices in fastest: a CPU without instructions for bf16 is
    measured in fp32.
    """
    if device == "cuda":
        return ("bf16-mixed", "fp16-mixed")
    return ("bf16-mixed",) if machine.multiplies_bf16() else ("fp32",)


def _cases(model: ModelParams, settings: Settings) -> Iterator[Case]:
    device = settings.device
    chosen_precisions = precisions(device)
    if (
        settings.lora and "fp32" not in chosen_precisions
    ):  # the article's loop as it would run without mixed precision
        yield Case("article", model, replace(settings, precision="fp32"), PADDED_BATCHES[device])
    for precision in chosen_precisions:
        chosen = replace(settings, precision=precision)
        yield Case("article", model, chosen, PADDED_BATCHES[device])
        yield Case("peft", model, chosen, BATCHES[device])
        yield Case("ours", model, chosen, BATCHES[device])


def measure(task: Task, rounds: int) -> list[Measurement]:
    """Training and evaluation of every contender of ``task``, whose processes live for this task
    alone.
    """
    device = task.cases[0].settings.device
    workers = [Worker(case, task.workload) for case in task.cases]
    found: list[Measurement] = []
    for phase in PHASES:
        by_round = alternate(workers, rounds, lambda: matrix_rate(device, precisions(device)[0]))
        for number, case in enumerate(task.cases):
            found.append(
                _measurement(
                    task,
                    case,
                    phase,
                    [turns[number] for turns, _ in by_round],
                    [rate for _, rate in by_round],
                )
            )
        for worker in workers:
            worker.next_phase()
    for worker in workers:
        worker.join()
    return found


def _measurement(
    task: Task, case: Case, phase: Phase, turns: Sequence[Turn], rates: Sequence[float]
) -> Measurement:
    workload = task.workload
    # Padding makes all reviews cost the same. Otherwise cost follows tokens, and a turn's few
    # reviews have a mean length of their own.
    if case.contender == "article":
        reviews = float(case.batches * workload.batch_size)
    else:
        reviews = (
            len((workload.grouped if case.contender == "peft" else workload.random).ids)
            / workload.mean_tokens
        )
    lengths = review_lengths(FLOPS_OF_REVIEWS)
    flops = needed_flops(
        empty_model(task.encoder),
        task.encoder.layout,
        case.settings,
        lengths,
        training=phase == "training",
    )
    return Measurement(
        size=task.size,
        method=task.method,
        phase=phase,
        contender=case.contender,
        precision=case.settings.precision,
        seconds_per_review=tuple(turn.seconds / reviews for turn in turns),
        matrix_flops_per_second=tuple(rates),
        flops_per_review=flops / FLOPS_OF_REVIEWS,
        peak_memory_bytes=turns[-1].peak_memory_bytes,
    )
