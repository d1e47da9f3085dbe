"""Where the packs of a sweep run: in this process, in several processes on this machine, or on Ray.

Each executor takes packs and gives each configuration with its record as soon as that is in the ledger. They differ in nothing
else: what becomes of a pack that fails is decided in ``attempts``, in the same way for all.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager

from lora_replication.grid.sweep import Executor
from lora_replication.records import Asked
from lora_replication.runs import Bench, Mirror


def open_executor(bench: Bench, mirror: Callable[[Asked], AbstractContextManager[Mirror]]) -> AbstractContextManager[Executor]:
    """The executor that ``grid.executor`` of the bench's study names; leaving it ends all that it started, finished or not.

    Args:
        mirror: opens what is told of a run; it must be picklable for processes, where it is opened in them.
    """
    from lora_replication.grid.executors.here import here
    from lora_replication.grid.executors.on_ray import on_ray
    from lora_replication.grid.executors.workers import processes

    return {"here": here, "processes": processes, "ray": on_ray}[bench.study.grid.executor](bench, mirror)
