"""A classifier ready for one method: encoder loaded, head drawn, what it adds, the rest frozen."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lora_replication.encoders import Encoder
from lora_replication.errors import EnvironmentProblem, ParameterError
from lora_replication.files import write_whole
from lora_replication.record import Settings
from lora_replication.study import PLAIN, CudaParams
from lora_replication.training.batches import Batch
from lora_replication.training.forward import RaggedForward
from lora_replication.training.graphs import Replays
from lora_replication.training.layouts import Layout
from lora_replication.training.load import check_fit, load_classifier, read_tensors
from lora_replication.training.methods import LowRank, Method, Site, replace
from lora_replication.training.methods.registry import blamed, method_of, place_of, shared_in_pack
from lora_replication.training.packs import shared_copy
from lora_replication.training.randomness import DefaultStream, Dropout, generator

HEAD_SD = 0.02
"""Standard deviation of new head weights: DistilBERT's and BERT's ``initializer_range``."""

COMPUTE_TYPES = {"fp16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}

CHUNK_SIZES = {"cpu": 2, "cuda": 16}
"""Configurations in one forward pass in 32 bits: each takes about a GiB, few leave a GPU idle."""


class Classifier:
    """The model of a run, or of a pack: configurations that train together on one encoder.

    Args:
        encoder: found and checked.
        settings: of the run.
        seed: names the draws of the head, of A and of dropout.
        others: settings of the further configurations of a pack; they may differ in the method and
            ``lora``, but for its dropout, and in ``learning_rate``.
        cuda: paths of CUDA's own; on a CPU all but ``ragged_evaluation`` work too, for tests.

    Attributes:
        pack: per configuration its settings; ``settings``: those of the first.
        models: per configuration its layers, named as in ``transformers``; in a pack they share
            everything frozen.
        notes: per configuration, see ``make_trainable``.
        device: where the models are.
        active: indices of the configurations that are computed, in this order.
        chunk_size: how many of them are in one forward pass.
        replays: of training steps, where they are to be replayed.
    """

    def __init__(
        self,
        encoder: Encoder,
        settings: Settings,
        seed: int,
        others: Sequence[Settings] = (),
        cuda: CudaParams = PLAIN,
    ) -> None:
        self.pack = pack = (settings, *others)
        shared = {shared_in_pack(own) for own in pack}
        if others and (None in shared or len(shared) > 1):
            raise ValueError(
                "what trains in a pack has low-rank terms, and differs in nothing else"
            )
        self.settings, self.layout = settings, encoder.layout
        self.device = device_for(settings)
        model = load_classifier(encoder, len(settings.classes))
        _draw_head(model, self.layout, seed)
        model.to(self.device)
        self._dropouts = [Dropout(seed, "encoder", device=self.device)]
        self.cuda = cuda
        self._fused = DefaultStream(seed, self.device) if cuda.fused_attention else None
        alone, layout = len(pack) == 1, self.layout
        self.models = [model if alone else shared_copy(model, trained(own, layout)) for own in pack]
        self.notes = [
            make_trainable(model, self.layout, own, seed, self._dropouts.append)
            for model, own in zip(self.models, pack, strict=True)
        ]
        self._round_frozen_linears()
        # For each configuration fused kernels draw the masks again, which no graph can.
        captured = self.device.type == "cuda" and (alone or not cuda.fused_attention)
        self.replays = Replays(self._dropouts, captured=captured) if cuda.graphs else None
        self.activate(range(len(pack)))

    def _round_frozen_linears(self) -> None:
        # Autocast would round them in every step, to the same bits, for a tenth of the step's time.
        # The head is too small for that to matter, and is saved with the adapter as it was drawn.
        compute_type = COMPUTE_TYPES.get(self.settings.precision)
        for name, module in self.models[0].named_modules():
            if not (compute_type and name.startswith(f"{self.layout.layers}.")):
                continue
            for parameter in module.parameters() if isinstance(module, nn.Linear) else ():
                if not (parameter.requires_grad or module.weight.requires_grad):
                    parameter.data = parameter.to(compute_type)

    def activate(self, active: Sequence[int]) -> None:
        """Compute these configurations of the pack, in this order, and leave the others alone."""
        self.active = list(active)
        models = [self.models[index] for index in self.active]
        compute_type = COMPUTE_TYPES.get(self.settings.precision)
        self.chunk_size = size = min(chunk_size(self.settings), len(models))
        self._forwards = [
            RaggedForward(
                models[i : i + size],
                self.layout,
                self._dropouts[0],
                compute_type,
                self._fused,
                ragged_evaluation=self.cuda.ragged_evaluation,
            )
            for i in range(0, len(models), size)
        ]

    def start_epoch(self, epoch: int) -> None:
        """Switch dropout on, with the masks of this epoch."""
        for dropout in self._dropouts:
            dropout.start_epoch(epoch)
        if self._fused:
            self._fused.start_epoch(epoch)

    def start_step(self) -> None:
        """Go to the masks of the next training step, where they are named by steps."""
        if self._fused:
            self._fused.start_step()

    def stop_dropout(self) -> None:
        """Switch dropout off, for evaluation."""
        for dropout in self._dropouts:
            dropout.active = False

    def parts(self, batch: Batch) -> Iterator[Tensor]:
        """Logits (configurations, reviews, classes) in float32, of one chunk after another."""
        streams: list[Any] = [self._dropouts[0].bits, *([self._fused] if self._fused else [])]
        shared = [(own, own.position()) for own in streams if len(self._forwards) > 1]
        for forward in self._forwards:
            for own, start in shared:
                own.return_to(start)
            with autocast_for(self.settings, self.device):
                logits = forward(batch).float()
            yield logits

    def logits(self, batch: Batch) -> Tensor:
        """(active configurations, reviews, classes), see ``parts``."""
        return torch.cat(list(self.parts(batch)))

    def trainable(self, index: int = 0) -> dict[str, nn.Parameter]:
        """The parameters of a configuration that train, by name."""
        return {name: p for name, p in self.models[index].named_parameters() if p.requires_grad}

    def parameter_counts(self, index: int = 0) -> tuple[int, int]:
        """(trainable, total) numbers of scalars of a configuration, LoRA's included in both."""
        trainable = sum(p.numel() for p in self.trainable(index).values())
        return trainable, sum(p.numel() for p in self.models[index].parameters())

    def adapter(self, index: int = 0) -> dict[str, Tensor]:
        """A configuration's trained parameters, buffers and head, by name."""
        model, head = self.models[index], self.layout.head
        trained = [n for n, p in model.named_parameters() if p.requires_grad or n.startswith(head)]
        frozen = dict(model.named_parameters()).keys() - trained
        return {name: t for name, t in model.state_dict().items() if name not in frozen}

    def save_adapter(
        self, file: Path, index: int = 0, metadata: dict[str, str] | None = None
    ) -> None:
        """Write a configuration's trained parameters, buffers and head as safetensors."""
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


def trained(settings: Settings, layout: Layout) -> Callable[[str], bool]:
    """Whether a parameter of the classifier, by its name, trains with these settings."""
    method, head = method_of(settings), tuple(f"{name}." for name in layout.head)

    def trains(name: str) -> bool:
        in_head = name.startswith(head)
        with blamed(method.file, "trains"):
            own = method.trains(name, in_head)
        if own and method.packs and not in_head:
            raise _unfit(method, f"trains {name}; what packs trains the head and what it adds")
        return own or (settings.train_head and in_head)

    return trains


def make_trainable(
    model: nn.Module, layout: Layout, settings: Settings, seed: int, keep: Callable[[Dropout], None]
) -> list[str]:
    """Add to ``model``, in place, what the method adds, and let train what it trains.

    Args:
        keep: receives the dropout of each term that is added.

    Returns:
        Notes: on layers whose smaller side is below the rank, and whether the start is not the
        encoder's.

    Raises:
        ParameterError: the method does not do what a method does.
    """
    method, lora, trains = method_of(settings), settings.lora, trained(settings, layout)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains(name))
    device, depth = next(model.parameters()).device, int(getattr(model.config, layout.depth))
    names = [name for target in method.targets for name in layout.linears(target, depth)]
    linears: dict[str, Any] = {name: model.get_submodule(name) for name in names}
    notes: dict[str, None] = {}
    for name, linear in linears.items():
        dropout = None
        if lora and lora.dropout:
            keep(own := Dropout(seed, "lora", name, device=device))
            dropout = partial(own, probability=lora.dropout)
        module = _stand_in(method, Site(linear, name, layout.role(name), linears, seed, dropout))
        if module is None:
            continue
        side = min(linear.in_features, linear.out_features)
        if lora and lora.rank > side:
            notes[f"rank {lora.rank} exceeds the smaller side of {name} ({side})"] = None
        replace(model, name, module.to(device))
        if not (linear.weight.is_meta or _keeps_the_start(method, module, linear)):
            notes[f"{method.words}: the model before training is not the encoder's"] = None
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise _unfit(method, "trains nothing")
    return list(notes)


def _stand_in(method: Method, site: Site) -> nn.Module | None:
    """What the method puts in the place of a layer, checked; of a user's file, made twice."""
    with blamed(method.file, "stand_in"):
        module, again = method.stand_in(site), method.stand_in(site) if method.file else None
    if module is None:
        return None
    if not (isinstance(module, nn.Module) and hasattr(module, "merged")):
        raise _unfit(method, "stand_in returns no nn.Module with a method merged")
    if method.packs and not isinstance(module, LowRank):
        raise _unfit(method, "packs is true, but stand_in returns no LowRank")
    pairs = zip(_tensors(module), _tensors(again), strict=True) if again is not None else ()
    if not all(torch.equal(one, other) for one, other in pairs):
        raise _unfit(
            method,
            "stand_in gives two builds of one seed that differ; draw from site.draw(purpose)",
        )
    return module


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


@torch.no_grad()
def _keeps_the_start(method: Method, module: nn.Module, linear: nn.Linear) -> bool:
    """Whether ``module`` computes what ``linear`` does, to rounding."""
    x = torch.linspace(-1, 1, linear.in_features, device=linear.weight.device)[None]
    before = torch.get_rng_state()
    with blamed(method.file, "forward"):
        expected, found = linear(x), module(x)
        plain: nn.Linear = module.merged()  # type: ignore[operator]  # as was checked
        merged = plain(x)
    if method.file and not before.equal(torch.get_rng_state()):
        raise _unfit(method, "forward draws unnamed random numbers; draw from site.draw(purpose)")
    for name, own in (("forward", found), ("merged", merged)):
        if own.shape != expected.shape:
            shapes = f"{tuple(own.shape)}, not {tuple(expected.shape)}"
            raise _unfit(method, f"{name} returns {shapes}, for inputs {tuple(x.shape)}")
    if not torch.allclose(found, merged, rtol=1e-4, atol=1e-4 * float(expected.abs().max())):
        raise _unfit(method, "merged computes something else than forward")
    return torch.allclose(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def _unfit(method: Method, words: str) -> ParameterError:
    return ParameterError(f"{place_of(type(method), words.partition(' ')[0])}: {words}")


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
