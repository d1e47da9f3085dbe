"""What a run of a benchmark found, as it is kept in ``results/``: as measured, nothing derived; and
all of it as the tables of ``results/README.md``.
"""

import importlib.metadata
import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from lora_replication import machine
from lora_replication.files import write_whole

FOLDER = Path(__file__).with_name("results")
PEERS = ("lightning", "pytorch-lightning", "peft", "accelerate")
CONTENDERS = {"article": "the article's loop", "peft": "HF Trainer", "ours": "this project"}
EQUAL, MIXED = "equal", "mixed"
"""A pack of copies, and one of unlike configurations: as methods, the second next to the first."""
HEADINGS = (
    "size", "phase", "method", "contender", "pack", "precision", "ms per review and configuration",
    "real tokens/s", "peak memory", "share of matrix rate", "times this project's",
)  # fmt: skip

Kind = Literal["bench", "packs", "mixed", "smoke", "speed", "study", "grid", "coverage"]
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
    platform: str


class Measurement(_Part):
    """One contender, or a pack of one size, on one method at one size.

    ``seconds_per_review``: one for each round, of one configuration on a review of IMDb's mean
    length; ``matrix_flops_per_second``: the machine's matrix rate after each of these rounds;
    ``flops_per_review``: what the mathematics needs, see ``flops``; ``peak_memory_bytes``: of the
    process up to the end of this phase, on CUDA allocated on the GPU; ``cuda_paths``: settings of
    ``execution.cuda`` that were on.
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
    cuda_paths: tuple[str, ...] = ()


class Check(_Part):
    """Something that must hold, whether it does, and the numbers."""

    name: str
    passed: bool
    detail: str


class Results(_Part):
    """One run of a benchmark, or of one part of the plan for a GPU.

    Attributes:
        commit: of the checkout; ``changed``: whether tracked files differed from it.
        started: UTC; ``seconds``: of the whole run.
        title: for people.
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
    title: str = ""
    matrix_precision: Precision | None = None
    mean_tokens: float | None = None
    measurements: tuple[Measurement, ...] = ()
    checks: tuple[Check, ...] = ()
    finished: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """Of which commit, for a page of its own."""
        return f"commit {self.commit}{', with local changes' if self.changed else ''}"

    def write(self, file: Path) -> None:
        """Write ``file``, whole or not at all."""
        write_whole(file, self.model_dump_json(indent=1, exclude_defaults=True).encode() + b"\n")

    @classmethod
    def read_all(cls, folder: Path) -> list[Self]:
        """All in ``folder``, by name. Raises ``pydantic.ValidationError``."""
        files = sorted(folder.glob("*.json"))
        return [cls.model_validate_json(file.read_bytes()) for file in files]

    def show(self, folder: Path) -> None:
        """Write these results into ``folder``, its README.md anew, and print them."""
        kind = "" if self.kind == "bench" else f"{self.kind}-"
        self.write(folder / f"{kind}{self.machine.name}.json")
        write_whole(folder / "README.md", page(Results.read_all(folder)).encode())
        print(render(self))


class Beginning:
    """Made as a run begins on ``device`` with ``command``, for what the run says of itself."""

    def __init__(self, device: str, command: str) -> None:
        self._began = time.monotonic()
        commit, changed = machine.git_state()
        own = {"commit": commit, "changed": changed, "started": machine.utc_now()}
        self._content: dict[str, Any] = own | {"command": command, "machine": _machine(device)}

    def results(self, kind: Kind, **content: Any) -> Results:
        """At the run's end."""
        found = importlib.metadata.distributions()
        peers = {each.name: each.version for each in found if each.name in PEERS}
        seconds = time.monotonic() - self._began
        own: dict[str, Any] = {"versions": machine.versions() | peers, "seconds": seconds}
        return Results(kind=kind, **self._content, **own, **content)


def _machine(device: str) -> Machine:
    """The machine that this runs on; its name is that of the GPU in use, else of the processor."""
    gpu = machine.gpu_name(device)
    name = gpu or f"{machine.cpu_name()} {machine.cores()} cores"
    return Machine(
        name=re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
        device="cuda" if device == "cuda" else "cpu",
        cpu=machine.cpu_name(),
        cores=machine.cores(),
        memory_bytes=machine.memory_bytes(),
        gpu=gpu,
        platform=machine.platform_name(),
    )


def page(everything: Iterable[Results]) -> str:
    """All results as Markdown."""
    about = "Written by their commands; [what they mean](../README.md).\n"
    return "\n".join(["# Results of the benchmarks\n", about, *map(render, everything)])


def render(results: Results) -> str:
    """A section for one run of a benchmark."""
    where, rates = results.machine, list[float]()
    for m in results.measurements:
        rates += [rate / 1e12 for rate in m.matrix_flops_per_second]
    shown = f"{results.matrix_precision} matrix rate {_spread(rates)} TFLOP/s. " if rates else ""
    lines = [f"## {results.kind}: {where.name}", ""]
    lines += [results.title, ""] if results.title else []
    lines += [
        f"{f'{where.gpu}, ' if where.gpu else ''}{where.cpu}, {where.cores} cores, "
        f"{where.memory_bytes / 2**30:.0f} GiB of memory, {where.platform}. "
        f"{shown}Commit {(results.commit or 'unknown')[:12]}"
        f"{' with changes' if results.changed else ''}, {results.started}, "
        f"{results.seconds / 60:.0f} minutes: `{results.command}`.",
        "",
        ", ".join(f"{name} {version}" for name, version in results.versions.items()) + ".",
    ]
    lines += table(HEADINGS, [_row(results, m) for m in results.measurements])
    checks = [(each.name, "yes" if each.passed else "NO", each.detail) for each in results.checks]
    lines += table(("check", "holds", "numbers"), checks)
    lines += ["", *(f"- {line}" for line in results.finished)] if results.finished else []
    lines += ["", *(f"- not done: {line}" for line in results.skipped)] if results.skipped else []
    return "\n".join([*lines, ""])


def _row(results: Results, m: Measurement) -> Sequence[str]:
    method, pack = (EQUAL, m.pack) if m.method == MIXED else (m.method, 1)
    alike = [
        each
        for each in results.measurements
        if (each.size, each.method, each.phase) == (m.size, method, m.phase)
        and (each.contender, each.pack, each.cuda_paths) == ("ours", pack, ())
    ]
    # A peer in a precision that this project was not measured in is next to its first.
    own = next((each for each in alike if each.precision == m.precision), *alike[:1] or [None])
    pairs = zip(m.seconds_per_review, m.matrix_flops_per_second, strict=True)
    times = []
    if own and own is not m:  # within a round: of neighbours in time
        rounds = zip(m.seconds_per_review, own.seconds_per_review, strict=True)
        times = [theirs / mine for theirs, mine in rounds]
    peft = " with PEFT" if m.contender == "peft" and "lora" in m.method else ""
    return (
        m.size,
        m.phase,
        m.method.replace("_", " "),
        ", ".join([CONTENDERS[m.contender] + peft, *m.cuda_paths]).replace("_", " "),
        str(m.pack),
        m.precision,
        _spread([1000 * seconds for seconds in m.seconds_per_review]),
        f"{(results.mean_tokens or 0) / median(m.seconds_per_review):,.0f}",
        f"{m.peak_memory_bytes / 2**30:.2f} GiB",
        f"{median(m.flops_per_review / seconds / rate for seconds, rate in pairs):.1%}",
        _spread(times, "{:.2f}".format) if times else "",
    )


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], align: str = "---") -> list[str]:
    """In Markdown, after an empty line; nothing without rows."""
    lines = [f"| {' | '.join(row)} |" for row in (headings, [align] * len(headings), *rows)]
    return ["", *lines] if lines[2:] else []


def write_page(name: str, file: Path, **values: object) -> None:
    """Write ``file`` from the page of this name in ``pages``, filled with the values."""
    page = FOLDER.with_name("pages") / f"{name}.template"
    write_whole(file, page.read_text("utf-8").format(**values).encode())


def numbers(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of numbers in Markdown, as one text."""
    return "\n".join(table(headings, rows, "---:")[1:])


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float], shown: Callable[[float], str] = _number) -> str:
    """The median, then the least and the greatest."""
    return f"{shown(median(values))} ({shown(min(values))} to {shown(max(values))})"
