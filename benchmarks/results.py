"""What one run of the benchmark found, as it is kept in ``results/<machine>.json``; times as measured, nothing derived."""

import importlib.metadata
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from lora_replication import machine
from lora_replication.records import write_whole

PEERS = ("pytorch-lightning", "peft", "accelerate")

Precision = Literal["fp32", "bf16-mixed", "fp16-mixed"]

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
        seconds_per_review: one for each round; of a review of IMDb's mean length, ``Results.mean_tokens``.
        matrix_flops_per_second: the machine's matrix rate after each of these rounds, see ``Results.matrix_precision``.
        flops_per_review: what the mathematics needs, see ``flops``.
        peak_memory_bytes: of the contender's process up to the end of this phase; on CUDA allocated on the GPU.
    """

    size: str
    method: str
    phase: Literal["training", "evaluation"]
    contender: Literal["article", "peft", "ours"]
    precision: Precision
    seconds_per_review: Times
    matrix_flops_per_second: Times
    flops_per_review: float
    peak_memory_bytes: int


class Results(_Part):
    """A whole run.

    Attributes:
        commit: of the checkout; ``changed``: whether tracked files differed from it.
        started: UTC; ``seconds``: of the whole run.
        matrix_precision: in which the machine's matrix rate was measured, the fastest of its precisions.
        mean_tokens: real tokens of a review.
    """

    machine: Machine
    versions: dict[str, str]
    commit: str | None
    changed: bool | None
    command: str
    started: str
    seconds: float
    batch_size: int
    batches_per_turn: int
    matrix_precision: Precision
    mean_tokens: float
    measurements: tuple[Measurement, ...]


class PackMeasurement(_Part):
    """Packs of one size.

    Attributes:
        pack: configurations that train together.
        seconds_per_review: for each round; of one configuration on a review of IMDb's mean length.
        matrix_flops_per_second, flops_per_review, peak_memory_bytes: as in ``Measurement``, training alone.
    """

    pack: Annotated[int, Field(ge=1)]
    seconds_per_review: Times
    matrix_flops_per_second: Times
    flops_per_review: float
    peak_memory_bytes: int


class GridResults(_Part):
    """A whole run of ``benchmarks.grid``; as in ``Results`` where names agree.

    Attributes:
        size: of the encoder.
    """

    machine: Machine
    versions: dict[str, str]
    commit: str | None
    changed: bool | None
    command: str
    started: str
    seconds: float
    size: str
    matrix_precision: Precision
    mean_tokens: float
    measurements: tuple[PackMeasurement, ...]


class SamenessResults(_Part):
    """A whole run of ``benchmarks.sameness``; as in ``Results`` where names agree.

    Attributes:
        study, title: what was trained.
        reviews: of the test set.
        padded, ours: for each method how many of them were answered rightly, by seed, in padded arithmetic and in this project's.
    """

    machine: Machine
    versions: dict[str, str]
    commit: str | None
    changed: bool | None
    command: str
    started: str
    seconds: float
    study: str
    title: str
    seeds: tuple[int, ...]
    reviews: int
    padded: dict[str, tuple[int, ...]]
    ours: dict[str, tuple[int, ...]]


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


def all_versions() -> dict[str, str]:
    """Versions of what the project and its peers run on."""
    return machine.versions() | {name: importlib.metadata.version(name) for name in PEERS}


def write_results(results: Results, folder: Path) -> Path:
    """Write ``<machine>.json`` into ``folder`` and give its path."""
    file = folder / f"{results.machine.name}.json"
    write_whole(file, results.model_dump_json(indent=1).encode() + b"\n")
    return file


def read_results(folder: Path) -> list[Results]:
    """All results of ``folder``, by name. Raises ``pydantic.ValidationError`` where a file is not one."""
    files = [file for file in sorted(folder.glob("*.json")) if not file.name.endswith((GRID, SAMENESS))]
    return [Results.model_validate_json(file.read_bytes()) for file in files]


GRID, SAMENESS = "-grid.json", "-sameness.json"


def write_grid_results(results: GridResults, folder: Path) -> Path:
    """Write ``<machine>-<size>-grid.json`` into ``folder`` and give its path."""
    file = folder / f"{results.machine.name}-{results.size}{GRID}"
    write_whole(file, results.model_dump_json(indent=1).encode() + b"\n")
    return file


def read_grid_results(folder: Path) -> list[GridResults]:
    """All of ``folder``, by name. Raises ``pydantic.ValidationError`` where a file is not one."""
    return [GridResults.model_validate_json(file.read_bytes()) for file in sorted(folder.glob(f"*{GRID}"))]


def write_sameness_results(results: SamenessResults, folder: Path) -> Path:
    """Write ``<machine>-<study>-sameness.json`` into ``folder`` and give its path."""
    file = folder / f"{results.machine.name}-{results.study}{SAMENESS}"
    write_whole(file, results.model_dump_json(indent=1).encode() + b"\n")
    return file


def read_sameness_results(folder: Path) -> list[SamenessResults]:
    """All of ``folder``, by name. Raises ``pydantic.ValidationError`` where a file is not one."""
    return [SamenessResults.model_validate_json(file.read_bytes()) for file in sorted(folder.glob(f"*{SAMENESS}"))]
