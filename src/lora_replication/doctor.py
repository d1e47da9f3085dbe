"""``lora-replication doctor``: is this machine ready for a long run of a study? Changes nothing.

It looks at what a run would find out late. A run tells itself, within seconds, of reviews or an
encoder that are missing, and goes on without a tracking server.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lora_replication import machine
from lora_replication.data.manifest import MANIFEST
from lora_replication.errors import EnvironmentProblem
from lora_replication.files import project_root
from lora_replication.pins import PINS
from lora_replication.process import coloured
from lora_replication.reading import read_study
from lora_replication.study import Study
from lora_replication.workspace import Workspace

PREPARED_BYTES = 300_000_000
"""Reviews and tokens of the whole of IMDb, and DVC's copy of them."""

MEMORY_BYTES = 4 * 2**30
"""A run's peak with the pinned encoders: weights, gradients, Adam's moments, activations."""

COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}

Finding = tuple[Literal["ok", "warning", "problem"], str]
"""A warning costs time or comfort, with a problem a run ends early; and what a person reads."""


def examine_study(name: str, *, as_json: bool = False) -> None:
    """Print a line for each check of the study ``name``.

    Raises:
        ParameterError: there is no such study, or its parameters are wrong.
        EnvironmentProblem: at least one check found a problem.
    """
    root = project_root()
    study = read_study(name, root)
    found = [(check.__name__, *check(study, root)) for check in CHECKS]
    if as_json:
        keys = ("what", "state", "text")
        print(json.dumps([dict(zip(keys, one, strict=True)) for one in found], indent=1))
    else:
        states = {s: coloured(f"{s:8}", colour, sys.stdout) for s, colour in COLOURS.items()}
        print("\n".join(f"{states[state]} {what}: {text}" for what, state, text in found))
    if names := [what for what, state, _ in found if state == "problem"]:
        raise EnvironmentProblem(
            f"{len(names)} of {len(found)} checks found a problem: {', '.join(names)}"
        )


def disk(study: Study, root: Path) -> Finding:
    """Free space for the data, every run's adapter and the run at work; and leave to write."""
    pin = PINS.get(study.model.encoder)
    weights = pin.weights_bytes if pin else 1_000_000
    full = sum(study.methods[name].trains == "all" for name in study.run.methods)
    # Once in runs, once in DVC's cache; and a checkpoint with Adam's moments and the best weights.
    needed = PREPARED_BYTES + (2 * full * len(study.run.seeds) + 4) * weights
    free = shutil.disk_usage(root).free
    if not os.access(root, os.W_OK):
        return "problem", f"{root} can't be written; choose another folder or remount it"
    text = f"{_gigabytes(free)} free at {root}, about {_gigabytes(needed)} needed"
    return ("ok", text) if free > needed else ("problem", f"{text}; free some")


def memory(study: Study, _root: Path) -> Finding:
    """Memory for one run, as far as the encoder is one of the known ones."""
    import psutil

    available = psutil.virtual_memory().available
    needed = MEMORY_BYTES if study.model.encoder in PINS else 2**30
    text = f"{_gigabytes(available)} available, about {_gigabytes(needed)} needed"
    return ("ok", text) if available > needed else ("warning", f"{text}; end other programs")


def device(study: Study, _root: Path) -> Finding:
    """The GPU that the study asks for, and whether it computes in its precision."""
    train = study.train
    asked = f"train.device {train.device}, train.precision {train.precision}"
    if train.device == "cpu":
        is_slow = train.precision == "bf16-mixed" and not machine.multiplies_bf16()
        if train.precision == "fp16-mixed" or is_slow:
            text = "which this processor computes many times slower than fp32; set fp32"
            return "warning", f"{asked}, {text}"
        return "ok", asked
    import torch  # takes seconds, so only where a GPU is asked for

    if not torch.cuda.is_available():
        text = "set train.device to cpu, or run on a machine with one"
        return "problem", f"train.device is cuda, but torch sees no GPU here; {text}"
    name, capability = torch.cuda.get_device_name(), torch.cuda.get_device_capability()
    if train.precision == "bf16-mixed" and capability < (8, 0):
        return "problem", f"{asked}, but {name} has no bf16; set fp16-mixed or fp32"
    if study.execution.cuda.ragged_evaluation and capability < (8, 0):
        text = f"but {name} has no kernel for it; set it to false"
        return "problem", f"execution.cuda.ragged_evaluation is true, {text}"
    return "ok", f"{asked}: {name}"


def time(study: Study, root: Path) -> Finding:
    """How long the missing runs will take, from a few timed steps, once the data are prepared."""
    workspace = Workspace(study, root)
    if device(study, root)[0] == "problem":
        return "ok", "an estimate needs the device"
    if not (workspace.data / MANIFEST).is_file() or workspace.manifest.differences(study):
        return "ok", f"an estimate comes once the data are prepared, by run {study.study}"
    from lora_replication.estimate import estimate, in_words  # torch takes seconds

    seconds = estimate(workspace)
    return "ok", in_words(seconds, study.train.device) if seconds else "no run is missing"


CHECKS: tuple[Callable[[Study, Path], Finding], ...] = (disk, memory, device, time)
"""In the order in which they are printed."""


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
