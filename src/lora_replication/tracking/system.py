"""Processor, memory and GPU use while a run goes on, under the names of MLflow's own system
metrics.
"""

import os
import threading
import time
from typing import Any

from lora_replication.tracking.content import Point

LONGEST_PAUSE_SECONDS = 10.0
"""MLflow's own interval. It starts at one second and grows with the run, so that short runs get
samples too.
"""


class SystemSampler(threading.Thread):
    """Samples until ``stopped`` is set and keeps what it saw until it is taken.

    MLflow's own sampling thread asks the store before every sample and logs on its own; here the
    thread touches no store, so that a dead one can't hold it up.
    """

    def __init__(self, stopped: threading.Event) -> None:
        super().__init__(name="system-metrics", daemon=True)
        self._stopped = stopped
        self._monitors = _monitors()
        self._points: list[Point] = []
        self._lock = threading.Lock()
        self._step = 0

    def run(self) -> None:
        """Sample at growing intervals; a first sample stands at the start, a last one where the
        points are taken at the end.
        """
        began = time.monotonic()
        fixed = os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "")
        pause = 0.2
        while not self._stopped.wait(pause):
            self.sample()
            grown = min(1.0 + (time.monotonic() - began) / 30, LONGEST_PAUSE_SECONDS)
            pause = float(fixed) if fixed.replace(".", "", 1).isdecimal() else grown

    def sample(self) -> None:
        """Take one sample now."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            for monitor in self._monitors:
                monitor.collect_metrics()
                for name, value in monitor.aggregate_metrics().items():
                    self._points.append(Point(f"system/{name}", float(value), now, self._step))
                monitor.clear_metrics()
            self._step += 1

    def taken(self) -> list[Point]:
        """The points since the last call; ``step`` counts the samples of the run."""
        with self._lock:
            points, self._points = self._points, []
        return points


def _monitors() -> list[Any]:
    import psutil
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor

    psutil.cpu_percent()  # the first reading has nothing to compare with and says 0
    kinds: list[Any] = [CPUMonitor, GPUMonitor]  # untyped in MLflow
    try:
        return [kind() for kind in kinds]
    # no NVIDIA library, driver or GPU, or one that may not be asked; NVML's errors share no
    # narrower class
    except Exception:
        return [kinds[0]()]
