"""How long the missing runs of a study will take here, from a few timed steps of each kind."""

import multiprocessing
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np
import torch

from lora_replication.data.tokens import Tokens
from lora_replication.errors import ReplicationError
from lora_replication.grid.packing import pack_size, packs_of
from lora_replication.plan import progress, rough_duration
from lora_replication.process import die_with_parent
from lora_replication.record import Run, Settings
from lora_replication.training.batches import training_rows
from lora_replication.training.classifier import Classifier
from lora_replication.training.evaluation import TOKEN_BUDGET, predict_logits
from lora_replication.training.loop import compute_reproducibly, new_state, train_step
from lora_replication.training.randomness import generator
from lora_replication.workspace import Workspace

WARM_UP_STEPS, TIMED_STEPS, MOST_SECONDS = 2, 20, 10.0
"""Of each kind of training; the step in which the seconds are over is the last."""

LONG_SECONDS = 600.0
FASTEST = {"cpu": 5e11, "cuda": 1e14}
"""Operations a second: a study that is short at this speed is not timed before it starts."""

Job = Sequence[Run]
"""A run, or those that train together in a pack."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a job: to build it, and of a token in training and in evaluation."""

    build: float
    training: float
    evaluation: float

    def seconds(self, settings: Settings, tokens: Mapping[str, int]) -> float:
        """Of the whole job, given the ``tokens`` of each part of the split."""
        evaluated = settings.epochs * tokens["val"]
        evaluated += tokens["train"] * settings.evaluate_train
        evaluated += tokens["test"] * settings.evaluate_test
        trained = settings.epochs * tokens["train"]
        return self.build + self.training * trained + self.evaluation * evaluated


def measure(workspace: Workspace, job: Job) -> Cost:
    """Time ``job`` on the study's own reviews and device, with models that are then forgotten."""
    settings, seed, tokens = job[0].settings, job[0].seed, workspace.tokens["train"]
    compute_reproducibly()
    encoder, cuda, begun = workspace.encoder, workspace.study.execution.cuda, time.monotonic()
    classifier = Classifier(encoder, settings, seed, [run.settings for run in job[1:]], cuda=cuda)
    states = [new_state(classifier, index) for index in range(len(job))]
    build, trained = time.monotonic() - begun, 0
    classifier.start_epoch(1)

    def wait() -> None:
        if settings.device == "cuda":
            torch.cuda.synchronize()

    order = training_rows(len(tokens), settings.batch_size, generator(seed, "order", 1))
    timed = min(TIMED_STEPS, settings.epochs * len(order))  # no more than in a whole run
    # What is replayed takes its time until the usual sizes of batches are captured.
    warm_up = WARM_UP_STEPS if classifier.replays is None else timed + 10
    for step, rows in enumerate(islice(cycle(order), warm_up + timed)):
        if step == warm_up:
            wait()
            begun, trained = time.monotonic(), 0
        train_step(classifier, states, tokens, rows)
        trained += int(tokens.lengths[rows].sum())
        if step >= warm_up and time.monotonic() - begun > MOST_SECONDS:
            break
    wait()
    training = (time.monotonic() - begun) / trained
    some = first_reviews(tokens, 2 * TOKEN_BUDGET[settings.device])
    begun = time.monotonic()
    predict_logits(classifier, some)
    return Cost(build, training, (time.monotonic() - begun) / len(some.ids))


def first_reviews(tokens: Tokens, count: int) -> Tokens:
    """The first reviews of at most ``count`` tokens together, at least one."""
    reviews = max(1, int(np.searchsorted(tokens.starts, count, side="right")) - 1)
    starts = tokens.starts[: reviews + 1]
    return replace(
        tokens, ids=tokens.ids[: starts[-1]], starts=starts, labels=tokens.labels[:reviews]
    )


def estimate(
    workspace: Workspace, measured: Callable[[Workspace, Job], Cost] = measure
) -> dict[str, float]:
    """Seconds of what is missing: runs that train alone, tuning, grid, as far as there are such.

    A search counts with what it will choose at least, on fresh seeds; on Ray as if it were here.
    """
    missing: dict[str, list[Run]] = defaultdict(list)
    for run in progress(workspace).missing:
        missing[run.role if run.role in ("trial", "cell") else ""].append(run)
    words = {"": "{} runs", "trial": "tuning of {} runs", "cell": "grid of {} configurations"}
    tokens = {part: len(own.ids) for part, own in workspace.tokens.items()}
    result = {}
    for role, runs in sorted(missing.items()):
        jobs: list[Job] = [[run] for run in (_chosen(workspace, runs) if role else runs)]
        jobs += packs_of(runs, pack_size(workspace, runs)) if role else []
        kinds = defaultdict(list)
        for job in jobs:
            kinds[_kind(job)].append(job)
        seconds = 0.0
        for alike in kinds.values():
            cost = measured(workspace, example := alike[len(alike) // 2])
            each = (cost.seconds(job[0].settings, tokens) * len(job) for job in alike)
            seconds += sum(each) / len(example)
        result[words[role].format(len(runs))] = seconds
    return result


def _kind(job: Job) -> tuple[str, bool, int]:
    """The same for jobs that cost about the same: by the linears of a layer that are adapted."""
    targets = [target for run in job if run.settings.lora for target in run.settings.lora.targets]
    adapted = round((len(targets) + targets.count("mlp")) / len(job))
    return "" if job[0].role == "cell" else job[0].name, len(job) > 1, adapted


def _chosen(workspace: Workspace, runs: Sequence[Run]) -> Iterator[Run]:
    """In place of what a search will choose: the largest it tries, of each method, as often."""
    study = workspace.study
    is_grid = runs[0].role == "cell"
    seeds = study.grid.winner_seeds if study.grid and is_grid else study.run.seeds
    by_size = sorted(runs, key=lambda run: _kind([run])[2])
    for run in {"" if is_grid else run.name: run for run in by_size}.values():
        both = {"evaluate_train": True, "evaluate_test": True}
        settings = run.settings.model_copy(update=both)
        yield from (workspace.run(run.role, run.name, settings, seed) for seed in seeds)


def in_words(seconds: Mapping[str, float], device: str) -> str:
    """``20 runs about 4 h, grid of 576 configurations about 3 days on this GPU; ...``."""
    parts = ", ".join(f"{what} {rough_duration(each)}" for what, each in seconds.items())
    where = "GPU" if device == "cuda" else "CPU"
    return f"{parts} on this {where}; Ctrl-C keeps all that is finished"


def announce(workspace: Workspace) -> None:
    """Print the estimate before the first run of a study that will take long, else nothing.

    Another process takes the times, so that a record's peak of memory is of its training alone.
    """
    state, parts = progress(workspace), workspace.manifest.parts
    train, parameters = workspace.study.train, workspace.encoder.weights.stat().st_size / 4
    tokens = parts["train"].reviews * workspace.manifest.lengths.mean * train.epochs
    operations = 6 * parameters * tokens * len(state.missing)
    if not state.done and operations / FASTEST[train.device] > LONG_SECONDS:
        process = multiprocessing.get_context("spawn").Process(
            target=_say, args=(workspace, LONG_SECONDS), daemon=True
        )
        process.start()
        process.join()


def _say(workspace: Workspace, least_seconds: float) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it hears that, and ends it
    die_with_parent(signal.SIGKILL)
    with suppress(ReplicationError, RuntimeError, MemoryError):  # training will tell it too
        seconds = estimate(workspace)
        if sum(seconds.values()) > least_seconds:
            print(in_words(seconds, workspace.study.train.device), flush=True)
