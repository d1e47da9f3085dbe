"""Which configurations train together, and how many."""

from collections.abc import Sequence

import numpy as np

from lora_replication import machine
from lora_replication.record import Run
from lora_replication.study import TARGETS, ExecutionParams
from lora_replication.workspace import Workspace

LARGEST = {"cpu": 8, "cuda": 32}
"""Configurations of a pack whose size is chosen here; more at once are no faster."""

CPU_BUDGET = 4 * 2**30
"""Bytes of a pack's activations on a CPU, however much memory there is."""


def packs_of(runs: Sequence[Run], size: int) -> list[list[Run]]:
    """Sort ``runs`` into as few packs as ``size`` allows, nearly equally large, of one seed each.

    Neighbours in a pack adapt the same linears, with similar ranks: what one of them lacks is
    computed for it all the same.
    """
    packs = []
    for seed in dict.fromkeys(run.seed for run in runs):
        ordered = sorted((run for run in runs if run.seed == seed), key=_likeness)
        parts = np.array_split(np.arange(len(ordered)), -(-len(ordered) // size))
        packs += [[ordered[place] for place in part] for part in parts]
    return packs


def _likeness(run: Run) -> tuple[tuple[bool, ...], int, float]:
    lora = run.settings.lora
    if lora is None:
        raise ValueError(f"{run.label} has no LoRA configuration, so it trains in no pack")
    return tuple(target in lora.targets for target in TARGETS), lora.rank, lora.alpha


def pack_size(workspace: Workspace, runs: Sequence[Run]) -> int:
    """How many of ``runs`` train together: ``execution.pack``, or as many as memory holds."""
    if workspace.study.execution.pack:
        return workspace.study.execution.pack
    size = measured_size(workspace, runs)
    if workspace.study.train.device == "cuda":
        import torch

        torch.cuda.empty_cache()  # what was measured with must not stay next to other processes
    return size


def measured_size(workspace: Workspace, runs: Sequence[Run]) -> int:
    """As many of ``runs`` as memory holds, measured on the largest of them and the longest reviews.

    What a training step keeps for its gradients is counted; half as much again is allowed for what
    comes and goes in it.
    """
    import torch

    from lora_replication.training.batches import collate
    from lora_replication.training.classifier import Classifier, most_together

    largest = max(runs, key=_width)
    settings = largest.settings
    tokens = workspace.tokens["train"]
    classifier = Classifier(workspace.encoder, settings, largest.seed)
    classifier.start_epoch(1)
    longest = np.argsort(tokens.lengths)[-settings.batch_size :]
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = classifier.logits(collate(tokens, longest, classifier.device))
    own = {p.untyped_storage().data_ptr() for p in classifier.models[0].parameters()}
    each = 1.5 * sum(size for place, size in kept.items() if place not in own)
    del logits
    fitting = int(_free_bytes(workspace.study.execution, settings.device) / each)
    # Those that wait for their turn in the encoder hold next to nothing.
    most = LARGEST[settings.device] if fitting >= most_together(settings) else max(1, fitting)
    return min(most, len(runs))


def _width(run: Run) -> tuple[int, int]:
    lora = run.settings.lora
    return (len(lora.targets), lora.rank) if lora else (0, 0)


def _packs_at_once(execution: ExecutionParams, device: str) -> float:
    """How many packs are in the same memory at a time: that of a GPU, or of the machine."""
    if execution.executor == "local":
        return 1
    if device == "cuda":
        return 1 / execution.ray_gpu_share
    return max(1, machine.cores() // execution.ray_cpus)


def _free_bytes(execution: ExecutionParams, device: str) -> int:
    """Bytes that a pack may take."""
    import psutil
    import torch

    packs = _packs_at_once(execution, device)
    if device == "cuda":
        return int(0.8 * torch.cuda.mem_get_info()[0] / packs)
    return int(min(CPU_BUDGET, 0.5 * psutil.virtual_memory().available / packs))
