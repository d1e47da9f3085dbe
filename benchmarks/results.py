"""What a run of a benchmark found, as it is kept in ``results/``: as measured, nothing derived."""

import importlib.metadata
import re
import subprocess
import time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from lora_replication import machine
from lora_replication.files import write_whole

PEERS = ("lightning", "pytorch-lightning", "peft", "accelerate")
DRIVER = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]

Kind = Literal["bench", "packs", "sameness", "smoke", "speed", "study", "grid"]
Precision = Literal["fp32", "bf16-mixed", "fp16-mixed"]
Phase = Literal["training", "evaluation"]
Times = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Part):
    """Where it ran; ``name`` is that of files. Names no host and no user."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    device: Literal["cpu", "cuda"]
    cpu: str
    cores: int
    memory_bytes: int
    gpu: str | None
    driver: str | None = None
    platform: str


class Measurement(_Part):
    """One contender, or a pack of one size, on one method at one size.

    ``seconds_per_review``: one for each round, of one configuration on a review of IMDb's mean
    length; ``matrix_flops_per_second``: the machine's matrix rate after each of these rounds;
    ``flops_per_review``: what the mathematics needs, see ``flops``; ``peak_memory_bytes``: of the
    process up to the end of this phase, on CUDA allocated on the GPU.
    """

    size: str
    method: str
    phase: Phase
    contender: Literal["article", "peft", "ours"]
    precision: Precision
    pack: Annotated[int, Field(ge=1)] = 1
    seconds_per_review: Times
    matrix_flops_per_second: Times
    flops_per_review: float
    peak_memory_bytes: int


class Comparison(_Part):
    """Of ``reviews`` test reviews, how many a method's runs predict correctly, by seed, in padded
    arithmetic and in this project's.
    """

    method: str
    seeds: tuple[int, ...]
    reviews: int
    padded: tuple[int, ...]
    ours: tuple[int, ...]


class Check(_Part):
    """Something that must hold, whether it does, and the numbers."""

    name: str
    passed: bool
    detail: str


class Results(_Part):
    """One run of a benchmark, or of one part of the plan for a GPU.

    Attributes:
        subject: what tells runs of one kind on one machine apart; ``title``: for people.
        commit: of the checkout; ``changed``: whether tracked files differed from it.
        started: UTC; ``seconds``: of the whole run.
        matrix_precision: in which the matrix rate was measured; ``mean_tokens``: of a review.
        finished: a line for each training run that has its record.
        skipped: what was asked and not done, each with the reason.
    """

    kind: Kind
    machine: Machine
    versions: dict[str, str]
    commit: str | None
    changed: bool | None
    command: str
    started: str
    seconds: float
    subject: str = ""
    title: str = ""
    matrix_precision: Precision | None = None
    mean_tokens: float | None = None
    measurements: tuple[Measurement, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    checks: tuple[Check, ...] = ()
    finished: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Of its file: ``[<kind>-]<machine>[-<subject>]``."""
        kind = "" if self.kind == "bench" else self.kind
        return "-".join(filter(None, (kind, self.machine.name, self.subject)))

    def write(self, file: Path) -> None:
        """Write ``file``, whole or not at all."""
        write_whole(file, self.model_dump_json(indent=1, exclude_defaults=True).encode() + b"\n")

    @classmethod
    def read_all(cls, folder: Path) -> list[Self]:
        """All in ``folder``, by name. Raises ``pydantic.ValidationError``."""
        files = sorted(folder.glob("*.json"))
        return [cls.model_validate_json(file.read_bytes()) for file in files]


class Beginning:
    """Made as a run begins on ``device`` with ``command``, for what the run says of itself."""

    def __init__(self, device: str, command: str) -> None:
        self._began = time.monotonic()
        commit, changed = machine.git_state()
        own = {"commit": commit, "changed": changed, "started": machine.utc_now()}
        self._content: dict[str, Any] = own | {"command": command, "machine": this_machine(device)}

    def results(self, kind: Kind, **content: Any) -> Results:
        """At the run's end."""
        found = importlib.metadata.distributions()
        peers = {each.name: each.version for each in found if each.name in PEERS}
        seconds = time.monotonic() - self._began
        own: dict[str, Any] = {"versions": machine.versions() | peers, "seconds": seconds}
        return Results(kind=kind, **self._content, **own, **content)


def this_machine(device: str) -> Machine:
    """The machine that this runs on; its name is that of the GPU in use, else of the processor."""
    gpu, driver = machine.gpu_name(device), None
    if gpu:
        try:
            said = subprocess.check_output(DRIVER, text=True, timeout=30)  # noqa: S603
            driver = said.splitlines()[0]
        except (OSError, subprocess.SubprocessError, IndexError):
            driver = None
    name = gpu or f"{machine.cpu_name()} {machine.cores()} cores"
    return Machine(
        name=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        device="cuda" if device == "cuda" else "cpu",
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        memory_bytes=machine.memory_bytes(),
        gpu=gpu,
        driver=driver,
        platform=machine.platform_name(),
    )
