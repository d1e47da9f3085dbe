"""What the machine and the checkout are, for the *where* of a record: no user, no host, no path."""

import ctypes
import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

PACKAGES = (
    *("torch", "transformers", "tokenizers", "datasets", "numpy", "scipy"),
    *("dvc", "mlflow", "lora-replication"),
)

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux tells of the processor."""

CPU_FEATURES = {
    *("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "sve", "sve2", "bf16", "svebf16"),
}
"""Instruction sets by which torch chooses its kernels, in Linux's words: x86's, Arm's."""


def utc_now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


GIT = ("git", "-c", "safe.directory=*")
"""From the PATH, also in a checkout of another owner, whose code runs here anyway."""


def git_state() -> tuple[str | None, bool | None]:
    """(commit, whether tracked files differ from it) of this code's checkout; None outside git."""
    found = []
    for words in ("rev-parse HEAD", "status --porcelain --untracked-files=no"):
        command, folder = [*GIT, *words.split()], Path(__file__).resolve().parent
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=30, check=True)  # noqa: S603
        except (OSError, subprocess.SubprocessError):
            return None, None
        found.append(done.stdout.decode().strip())
    return found[0], bool(found[1])


def versions() -> dict[str, str]:
    """Versions of Python and of those ``PACKAGES`` that are installed."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def cpu_name() -> str:
    """The processor's model as the operating system tells it."""
    names = [value.strip() for key, value in _cpuinfo() if key == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_features() -> list[str]:
    """Those of ``CPU_FEATURES`` that the processor has, where Linux tells."""
    lines = [value for key, value in _cpuinfo() if key in ("flags", "features")]
    return sorted({flag for line in lines for flag in line.split()} & CPU_FEATURES)


def multiplies_bf16() -> bool:
    """Whether the processor multiplies matrices in bf16 (x86's AVX512-BF16 or AMX, Arm's bf16).

    Without such instructions torch is an order of magnitude slower in bf16 than in fp32.
    """
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(cpu_features())


def _cpuinfo() -> list[tuple[str, str]]:
    """The lines of ``CPUINFO`` as lower-case key and value."""
    try:
        lines = CPUINFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    pairs = [line.partition(":") for line in lines]
    return [(key.strip().lower(), value) for key, _, value in pairs]


def gpu_name(device: str) -> str | None:
    """The model of the GPU that a run on ``device``, ``cuda`` or ``cpu``, uses, or None."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" and torch.cuda.is_available() else None


def gpu_is_lost(device: str) -> bool:
    """Whether a run on ``device`` has a GPU that no longer answers, as after an illegal access."""
    import torch

    if device == "cuda" and torch.cuda.is_available():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            return True
    return False


def reset_peak_memory(device: str) -> None:
    """Let ``peak_memory_bytes`` count from here, where the system can (CUDA and Linux)."""
    if device == "cuda":
        import torch

        if torch.cuda.is_available():  # the model's loader tells of a missing GPU
            torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError, AttributeError):  # what earlier runs have freed must not count
            ctypes.CDLL(None).malloc_trim(0)
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", "ascii")


def peak_memory_bytes(device: str) -> int:
    """The most memory since the last reset: on the GPU for ``cuda``, else of this process."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # others count in KiB


def memory_bytes() -> int:
    """Memory of the machine."""
    import psutil

    return int(psutil.virtual_memory().total)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def platform_name() -> str:
    """Operating system, its release and the processor's architecture."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"
