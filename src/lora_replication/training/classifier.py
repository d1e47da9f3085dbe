"""A classifier ready for one method: encoder loaded, head drawn, LoRA added, the rest frozen."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_replication.encoders import Encoder
from lora_replication.errors import EnvironmentProblem
from lora_replication.files import write_whole
from lora_replication.record import Settings
from lora_replication.training.batches import Batch
from lora_replication.training.forward import RaggedForward
from lora_replication.training.layouts import Layout
from lora_replication.training.load import check_fit, load_classifier, read_tensors
from lora_replication.training.lora import inject_lora
from lora_replication.training.packs import shared_copy
from lora_replication.training.randomness import Dropout, generator

HEAD_SD = 0.02
"""Standard deviation of new head weights: DistilBERT's and BERT's ``initializer_range``."""

COMPUTE_TYPES = {"fp16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}

CHUNK_SIZES = {"cpu": 2, "cuda": 16}
"""Configurations in one forward pass in 32 bits: each takes about a GiB, few leave a GPU idle."""


class Classifier:
    """The model of a run, or of a pack: LoRA configurations that train together on one encoder.

    Args:
        encoder: found and checked.
        settings: of the run.
        seed: names the draws of the head, of A and of dropout.
        others: settings of the further configurations of a pack; they may differ in ``lora``, but
            for its dropout, and in ``learning_rate``.
        load: ``load_classifier``, or ``load_layers`` to be fast.

    Attributes:
        pack: per configuration its settings; ``settings``: those of the first.
        models: per configuration the classifier of ``transformers``; in a pack they share
            everything frozen.
        notes: per configuration, see ``inject_lora``.
        device: where the models are.
        active: indices of the configurations that are computed, in this order.
        chunk_size: how many of them are in one forward pass.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: Settings,
        seed: int,
        others: Sequence[Settings] = (),
        load: Callable[[Encoder], nn.Module] = load_classifier,
    ) -> None:
        self.pack = pack = (settings, *others)
        shared = {own.shared_in_pack for own in pack}
        if others and (None in shared or len(shared) > 1):
            raise ValueError("the configurations of a pack are LoRA's, and differ in nothing else")
        self.settings, self.layout = settings, encoder.layout
        self.device = device_for(settings)
        model = load(encoder)
        _draw_head(model, self.layout, seed)
        model.to(self.device)
        self._dropouts = [Dropout(seed, "encoder", device=self.device)]
        self.models = [model] if len(pack) == 1 else [shared_copy(model) for _ in pack]
        self.notes = [
            make_trainable(model, self.layout, own, seed, self._dropouts.append)
            for model, own in zip(self.models, pack, strict=True)
        ]
        self._round_frozen_linears()
        self.activate(range(len(pack)))

    def _round_frozen_linears(self) -> None:
        # Autocast would round them in every step, to the same bits, for a tenth of the step's time.
        # The head is too small for that to matter, and is saved with the adapter as it was drawn.
        compute_type = COMPUTE_TYPES.get(self.settings.precision)
        for name, module in self.models[0].named_modules():
            frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad
            if compute_type and frozen and name.startswith(f"{self.layout.layers}."):
                module.to(compute_type)

    def activate(self, active: Sequence[int]) -> None:
        """Compute these configurations of the pack, in this order, and leave the others alone."""
        self.active = list(active)
        models = [self.models[index] for index in self.active]
        compute_type = COMPUTE_TYPES.get(self.settings.precision)
        self.chunk_size = size = min(chunk_size(self.settings), len(models))
        self._forwards = [
            RaggedForward(models[i : i + size], self.layout, self._dropouts[0], compute_type)
            for i in range(0, len(models), size)
        ]

    def start_epoch(self, epoch: int) -> None:
        """Switch dropout on, with the masks of this epoch."""
        for dropout in self._dropouts:
            dropout.start_epoch(epoch)

    def stop_dropout(self) -> None:
        """Switch dropout off, for evaluation."""
        for dropout in self._dropouts:
            dropout.active = False

    def parts(self, batch: Batch) -> Iterator[Tensor]:
        """Logits (configurations, reviews, 2) in float32, of one chunk after another."""
        bits = self._dropouts[0].bits
        start = bits.position()
        for forward in self._forwards:
            bits.return_to(start)
            with autocast_for(self.settings, self.device):
                logits = forward(batch).float()
            yield logits

    def logits(self, batch: Batch) -> Tensor:
        """(active configurations, reviews, 2), see ``parts``."""
        return torch.cat(list(self.parts(batch)))

    def trainable(self, index: int = 0) -> dict[str, nn.Parameter]:
        """The parameters of a configuration that train, by name."""
        return {name: p for name, p in self.models[index].named_parameters() if p.requires_grad}

    def parameter_counts(self, index: int = 0) -> tuple[int, int]:
        """(trainable, total) numbers of scalars of a configuration, LoRA's included in both."""
        trainable = sum(p.numel() for p in self.trainable(index).values())
        return trainable, sum(p.numel() for p in self.models[index].parameters())

    def adapter(self, index: int = 0) -> dict[str, Tensor]:
        """A configuration's trained parameters and its head, by name."""
        return {
            name: p.detach()
            for name, p in self.models[index].named_parameters()
            if p.requires_grad or name.startswith(self.layout.head)
        }

    def save_adapter(
        self, file: Path, index: int = 0, metadata: dict[str, str] | None = None
    ) -> None:
        """Write a configuration's trained parameters and its head as safetensors."""
        tensors = {name: tensor.cpu().contiguous() for name, tensor in self.adapter(index).items()}
        write_whole(file, lambda temporary: save_file(tensors, temporary, metadata))

    def load_adapter(self, file: Path) -> None:
        """Read back what ``save_adapter`` wrote for the same settings; else ``DataError``."""
        self.fill(read_tensors(file, "train the run again"), file)

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, Tensor], file: Path) -> None:
        """Take an adapter's ``tensors``, read from ``file``; ``DataError`` unless they fit."""
        expected = self.adapter(0)
        check_fit(tensors, expected, f"{file} does not fit the run's settings")
        for name, parameter in expected.items():
            parameter.copy_(tensors[name])


def chunk_size(settings: Settings) -> int:
    """Configurations in one forward pass: in 16 bits twice ``CHUNK_SIZES`` take the same memory."""
    return CHUNK_SIZES[settings.device] * (2 if settings.precision in COMPUTE_TYPES else 1)


def make_trainable(
    model: nn.Module,
    layout: Layout,
    settings: Settings,
    seed: int,
    keep: Callable[[Dropout], None],
) -> list[str]:
    """Make trainable, in place, what the settings say: the head, low-rank terms, or everything.

    Args:
        keep: receives the dropout of each low-rank term.

    Returns:
        Notes, see ``inject_lora``.
    """
    model.requires_grad_(settings.trains == "all")
    if settings.trains == "head":
        for name in layout.head:
            model.get_submodule(name).requires_grad_(True)
    lora = settings.lora
    if lora is None:
        return []
    depth = int(getattr(model.config, layout.depth))
    names = [name for target in lora.targets for name in layout.linears(target, depth)]

    def dropout_of(name: str) -> Callable[[Tensor], Tensor]:
        dropout = Dropout(seed, "lora", name, device=next(model.parameters()).device)
        keep(dropout)
        return partial(dropout, probability=lora.dropout)

    return inject_lora(model, names, lora, partial(generator, seed, "A"), dropout_of)


def device_for(settings: Settings) -> torch.device:
    """The device of the settings. Raises ``EnvironmentProblem``: nothing falls back silently."""
    # Read when cuBLAS starts; without it, deterministic products are refused.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem(
            "train.device is cuda, but torch sees no GPU here; "
            "set train.device to cpu, or run on a machine with one"
        )
    return torch.device(settings.device)


def autocast_for(settings: Settings, device: torch.device) -> AbstractContextManager[object]:
    """The mixed precision of the settings."""
    compute_type = COMPUTE_TYPES.get(settings.precision)
    return torch.autocast(device.type, compute_type) if compute_type else nullcontext()


@torch.no_grad()
def _draw_head(model: nn.Module, layout: Layout, seed: int) -> None:
    for name in layout.head:
        weight, bias = model.get_parameter(f"{name}.weight"), model.get_parameter(f"{name}.bias")
        weight.copy_(torch.randn(weight.shape, generator=generator(seed, "head", name)) * HEAD_SD)
        bias.zero_()
