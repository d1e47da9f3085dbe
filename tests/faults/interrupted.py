"""Runs in processes of their own that end where a test wants it, by SIGKILL.

They are forked from a server that has torch loaded.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import time
from contextlib import nullcontext
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from lora_replication.files import file_digest
from lora_replication.plan import method_run
from lora_replication.record import Epoch, read_record
from lora_replication.study import Study
from lora_replication.workspace import Workspace
from tests.training_runs import without_times

METHODS = ("last_layers", "lora_default", "full")

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "torch._dynamo",
        "transformers.models.distilbert.modeling_distilbert",
        "pyarrow.parquet",
        "lora_replication.training.run",
        "tests.faults.interrupted",
    ]
)


def die() -> None:
    """As by the kernel: no handler, no cleaning up."""
    os.kill(os.getpid(), signal.SIGKILL)


def start(study: Study, root: Path, name: str, seed: int = 1, at: str = "") -> BaseProcess:
    """Start the run ``name`` of ``study`` in ``root``.

    Args:
        at: where it dies: ``step 3`` before the third update of weights, ``epoch 2`` after the
            second epoch is kept, ``checkpoint 2 MOMENT`` while its state is written for the second
            time (see ``_die_writing``), or nowhere.
    """
    process = _context.Process(target=perform_run, args=(study, root, name, seed, at))
    process.start()
    return process


def run(study: Study, root: Path, name: str, seed: int = 1, at: str = "") -> int:
    """The same to its end; returns its exit code, -9 where it died."""
    process = start(study, root, name, seed, at)
    process.join(120)
    assert process.exitcode is not None, "it does not end"
    return process.exitcode


def result(study: Study, root: Path, name: str, seed: int = 1) -> tuple[object, ...]:
    """Everything that a run leaves, but for times and the place where it ran."""
    folder = root / "runs" / study.study / name / f"seed-{seed}"
    record = read_record(folder)
    assert record is not None
    files = ("predictions.parquet", "adapter.safetensors")
    return without_times(record), *(file_digest(folder / file) for file in files)


def perform_run(study: Study, root: Path, name: str, seed: int, at: str) -> None:
    """What the process does."""
    import torch

    from lora_replication.training.run import perform

    torch.set_num_threads(1)
    kind, number, moment = (*at.split(), "", "", "")[:3]
    if kind == "step":
        _die_before_step(int(number))
    if kind == "checkpoint":
        _die_writing(int(number), moment)

    def epoch_ended(epoch: Epoch) -> None:
        with (root / "told").open("a") as told:
            told.write(f"{name} {seed} {epoch.epoch}\n")
        if at == f"epoch {epoch.epoch}":
            die()

    mirror: Any = SimpleNamespace(epoch=epoch_ended, finish=lambda _folder, _record: None)
    workspace = Workspace(study, root)
    perform(workspace, [method_run(workspace, name, seed)], lambda _run: nullcontext(mirror))


def _die_before_step(number: int) -> None:
    """Die at the ``number``-th update of weights."""
    import torch

    step, steps = torch.optim.Adam.step, itertools.count(1)

    def counted(self: torch.optim.Adam) -> object:
        return die() if next(steps) == number else step(self)

    torch.optim.Adam.step = counted  # type: ignore[assignment, method-assign]


def _die_writing(number: int, moment: str) -> None:
    """Die while the ``number``-th checkpoint is written: ``half`` way through its temporary file,
    with that ``whole`` but not yet in its place, or ``renamed``.
    """
    replace, writes = Path.replace, itertools.count(1)

    def replaced(self: Path, target: Path) -> Path:
        if target.name.startswith("seed-") and next(writes) == number:
            if moment == "half":
                os.truncate(self, self.stat().st_size // 2)
            if moment == "renamed":
                replace(self, target)
            die()
        return replace(self, target)

    Path.replace = replaced  # type: ignore[assignment, method-assign]


if __name__ == "__main__":  # study as JSON, root, then runs such as full:1
    content, place, *names = sys.argv[1:]
    if os.environ.get("CLOCK") == "back":  # an hour at every look
        now, looks = time.time, itertools.count()
        time.time = lambda: now() - 3600.0 * next(looks)
    for one in names:
        method, _, seed = one.partition(":")
        perform_run(Study.model_validate_json(content), Path(place), method, int(seed), "")
