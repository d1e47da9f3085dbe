"""The packs on Ray: on this machine alone, or on a cluster whose machines need share nothing but
the network.

Workers get data and weights as bytes and give records, predictions and adapters as bytes; this
process alone writes the ledger.
"""

import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lora_replication.errors import EnvironmentProblem, GpuLost, ReplicationError
from lora_replication.files import write_whole
from lora_replication.grid.executors.attempts import (
    Attempts,
    Broken,
    Outcome,
    Task,
    attempt,
    warm_up,
)
from lora_replication.grid.executors.cargo import Cargo, load_cargo, unload_cargo
from lora_replication.grid.sweep import Executor
from lora_replication.jobs import Job
from lora_replication.process import set_up_libraries
from lora_replication.record import ADAPTER, PREDICTIONS, RECORD, Epoch, Record
from lora_replication.study import GridParams
from lora_replication.training.run import Bench, Mirror

CONNECT_SECONDS = 10.0
"""The head of a cluster has so long to take a connection."""

LOOK_SECONDS = 1.0
"""How often it is looked whether a pack has taken too long."""

Files = Mapping[str, bytes]
"""A run's folder: contents by name."""


@contextmanager
def on_ray(
    bench: Bench, mirror: Callable[[Asked], AbstractContextManager[Mirror]]
) -> Iterator[Executor]:
    """Runs packs on Ray, as many at a time as it has CPUs and GPUs for. It is connected when first
    needed.

    A pack whose worker or machine is lost, or that takes longer than ``grid.pack_timeout`` from its
    start, has failed an attempt.

    Args:
        mirror: is told of each run here, when its record has come.

    Raises:
        EnvironmentProblem: Ray is not installed, its address does not answer, no machine is large
            enough, a worker runs other code.
    """
    cluster = Cluster(bench)

    def run(packs: Sequence[Sequence[Job]]) -> Generator[tuple[Job, Record]]:
        attempts = Attempts(bench, packs)
        flights: list[Flight] = []
        while attempts.waiting or flights:
            while attempts.waiting:
                flights.append(cluster.start(attempts.waiting.popleft()))
            ready = cluster.wait(flights)
            for flight in list(flights):
                answer = flight.answer(flight in ready)
                if answer is not None:
                    flights.remove(flight)
                    outcome = (
                        _keep_all(bench, flight.task, answer, mirror)
                        if isinstance(answer, list)
                        else answer
                    )
                    yield from attempts.settle(flight.task, outcome)

    try:
        yield run
    finally:
        cluster.close()


class Cluster:
    """Ray, and what was sent to it for a sweep."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    @cached_property
    def ray(self) -> Any:
        """The package, connected."""
        return _connect(self._bench.study.grid)

    @cached_property
    def _cargo(self) -> Cargo:
        return load_cargo(self._bench, self.ray.put)

    @cached_property
    def _resources(self) -> dict[str, float]:
        grid = self._bench.study.grid
        return {
            "num_cpus": grid.ray_cpus,
            "num_gpus": grid.ray_gpu_share if self._bench.study.train.device == "cuda" else 0,
        }

    def start(self, task: Task) -> "Flight":
        """Send ``task`` to a worker; it starts when there is room."""
        on_worker = self.ray.remote(max_retries=0, **self._resources)(
            run_pack
        )  # what is tried again is ours to decide
        keys = [self._bench.asked(job).key for job in task.jobs]
        return Flight(
            self.ray,
            task,
            on_worker.remote(self._cargo, task, keys),
            self._bench.study.grid.pack_timeout,
        )

    def wait(self, flights: Sequence["Flight"]) -> list["Flight"]:
        """Those with news, as soon as there are some, and at the latest after ``LOOK_SECONDS``.

        Raises:
            EnvironmentProblem: none has started, and no machine is large enough for one.
        """
        ready, _ = self.ray.wait([flight.news for flight in flights], timeout=LOOK_SECONDS)
        if not ready and not any(flight.started for flight in flights):
            self._require_room()
        return [flight for flight in flights if flight.news in ready]

    def close(self) -> None:
        """Let go of Ray, and stop it where it was started here; what still runs is killed."""
        if "ray" in self.__dict__:
            self.ray.shutdown()

    def _require_room(self) -> None:
        needed = self._resources
        machines = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(
            node.get("CPU", 0) >= needed["num_cpus"] and node.get("GPU", 0) >= needed["num_gpus"]
            for node in machines
        ):
            raise EnvironmentProblem(
                f"no machine of the Ray cluster has grid.ray_cpus = {needed['num_cpus']} CPUs and {needed['num_gpus']:g} GPUs for a pack; "
                "set smaller grid.ray_cpus or grid.ray_gpu_share, or add machines, then run again to continue"
            )


@dataclass(eq=False)
class Flight:
    """A task on its way through Ray.

    Attributes:
        news: gives first that it has started, then its answer.
        timeout: seconds from its start after which it is killed, or null.
        started: of the monotonic clock, or null before that.
    """

    ray: Any
    task: Task
    news: Any
    timeout: float | None
    started: float | None = None
    is_cancelled: bool = False

    def answer(self, is_ready: bool) -> list[Files] | Broken | ReplicationError | None:
        """What came of it, or null while it is under way."""
        errors = self.ray.exceptions
        if is_ready:
            try:
                content = self.ray.get(next(self.news))
            except errors.RayError as problem:
                cause = getattr(problem, "cause", None)
                if cause is not None and not isinstance(
                    cause, errors.RayError
                ):  # ``attempt`` raises nothing: it could not even begin
                    return EnvironmentProblem(
                        f"a Ray worker can't run this project ({cause!r}); install the same commit of it on every machine"
                    )
                if self.is_cancelled:
                    return Broken(
                        "timeout",
                        f"not done after grid.pack_timeout, {self.timeout:g} seconds; its worker was killed",
                    )
                return Broken(
                    "killed",
                    f"its Ray worker was lost: {type(problem).__name__}: {' '.join(str(problem).split())}",
                )
            if self.started is not None:
                return content  # type: ignore[no-any-return]  # of ``run_pack``
            self.started = time.monotonic()
        elif (
            self.timeout
            and self.started
            and not self.is_cancelled
            and time.monotonic() - self.started > self.timeout
        ):
            self.ray.cancel(self.news, force=True)
            self.is_cancelled = True
        return None


def run_pack(
    cargo: Cargo, task: Task, keys: Sequence[str]
) -> Generator[list[Files] | Broken | ReplicationError | None]:
    """What a worker does: tell that it starts, once it has all it needs, then give each run's
    files, or what went wrong.

    Args:
        keys: of the records that ``task`` asks for, as the sender's code gives them.
    """
    import torch

    set_up_libraries()
    torch.set_num_threads(cargo.study.grid.ray_cpus)
    try:
        bench = _bench(cargo)
        if [bench.asked(job).key for job in task.jobs] != list(keys):
            raise EnvironmentProblem(
                "a Ray worker runs other code than this process; install the same commit on every machine"
            )
    except ReplicationError as problem:
        yield None
        yield problem
        return
    warm_up(bench)
    yield None
    try:
        yield _run_pack(bench, task)
    except GpuLost:
        os._exit(1)  # Ray starts a new worker, and the pack is tried again


def _run_pack(bench: Bench, task: Task) -> list[Files] | Broken | ReplicationError:
    with tempfile.TemporaryDirectory(
        prefix="lora-replication-"
    ) as folder:  # of this attempt alone: nothing to wait for, nothing left
        bench.runs, bench.state = Path(folder) / "runs", Path(folder) / "state"
        outcome = attempt(bench, task, lambda _asked: nullcontext(Silent()))
        if isinstance(outcome, Broken | ReplicationError):
            return outcome
        folders = [bench.folder(job) for job in task.jobs]
        return [{file.name: file.read_bytes() for file in sorted(run.iterdir())} for run in folders]


class Silent:
    """A mirror that shows nothing: the machine of a worker may not reach MLflow."""

    def epoch(self, epoch: Epoch) -> None:
        """Nothing."""

    def finish(self, folder: Path, record: Record) -> None:
        """Nothing."""


_benches: dict[str, Bench] = {}


def _bench(cargo: Cargo) -> Bench:
    """One for each cargo and process, so that tokens and encoder are read once."""
    if cargo.digest not in _benches:
        import ray

        _benches[cargo.digest] = unload_cargo(cargo, ray.get)
    return _benches[cargo.digest]


def _keep_all(
    bench: Bench,
    task: Task,
    answers: Sequence[Files],
    mirror: Callable[[Asked], AbstractContextManager[Mirror]],
) -> Outcome:
    return [keep(bench, job, files, mirror) for job, files in zip(task.jobs, answers, strict=True)]


def keep(
    bench: Bench, job: Job, files: Files, mirror: Callable[[Asked], AbstractContextManager[Mirror]]
) -> Record:
    """Write a run that a worker made into the ledger, its record last. The first whole record of a
    job stays; another is dropped.
    """
    if record := bench.recorded(job):
        print(
            f"grid: {job.label} was recorded already; the second record is dropped", file=sys.stderr
        )
        return record
    folder = bench.folder(job)
    (folder / RECORD).unlink(
        missing_ok=True
    )  # a stale record must not stand beside new predictions
    for name in (PREDICTIONS, ADAPTER, RECORD):
        write_whole(folder / name, files[name])
    record = Record.model_validate_json(files[RECORD])
    with mirror(record.asked) as live:
        live.finish(folder, record)
    return record


def _connect(grid: GridParams) -> Any:
    """Ray, connected: to ``grid.ray_address``, or started on this machine alone, without dashboard,
    on the loopback address.
    """
    started: dict[str, Any] = {"address": grid.ray_address}
    if grid.ray_address is None:
        started = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        if "RAY_AUTH_MODE" not in os.environ:  # nobody else on this machine may give it work
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        import ray  # it reads its variables now

        if ":" in (grid.ray_address or ""):
            host, _, port = str(grid.ray_address).rpartition(":")
            socket.create_connection(
                (host, int(port)), CONNECT_SECONDS
            ).close()  # Ray itself would wait for minutes
        ray.init(**started, log_to_driver=False, logging_level="ERROR")
    except ImportError:
        raise EnvironmentProblem(
            "grid.executor is ray, and the package ray is not installed; run: pip install 'ray>=2.52'"
        ) from None
    except (OSError, RuntimeError, ValueError, OverflowError) as problem:
        why = " ".join(str(problem).split())[:200]
        raise EnvironmentProblem(
            f"grid.ray_address is {grid.ray_address or 'null'}: no Ray there ({why}); see docs/cluster.md"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, terminate)  # Ray takes it for itself
    return ray
