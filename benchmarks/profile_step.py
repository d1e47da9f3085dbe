"""Where the time of this project's training step goes: every operation's own time, largest
first.
"""

from contextlib import suppress
from pathlib import Path

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.gate import Case, PhaseOver, finish
from benchmarks.worker import make_contender
from benchmarks.workload import Workload
from lora_replication.files import write_whole

ROWS = 40
ACTIVITIES = {"cpu": [ProfilerActivity.CPU], "cuda": [ProfilerActivity.CPU, ProfilerActivity.CUDA]}
OWN_TIME = {
    "cpu": (DeviceType.CPU, "self_cpu_time_total"),
    "cuda": (DeviceType.CUDA, "self_device_time_total"),
}
"""On a GPU the kernels are listed, however they were launched."""


class ProfilingGate:
    """Lets a contender warm up for one turn, and profiles the next."""

    def __init__(self, batches: int, device: str) -> None:
        self.profiler = profile(activities=ACTIVITIES[device])
        self._batches, self._device, self._done = batches, device, 0

    def wait(self) -> None:
        """Nothing to wait for."""

    def batch_done(self, batches: int = 1) -> None:
        """Start after the first turn, stop after the second. Raises ``PhaseOver`` then."""
        self._done += batches
        if self._done == self._batches:
            finish(self._device)
            self.profiler.start()
        if self._done == 2 * self._batches:
            finish(self._device)
            self.profiler.stop()
            raise PhaseOver


def write_profile(case: Case, workload: Workload, file: Path, heading: str) -> None:
    """Profile one turn of training of ``case`` into ``file``: own time on the device by operation,
    in ms for each step.

    Args:
        heading: the first line.
    """
    gate = ProfilingGate(case.batches, case.settings.device)
    with suppress(PhaseOver):
        make_contender(case, workload).train(gate)
    write_whole(file, f"{heading}\n\n{_table(gate.profiler, case)}".encode())


def _table(profiler: profile, case: Case) -> str:
    kind, own_time = OWN_TIME[case.settings.device]
    events = [
        event
        for event in profiler.key_averages()
        if event.device_type == kind and not event.is_user_annotation
    ]
    rows = sorted(
        ((getattr(event, own_time) / 1000 / case.batches, event) for event in events),
        key=lambda row: -row[0],
    )
    total = sum(milliseconds for milliseconds, _ in rows)
    lines = [
        f"{'ms a step':>10} {'share':>7} {'calls':>7}  operation",
        f"{total:10.2f} {1:7.1%} {'':7}  all",
    ]
    lines += [
        f"{ms:10.2f} {ms / total:7.1%} {event.count / case.batches:7.1f}  {event.key[:100]}"
        for ms, event in rows[:ROWS]
    ]
    return "\n".join(lines) + "\n"
