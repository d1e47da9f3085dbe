"""Which configurations train together, and how many."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from lora_replication.allowed import TARGETS
from lora_replication.record import Run
from lora_replication.study import LoraParams
from lora_replication.workspace import Workspace

LARGEST = {"cpu": 8, "cuda": 32}
"""Configurations of a pack whose size is chosen here; more at once are no faster."""

CPU_BUDGET = 4 * 2**30
"""Bytes of a pack's activations on a CPU, however much memory there is."""


def packs_of(runs: Sequence[Run], size: int) -> list[list[Run]]:
    """Sort ``runs`` into packs of at most ``size``, nearly equally large; what trains in no pack is
    alone, at the end.

    Neighbours in a pack adapt the same linears, with similar ranks: what one of them lacks is
    computed for it all the same.
    """

    def likeness(run: Run) -> tuple[list[bool], int, float, float]:
        lora = _lora(run)
        targets = [target in lora.targets for target in TARGETS]
        return targets, lora.rank, lora.alpha, run.settings.learning_rate

    from lora_replication.training.methods.registry import shared_in_pack  # torch takes seconds

    groups: dict[tuple[int, str | None], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.seed, shared_in_pack(run.settings)), []).append(run)
    packs, alone = [], []
    for (_, shared), group in groups.items():
        if shared is None:
            alone += [[run] for run in group]
            continue
        ordered, count = sorted(group, key=likeness), -(-len(group) // size)
        bounds = [len(group) * place // count for place in range(count + 1)]
        packs += [ordered[start:end] for start, end in pairwise(bounds)]
    return packs + alone


def pack_size(workspace: Workspace, runs: Sequence[Run]) -> int:
    """How many of ``runs`` train together: ``execution.pack``, or as many as memory holds, measured
    on the largest of them and the longest reviews; 1 where none trains in a pack.

    What a training step keeps for its gradients is counted; half as much again is allowed for what
    comes and goes in it.
    """
    if pack := workspace.study.execution.pack:
        return pack
    import torch

    from lora_replication.training.batches import collate
    from lora_replication.training.classifier import Classifier, chunk_size
    from lora_replication.training.methods.registry import shared_in_pack

    runs = [run for run in runs if shared_in_pack(run.settings)]
    if not runs:
        return 1
    largest = max(runs, key=lambda run: (len(_lora(run).targets), _lora(run).rank))
    settings = largest.settings
    tokens = workspace.tokens["train"]
    cuda = workspace.study.execution.cuda
    classifier = Classifier(workspace.encoder, settings, largest.seed, cuda=cuda)
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
    fitting = int(free_bytes(settings.device) / each)
    # Those that wait for their turn in the encoder hold next to nothing.
    most = LARGEST[settings.device] if fitting >= chunk_size(settings) else max(1, fitting)
    return min(most, len(runs))


def _lora(run: Run) -> LoraParams:
    if run.settings.lora is None:
        raise ValueError(f"{run.label} has no LoRA configuration, so it trains in no pack")
    return run.settings.lora


def free_bytes(device: str) -> int:
    """Memory that a pack may take."""
    import psutil
    import torch

    if device == "cuda":
        return int(0.8 * torch.cuda.mem_get_info()[0])
    return int(min(CPU_BUDGET, 0.5 * psutil.virtual_memory().available))
