"""Which configurations train together, and how many."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lora_replication import machine
from lora_replication.jobs import Job
from lora_replication.methods import RunSettings
from lora_replication.params import TARGETS, GridParams

if TYPE_CHECKING:
    from lora_replication.runs import Bench

LARGEST = {"cpu": 8, "cuda": 32}
"""Configurations of a pack whose size is chosen here: with more, the passes over the encoder are no faster."""

CPU_BUDGET = 4 * 2**30
"""Bytes of a pack's activations on a CPU, however much memory there is."""


def packs_of(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Sort ``jobs`` into as few packs as ``size`` allows, nearly equally large; all in a pack have the same seed.

    Neighbours in a pack adapt the same linears, with similar ranks: what one of them lacks is computed for it all the same.
    """
    packs = []
    for seed in dict.fromkeys(job.seed for job in jobs):
        ordered = sorted((job for job in jobs if job.seed == seed), key=_likeness)
        parts = np.array_split(np.arange(len(ordered)), -(-len(ordered) // size))
        packs += [[ordered[place] for place in part] for part in parts]
    return packs


def _likeness(job: Job) -> tuple[tuple[bool, ...], int, float]:
    lora = job.settings.lora
    if lora is None:
        raise ValueError(f"{job.label} has no LoRA configuration, so it trains in no pack")
    return tuple(target in lora.targets for target in TARGETS), lora.rank, lora.alpha


def pack_size(bench: "Bench", jobs: Sequence[Job]) -> int:
    """How many of ``jobs`` train together: ``grid.pack`` of the study, or as many as memory holds where that is null."""
    if bench.study.grid.pack:
        return bench.study.grid.pack
    size = measured_size(bench, jobs)
    if bench.study.train.device == "cuda":
        import torch

        torch.cuda.empty_cache()  # what was measured with must not stay beside the packs of other processes
    return size


def measured_size(bench: "Bench", jobs: Sequence[Job]) -> int:
    """How many of ``jobs`` train together: as many as memory holds, measured on the largest of them and the longest reviews.

    What a training step keeps for its gradients is counted; half as much again is allowed for what comes and goes in it.
    """
    import torch

    from lora_replication.classifier import Classifier, most_together
    from lora_replication.data.batches import collate

    largest = max(jobs, key=_width)
    settings = largest.settings
    tokens = bench.tokens["train"]
    classifier = Classifier(bench.encoder, settings, largest.seed)
    classifier.start_epoch(1)
    longest = np.argsort(tokens.lengths)[-settings.batch_size :]
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = classifier.logits(collate(tokens, longest, classifier.device))
    own = {parameter.untyped_storage().data_ptr() for parameter in classifier.models[0].parameters()}
    each = 1.5 * sum(size for place, size in kept.items() if place not in own)
    del logits
    fitting = int(_free_bytes(bench.study.grid, settings.device) / each)
    # Those that wait for their turn in the encoder hold next to nothing.
    return min(LARGEST[settings.device], len(jobs)) if fitting >= most_together(settings) else max(1, min(fitting, len(jobs)))


def _width(job: Job) -> tuple[int, int]:
    settings: RunSettings = job.settings
    return (len(settings.lora.targets), settings.lora.rank) if settings.lora else (0, 0)


def _packs_at_once(grid: GridParams, device: str) -> float:
    """How many packs are in the same memory at a time: that of a GPU, or of the machine."""
    if grid.executor == "here":
        return 1
    if device == "cuda":
        import torch

        return 1 / grid.ray_gpu_share if grid.executor == "ray" else math.ceil(grid.workers / max(1, torch.cuda.device_count()))
    return grid.workers if grid.executor == "processes" else max(1, machine.cores() // grid.ray_cpus)


def _free_bytes(grid: GridParams, device: str) -> int:
    """What a pack may take."""
    import psutil
    import torch

    packs = _packs_at_once(grid, device)
    if device == "cuda":
        return int(0.8 * torch.cuda.mem_get_info()[0] / packs)
    return int(min(CPU_BUDGET, 0.5 * psutil.virtual_memory().available / packs))
