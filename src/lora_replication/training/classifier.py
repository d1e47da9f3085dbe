"""A classifier ready for one method: encoder loaded, head drawn, what trains switched on, LoRA in
place.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_replication.encoders import Encoder
from lora_replication.errors import DataError, EnvironmentProblem
from lora_replication.files import write_whole
from lora_replication.record import Settings
from lora_replication.training.batches import Batch
from lora_replication.training.forward import RaggedForward
from lora_replication.training.layouts import Layout
from lora_replication.training.load import load_classifier
from lora_replication.training.lora import inject_lora
from lora_replication.training.packs import shared_copy
from lora_replication.training.randomness import Dropout, generator

HEAD_SD = 0.02
"""Standard deviation of new head weights: DistilBERT's and BERT's ``initializer_range``."""

COMPUTE_TYPES = {"fp16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}

TOGETHER = {"cpu": 2, "cuda": 16}
"""Configurations of a pack that go through the encoder at once in 32 bits: each holds a GiB or so,
and few leave a GPU idle.
"""


class Classifier:
    """The model of one run, or of a pack: LoRA configurations that train together on one frozen
    encoder.

    Args:
        encoder: found and checked.
        settings: of the run.
        seed: names the draws of the head, of A and of dropout.
        company: settings of the further configurations of a pack; they differ from ``settings`` in
            ``lora`` alone.

    Attributes:
        models: for each configuration the classifier of ``transformers``; in a pack they share
            everything frozen.
        notes: for each configuration, things worth telling about it.
        device: where they are.
        active: places of the configurations that are computed, in this order.
        together: how many of them go through the encoder at once.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: Settings,
        seed: int,
        company: Sequence[Settings] = (),
    ) -> None:
        if company and any(
            other.lora is None or other.model_copy(update={"lora": settings.lora}) != settings
            for other in (settings, *company)
        ):
            raise ValueError("the configurations of a pack are LoRA's, and differ in nothing else")
        self.device = device_for(settings)
        self.settings = settings
        self.layout = encoder.layout
        model = load_classifier(encoder)
        _draw_head(model, self.layout, seed)
        model.to(self.device)
        self._dropouts = [Dropout(seed, "encoder", device=self.device)]
        pack = (settings, *company)
        self.models = [model] if len(pack) == 1 else [shared_copy(model) for _ in pack]
        self.notes = [
            switch_on(model, self.layout, each, seed, self._dropouts.append)
            for model, each in zip(self.models, pack, strict=True)
        ]
        self._hold_frozen_linears_in_compute_type()
        self.activate(range(len(pack)))

    def _hold_frozen_linears_in_compute_type(self) -> None:
        # Autocast would round them to it anew in every step, with the same bits and for a tenth of
        # the step's time. The head is too small for that to matter, and is saved with the adapter,
        # so it stays as it was drawn.
        compute_type = COMPUTE_TYPES.get(self.settings.precision)
        for name, module in self.models[0].named_modules():
            frozen = isinstance(module, nn.Linear) and not module.weight.requires_grad
            if compute_type and frozen and name.startswith(f"{self.layout.layers}."):
                module.to(compute_type)

    def activate(self, active: Sequence[int]) -> None:
        """Compute these configurations of the pack, in this order, and leave the others as they
        are.
        """
        self.active = list(active)
        models = [self.models[place] for place in self.active]
        self.together = min(most_together(self.settings), len(models))
        self._forwards = [
            RaggedForward(
                models[start : start + self.together],
                self.layout,
                self._dropouts[0],
                COMPUTE_TYPES.get(self.settings.precision),
            )
            for start in range(0, len(models), self.together)
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
        """Logits (configurations, reviews, 2) in float32, computed in the precision of the run, by
        as many configurations as go at once.
        """
        masks = self._dropouts[0].position()
        for forward in self._forwards:
            self._dropouts[0].return_to(masks)
            with autocast_for(self.settings, self.device):
                logits = forward(batch).float()
            yield logits

    def logits(self, batch: Batch) -> Tensor:
        """(active configurations, reviews, 2), see ``parts``."""
        return torch.cat(list(self.parts(batch)))

    def trainable(self, place: int = 0) -> dict[str, nn.Parameter]:
        """The parameters of a configuration that train, by name."""
        return {
            name: parameter
            for name, parameter in self.models[place].named_parameters()
            if parameter.requires_grad
        }

    def parameter_counts(self, place: int = 0) -> tuple[int, int]:
        """(trainable, total) numbers of scalars of a configuration; for LoRA the total includes the
        low-rank terms.
        """
        return sum(p.numel() for p in self.trainable(place).values()), sum(
            p.numel() for p in self.models[place].parameters()
        )

    def _adapter(self, place: int) -> Iterator[tuple[str, nn.Parameter]]:
        head = (self.layout.head_hidden, self.layout.head_output)
        return (
            (name, p)
            for name, p in self.models[place].named_parameters()
            if p.requires_grad or name.startswith(head)
        )

    def save_adapter(self, file: Path, place: int = 0) -> None:
        """Write what training made of a configuration, and the head, as safetensors; with the
        encoder this is the whole classifier.
        """
        tensors = {
            name: parameter.detach().cpu().contiguous() for name, parameter in self._adapter(place)
        }
        write_whole(file, lambda temporary: save_file(tensors, temporary))

    @torch.no_grad()
    def load_adapter(self, file: Path) -> None:
        """Read back what ``save_adapter`` wrote for the same settings. Raises ``DataError`` where
        it does not fit.
        """
        expected = dict(self._adapter(0))
        try:
            with safe_open(file, "pt") as stored:
                tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118  # not a dict
        except (SafetensorError, OSError) as problem:
            raise DataError(
                f"{file}: not a whole safetensors file ({problem}); train the run again"
            ) from None
        wrong = [
            n
            for n in sorted(tensors.keys() | expected.keys())
            if n not in tensors or n not in expected or tensors[n].shape != expected[n].shape
        ]
        if wrong:
            raise DataError(f"{file} does not fit the run's settings: {', '.join(wrong[:5])}")
        for name, parameter in expected.items():
            parameter.copy_(tensors[name])


def most_together(settings: Settings) -> int:
    """How many configurations of a pack go through the encoder at once, those that have the
    activations of ``TOGETHER`` in 32 bits.
    """
    return TOGETHER[settings.device] * (2 if settings.precision in COMPUTE_TYPES else 1)


def switch_on(
    model: nn.Module,
    layout: Layout,
    settings: Settings,
    seed: int,
    keep: Callable[[Dropout], None],
) -> list[str]:
    """Make trainable what the settings say, in place: the head, low-rank terms beside frozen
    linears, or everything.

    Args:
        keep: is given each dropout stream made for a low-rank term.

    Returns:
        Notes, see ``inject_lora``.
    """
    model.requires_grad_(settings.trains == "all")
    if settings.trains == "head":
        for name in (layout.head_hidden, layout.head_output):
            model.get_submodule(name).requires_grad_(True)
    lora = settings.lora
    if lora is None:
        return []
    depth = int(getattr(model.config, layout.depth))
    sites = [name for target in lora.targets for name in layout.linears(target, depth)]

    def dropout_of(name: str) -> Callable[[Tensor], Tensor]:
        dropout = Dropout(seed, "lora", name, device=next(model.parameters()).device)
        keep(dropout)
        return partial(dropout, probability=lora.dropout)

    return inject_lora(model, sites, lora, lambda name: generator(seed, "A", name), dropout_of)


def device_for(settings: Settings) -> torch.device:
    """The device that the settings ask for, set up to compute the same twice.

    Raises:
        EnvironmentProblem: it is not there; nothing falls back silently.
    """
    os.environ.setdefault(
        "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
    )  # read when cuBLAS starts; without it, deterministic products are refused
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem(
            "train.device is cuda, but torch sees no GPU here; set train.device to cpu, or run on a machine with one"
        )
    return torch.device(settings.device)


def autocast_for(settings: Settings, device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision as the settings ask for it."""
    return (
        torch.autocast(device.type, COMPUTE_TYPES[settings.precision])
        if settings.precision in COMPUTE_TYPES
        else nullcontext()
    )


@torch.no_grad()
def _draw_head(model: nn.Module, layout: Layout, seed: int) -> None:
    for name in (layout.head_hidden, layout.head_output):
        weight, bias = model.get_parameter(f"{name}.weight"), model.get_parameter(f"{name}.bias")
        weight.copy_(torch.randn(weight.shape, generator=generator(seed, "head", name)) * HEAD_SD)
        bias.zero_()
