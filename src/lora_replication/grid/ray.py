"""Packs on Ray: on this machine alone, or on a cluster whose machines share just the network.

Workers get data and encoder as bytes and return each run's files as bytes; this process alone
writes records.
"""

import fcntl
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from lora_replication.data.manifest import MANIFEST, tokens_file
from lora_replication.data.reviews import PARTS
from lora_replication.encoders import CONFIG, VOCABULARY, WEIGHTS, Encoder
from lora_replication.errors import DataError, EnvironmentProblem, GpuLost, ReplicationError
from lora_replication.files import digest, expanded, file_digest, write_whole
from lora_replication.grid.attempts import Attempts, Broken, Task, attempt
from lora_replication.process import set_up_libraries
from lora_replication.record import ADAPTER, PREDICTIONS, RECORD, Record, Run
from lora_replication.study import ExecutionParams, Study
from lora_replication.training.run import OpenMirror
from lora_replication.workspace import Workspace

CONNECT_SECONDS = 10.0
"""The head of a cluster has so long to take a connection."""

LOOK_SECONDS = 1.0
"""How often it is checked whether a pack has taken too long."""

SAME_COMMIT = "install the same commit on every machine"

SILENT: Any = SimpleNamespace(epoch=lambda _epoch: None, finish=lambda _folder, _record: None)
"""A mirror that shows nothing: the machine of a worker may not reach MLflow."""

Files = Mapping[str, bytes]
"""A run's folder: contents by name."""

Answer = list[Files] | Broken | ReplicationError


@dataclass(frozen=True)
class Inputs:
    """A study's data and encoder on their way.

    Attributes:
        encoder: its ``folder`` is the sender's.
        digests: sha256 of each file, by its name.
        contents: what the files' bytes, by name, are fetched by.
    """

    study: Study
    encoder: Encoder
    digests: dict[str, str]
    contents: Any


def send(workspace: Workspace, put: Callable[[dict[str, bytes]], Any]) -> Inputs:
    """Hand the files to ``put``, which returns what they are fetched by."""
    encoder, data = workspace.encoder, workspace.data
    files = [data / MANIFEST, *(tokens_file(data, part) for part in PARTS)]
    files += [encoder.folder / name for name in (CONFIG, WEIGHTS, VOCABULARY)]
    digests = {file.name: file_digest(file) for file in files}
    contents = put({file.name: file.read_bytes() for file in files})
    return Inputs(workspace.study, encoder, digests, contents)


def receive(inputs: Inputs, fetch: Callable[[Any], dict[str, bytes]]) -> Workspace:
    """A workspace on this machine's copy, in the user's cache folder; fetched if need be.

    Raises ``DataError`` where what was fetched is not what was sent.
    """
    cache = expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    folder = cache / "lora-replication" / "inputs" / digest(inputs.digests)
    folder.mkdir(parents=True, exist_ok=True)

    def is_whole(name: str) -> bool:
        return (folder / name).is_file() and file_digest(folder / name) == inputs.digests[name]

    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one process writes, the others wait and find it done
        if not all(map(is_whole, inputs.digests)):
            for name, content in fetch(inputs.contents).items():
                write_whole(folder / name, content)
        if altered := [name for name in inputs.digests if not is_whole(name)]:
            raise DataError(f"{folder / altered[0]}: came with another sha256 than sent; run again")
    workspace = Workspace(inputs.study, folder)
    workspace.data, workspace.encoder = folder, replace(inputs.encoder, folder=folder)
    return workspace


class RayExecutor:
    """Runs packs on Ray, as many at a time as it has room for; connected when first needed.

    A pack whose worker or machine is lost, or that takes longer than ``execution.pack_timeout``
    from its start, has failed an attempt.
    """

    def __init__(self, workspace: Workspace, mirror: OpenMirror) -> None:
        self._workspace, self._mirror = workspace, mirror
        self._execution = workspace.study.execution
        self._cpus = self._execution.ray_cpus
        on_gpu = workspace.study.train.device == "cuda"
        self._gpus = self._execution.ray_gpu_share if on_gpu else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if "_ray" in self.__dict__:
            self._ray.shutdown()  # kills what still runs

    @cached_property
    def _ray(self) -> Any:
        return connect(self._execution)

    @cached_property
    def _inputs(self) -> Inputs:
        return send(self._workspace, self._ray.put)

    def __call__(self, packs: Sequence[Sequence[Run]]) -> Generator[Record]:
        """Yield each record once it is written.

        Raises ``EnvironmentProblem``: Ray is not installed, its address does not answer, no machine
        is large enough, or a worker runs other code.
        """
        attempts = Attempts(self._workspace, packs)
        tasks: dict[Any, Task] = {}  # by the generator of Ray's that their news come from
        started: dict[Any, float] = {}  # likewise, of the monotonic clock
        limit = self._execution.pack_timeout or float("inf")
        while attempts.waiting or tasks:
            while attempts.waiting:
                task = attempts.waiting.popleft()
                tasks[self._send(task)] = task
            ready, _ = self._ray.wait(list(tasks), timeout=LOOK_SECONDS)
            overdue = [news for news, at in started.items() if time.monotonic() - at > limit]
            for news in ready:
                answer = self._next(news, news in overdue)
                if answer is None:
                    started[news] = time.monotonic()
                    continue
                started.pop(news, None)
                task = tasks.pop(news)
                if isinstance(answer, Broken | ReplicationError):
                    yield from attempts.settle(task, answer)
                else:
                    for run, files in zip(task.runs, answer, strict=True):
                        yield keep(self._workspace, run, files, self._mirror)
            for news in overdue:
                if news in tasks:
                    self._ray.cancel(news, force=True)
            if not (ready or started):
                self._require_room()

    def _send(self, task: Task) -> Any:
        # No retries of Ray's own: Attempts decides what is tried again.
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_retries": 0}
        return self._ray.remote(**options)(run_pack).remote(self._inputs, task)

    def _next(self, news: Any, is_overdue: bool) -> Answer | None:
        """The worker's answer, or None where its pack has just started."""
        try:
            return self._ray.get(next(news))  # type: ignore[no-any-return]  # of ``run_pack``
        except self._ray.exceptions.RayError as problem:
            cause = getattr(problem, "cause", None)
            if cause is not None and not isinstance(cause, self._ray.exceptions.RayError):
                # ``run_pack`` raises nothing, so it could not even begin.
                return EnvironmentProblem(f"a Ray worker can't run this: {cause!r}; {SAME_COMMIT}")
            if is_overdue:
                limit = f"execution.pack_timeout, {self._execution.pack_timeout:g} seconds"
                return Broken("timeout", f"not done after {limit}; its worker was killed")
            why = f"{type(problem).__name__}: {' '.join(str(problem).split())}"
            return Broken("killed", f"its Ray worker was lost: {why}")

    def _require_room(self) -> None:
        """Raise ``EnvironmentProblem`` where no machine is large enough for a pack."""
        cpus, gpus = self._cpus, self._gpus
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        if not any(one.get("CPU", 0) >= cpus and one.get("GPU", 0) >= gpus for one in machines):
            raise EnvironmentProblem(
                f"no machine of the Ray cluster has execution.ray_cpus = {cpus} CPUs and "
                f"{gpus:g} GPUs (execution.ray_gpu_share) for a pack; set smaller ones, "
                "or add machines, then run again to continue"
            )


_workspaces: dict[str, Workspace] = {}
"""A worker's, so that it reads tokens and encoder once."""


def run_pack(inputs: Inputs, task: Task) -> Generator[Answer | None]:
    """On a worker: yield None once all that the pack needs is there, then the answer."""
    import ray
    import torch

    set_up_libraries()
    torch.set_num_threads(inputs.study.execution.ray_cpus)
    key = digest(inputs.digests)
    try:
        if key not in _workspaces:
            _workspaces[key] = receive(inputs, ray.get)
        workspace = _workspaces[key]
        here = [
            workspace.run(run.role, run.name, run.settings, run.seed, run.nudge)
            for run in task.runs
        ]
        if here != list(task.runs):
            raise EnvironmentProblem(f"a Ray worker runs other code; {SAME_COMMIT}")
    except ReplicationError as problem:
        yield problem
        return
    yield None
    # A folder of this attempt alone: no lock to wait for, nothing left.
    with tempfile.TemporaryDirectory(prefix="lora-replication-") as folder:
        workspace.runs, workspace.state = Path(folder, "runs"), Path(folder, "state")
        try:
            outcome = attempt(workspace, task, lambda _run: nullcontext(SILENT))
        except GpuLost:
            os._exit(1)  # Ray starts a new worker, and the pack is tried again
        if isinstance(outcome, Broken | ReplicationError):
            yield outcome
        else:
            folders = [workspace.folder(run) for run in task.runs]
            yield [{file.name: file.read_bytes() for file in one.iterdir()} for one in folders]


def keep(workspace: Workspace, run: Run, files: Files, mirror: OpenMirror) -> Record:
    """Write what a worker returned, the record last. The first whole record of a run stays."""
    if record := workspace.done(run):
        print(f"{run.label} was recorded already; the second is dropped", file=sys.stderr)
        return record
    folder = workspace.folder(run)
    (folder / RECORD).unlink(missing_ok=True)  # a stale record must not be next to new predictions
    for name in (PREDICTIONS, ADAPTER, RECORD):
        if name in files:
            write_whole(folder / name, files[name])
    record = Record.from_json(files[RECORD], folder / RECORD)
    with mirror(run) as live:
        live.finish(folder, record)
    return record


def connect(execution: ExecutionParams) -> Any:
    """The package ray, connected to ``execution.ray_address``.

    Without an address Ray is started on this machine alone, on loopback, without dashboard.
    Raises ``EnvironmentProblem``.
    """
    address = execution.ray_address
    options: dict[str, Any] = {"address": address}
    if address is None:
        options = {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        if "RAY_AUTH_MODE" not in os.environ:  # nobody else on this machine may give it work
            os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        import ray  # it reads its variables now

        if address and ":" in address:  # Ray itself would wait for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        ray.init(**options, log_to_driver=False, logging_level="ERROR")
    except ImportError:
        raise EnvironmentProblem(
            "execution.executor is ray, but the package ray is not installed; "
            "run: pip install 'ray>=2.52', or set execution.executor to local"
        ) from None
    except (OSError, RuntimeError, ValueError, OverflowError) as problem:
        why = " ".join(str(problem).split())[:200]
        raise EnvironmentProblem(
            f"execution.ray_address is {address}: no Ray there ({why}); see docs/cluster.md"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, terminate)  # Ray takes it for itself
    return ray
