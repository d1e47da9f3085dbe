"""What one run of a benchmark found, as it is kept in ``results/``; times as measured, nothing
derived.
"""

import importlib.metadata
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from lora_replication import machine
from lora_replication.files import write_whole

PEERS = ("pytorch-lightning", "peft", "accelerate")

Precision = Literal["fp32", "bf16-mixed", "fp16-mixed"]
Phase = Literal["training", "evaluation"]

Masks = Literal["other", "same"]
"""Of dropout in padded arithmetic: torch's own, or those of this project's run with the same
seed.
"""

Times = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Machine(_Part):
    """Where it ran. Names no host and no user.

    Attributes:
        name: of the results' file.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    device: Literal["cpu", "cuda"]
    cpu: str
    cores: int
    memory_bytes: int
    gpu: str | None
    platform: str


class Measurement(_Part):
    """One contender on one task.

    Attributes:
        seconds_per_review: one for each round; of a review of IMDb's mean length,
            ``Results.mean_tokens``.
        matrix_flops_per_second: the machine's matrix rate after each of these rounds, see
            ``Results.matrix_precision``.
        flops_per_review: what the mathematics needs, see ``flops``.
        peak_memory_bytes: of the contender's process up to the end of this phase; on CUDA allocated
            on the GPU.
    """

    size: str
    method: str
    phase: Phase
    contender: Literal["article", "peft", "ours"]
    precision: Precision
    seconds_per_review: Times
    matrix_flops_per_second: Times
    flops_per_review: float
    peak_memory_bytes: int


class Run(_Part):
    """What every run of a benchmark tells of itself.

    Attributes:
        folder: below ``results/``, where runs of its kind are kept.
        commit: of the checkout; ``changed``: whether tracked files differed from it.
        started: UTC; ``seconds``: of the whole run.
    """

    folder: ClassVar[str]

    machine: Machine
    versions: dict[str, str]
    commit: str | None
    changed: bool | None
    command: str
    started: str
    seconds: float

    @property
    def subject(self) -> str:
        """What was measured, where that tells runs of one kind on one machine apart."""
        return ""

    def write(self, results: Path) -> Path:
        """Write ``<machine>[-<subject>].json`` into its folder below ``results``, and give its
        path.
        """
        file = (
            results
            / self.folder
            / f"{'-'.join(filter(None, (self.machine.name, self.subject)))}.json"
        )
        write_whole(file, self.model_dump_json(indent=1).encode() + b"\n")
        return file

    @classmethod
    def read_all(cls, results: Path) -> list[Self]:
        """All of this kind below ``results``, by name. Raises ``pydantic.ValidationError`` where a
        file is not one.
        """
        return [
            cls.model_validate_json(file.read_bytes())
            for file in sorted((results / cls.folder).glob("*.json"))
        ]


class Results(Run):
    """A whole run of ``benchmarks.bench``.

    Attributes:
        matrix_precision: in which the machine's matrix rate was measured, the fastest of its
            precisions.
        mean_tokens: real tokens of a review.
    """

    folder: ClassVar[str] = ""

    batch_size: int
    batches_per_turn: int
    matrix_precision: Precision
    mean_tokens: float
    measurements: tuple[Measurement, ...]


class PackMeasurement(_Part):
    """Packs of one size.

    Attributes:
        pack: configurations that train together; ``batches``: each of them on so many at once.
        seconds_per_review: for each round; of one configuration on a review of IMDb's mean length.
        matrix_flops_per_second, flops_per_review, peak_memory_bytes: as in ``Measurement``,
            training alone.
    """

    pack: Annotated[int, Field(ge=1)]
    batches: Annotated[int, Field(ge=1)] = 1  # the first results do not tell
    seconds_per_review: Times
    matrix_flops_per_second: Times
    flops_per_review: float
    peak_memory_bytes: int


class GridResults(Run):
    """A whole run of ``benchmarks.grid``; as in ``Results`` where names agree.

    Attributes:
        size: of the encoder.
    """

    folder: ClassVar[str] = "packs"

    size: str
    matrix_precision: Precision
    mean_tokens: float
    measurements: tuple[PackMeasurement, ...]

    @property
    def subject(self) -> str:
        """The encoder's size."""
        return self.size


class Removal(_Part):
    """A training step or an evaluation without one of its speed-ups.

    Attributes:
        name: of what is done without it.
        expected: how many times longer it was expected to take, and why.
        phase: which of the two.
        seconds_per_review: as in ``Measurement``; ``seconds_as_it_is``: with every speed-up, in the
            same round.
    """

    name: str
    expected: str
    phase: Phase
    seconds_as_it_is: Times
    seconds_per_review: Times


class AblationResults(Run):
    """A whole run of ``benchmarks.ablation``.

    Attributes:
        size: of the encoder; ``method``: that is trained.
    """

    folder: ClassVar[str] = "speed-ups"

    size: str
    method: str
    precision: Precision
    removals: tuple[Removal, ...]

    @property
    def subject(self) -> str:
        """The encoder's size."""
        return self.size


class WorkersResults(Run):
    """A whole run of ``benchmarks.executors``.

    Attributes:
        configurations: of the sweep, each a pack of its own.
        seconds_of_sweep: for each number of workers, one for each round.
    """

    folder: ClassVar[str] = "workers"

    configurations: int
    seconds_of_sweep: dict[int, Times]


class SamenessResults(Run):
    """A whole run of ``benchmarks.sameness``.

    Attributes:
        study, title: what was trained; ``masks``: under which dropout in padded arithmetic.
        reviews: of the test set.
        padded, ours: for each method how many of them were answered rightly, by seed, in padded
            arithmetic and in this project's.
    """

    folder: ClassVar[str] = "sameness"

    study: str
    title: str
    masks: Masks = "other"  # the first results do not tell
    seeds: tuple[int, ...]
    reviews: int
    padded: dict[str, tuple[int, ...]]
    ours: dict[str, tuple[int, ...]]

    @property
    def subject(self) -> str:
        """The study, and the masks where they are the same."""
        return self.study if self.masks == "other" else f"{self.study}-same-masks"


class Beginning:
    """Made as a run begins, for what the run tells of itself.

    Args:
        device: where it runs.
        command: as it was started.
    """

    def __init__(self, device: str, command: str) -> None:
        self.machine = this_machine(device)
        self._command, self._started, self._began = command, machine.utc_now(), time.monotonic()
        self._commit, self._changed = machine.git_state()

    def tell(self, what: str) -> None:
        """Say on stderr what is measured next, and when."""
        print(f"{time.monotonic() - self._began:4.0f} s: {what}", file=sys.stderr)

    def origin(self) -> dict[str, Any]:
        """The attributes that ``Run`` names, at the run's end."""
        return {
            "machine": self.machine,
            "versions": machine.versions()
            | {name: importlib.metadata.version(name) for name in PEERS},
            "commit": self._commit,
            "changed": self._changed,
            "command": self._command,
            "started": self._started,
            "seconds": time.monotonic() - self._began,
        }


def this_machine(device: str) -> Machine:
    """The machine that this runs on; its name is that of the GPU in use, else of the processor."""
    gpu = machine.gpu_name(device)
    name = gpu or f"{machine.cpu_name()} {machine.cores()} cores"
    return Machine(
        name=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        device=device,
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        memory_bytes=machine.memory_bytes(),
        gpu=gpu,
        platform=machine.platform_name(),
    )
