"""Adapters in the form of Hugging Face PEFT, both ways; PEFT itself is not needed.

What a method is in PEFT stands here once. LoRA is LoRA, of ``lora_alpha`` s times rank. The last
layers alone are a ``LORA`` that targets nothing and saves two modules. Full training is no adapter.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from lora_replication.adapter import Base, Description, read_description
from lora_replication.allowed import TARGETS, Dropout, Rank
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError, ParameterError
from lora_replication.pins import PINS
from lora_replication.predict import Trained
from lora_replication.record import Settings
from lora_replication.study import LoraParams, ModelParams
from lora_replication.training.load import read_encoder, read_tensors
from lora_replication.training.methods.lora import scale_of

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"

MOST_BYTES = {CONFIG: 2**20, WEIGHTS: 2**30}
"""PEFT's have a few thousand, and a few million."""

NOTHING = "dummy-target-modules"
"""PEFT's word for no layer."""

PREFIX = "base_model.model."
RENAMED = (
    (".lora.A", ".lora_A.weight"),
    (".lora.B", ".lora_B.weight"),
    (".linear.", ".base_layer."),
)
"""Parts of names here and in PEFT, where A and B are transposed."""

HARMLESS = {
    "auto_mapping", "corda_config", "eva_config", "exclude_modules", "inference_mode",
    "layers_pattern", "layers_to_transform", "loftq_config", "megatron_core", "modules_to_save",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "target_modules",
    "task_type",
}  # fmt: skip
"""Keys of PEFT that change nothing in a prediction, or that the tensors' names say too."""


class PeftConfig(BaseModel):
    """What is used of ``adapter_config.json``."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    peft_type: Literal["LORA"]
    base_model_name_or_path: str | None = None
    r: Rank = 8
    lora_alpha: Annotated[float, Field(ge=1e-6, le=1e6)] = 8
    lora_dropout: Dropout = 0.0
    use_rslora: bool = False
    bias: Literal["none"] = "none"
    # Others move the base.
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "eva"] = True


def _lora(lora: LoraParams) -> dict[str, Any]:
    alpha = scale_of(lora) * lora.rank
    return {"r": lora.rank, "lora_alpha": alpha, "lora_dropout": lora.dropout}


FORMS: dict[str, Callable[[Any], dict[str, Any]]] = {
    "lora": _lora,
    "head": lambda _none: {"r": 1, "lora_alpha": 1},
}
"""Keys of PEFT's config by what trains."""


def to_peft(
    settings: Settings, encoder: Encoder, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``adapter_config.json`` and the tensors of ``adapter_model.safetensors``.

    A head that LoRA leaves alone is among ``modules_to_save``; the frozen weights of one with LoRA
    are saved as those of its base layer, which PEFT loads too.

    Raises ``ParameterError`` for a method that PEFT has not.
    """
    trains = settings.trains
    if trains not in FORMS:
        raise ParameterError(
            f"the run trains {trains}, which PEFT has no adapter for; allowed: "
            f"{', '.join(FORMS)}; use --to merged"
        )
    adapted = sorted(name.removesuffix(".lora.A") for name in tensors if name.endswith(".lora.A"))
    pin = PINS.get(encoder.name)
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": pin.hub_name if pin else None,
        "revision": pin.revision if pin and pin.place == "hub" else None,
        "bias": "none",
        "inference_mode": True,
        "target_modules": adapted or NOTHING,
        "modules_to_save": [name for name in encoder.layout.head if name not in adapted],
    }
    renamed = {PREFIX + _renamed(name): _turned(name, tensor) for name, tensor in tensors.items()}
    return config | FORMS[trains](settings.lora), renamed


def _renamed(name: str, back: bool = False) -> str:
    for ours, theirs in RENAMED:
        name = name.replace(theirs, ours) if back else name.replace(ours, theirs)
    return name


def _turned(name: str, tensor: Tensor) -> Tensor:
    """A and B transposed; ``name`` is the one here."""
    return tensor.T.contiguous() if name.endswith((".A", ".B")) else tensor


def from_peft(
    folder: Path, encoder_path: Path | None, max_tokens: int, classes: tuple[str, str]
) -> tuple[Description, Encoder, dict[str, Tensor]]:
    """A PEFT adapter as one of this project.

    Args:
        folder: has ``adapter_config.json`` and ``adapter_model.safetensors``.
        encoder_path: of a base that is a local folder.
        max_tokens, classes: where the adapter, made elsewhere, doesn't say them.

    Raises:
        DataError: it is for another base, of another method, has other targets than the project's,
            is pickled, damaged or too large.
    """
    config, file = _read_config(folder), folder / WEIGHTS
    described = read_description(file)
    if described is None:
        encoder = _base_of(config, folder, encoder_path, max_tokens)
        base = Base(name=encoder.name, revision=encoder.revision, sha256=encoder.weights_sha256)
        settings = Settings(
            encoder=encoder.name, max_tokens=max_tokens, epochs=0, batch_size=0, learning_rate=0.0,
            precision="fp32", device="cpu", trains="head",
        )  # fmt: skip
        described = Description(base=base, settings=settings, classes=classes)
    else:
        encoder = Trained(file, described, None).encoder(encoder_path)
    found = read_tensors(file, "get the adapter again")
    if strange := [name for name in found if not name.startswith(PREFIX)]:
        raise DataError(f"{file}: {strange[0]} is no name of PEFT's; allowed: {PREFIX}...")
    names = {name: _renamed(name.removeprefix(PREFIX), back=True) for name in found}
    tensors = {own: _turned(own, found[name].float()) for name, own in names.items()}
    adapted = {name.removesuffix(".lora.A") for name in tensors if name.endswith(".lora.A")}
    lora = _lora_params(config, adapted, encoder, file)
    for name, tensor in read_encoder(encoder).items():  # BERT's pooler, where it was not trained
        layer, _, last = name.rpartition(".")
        if layer in encoder.layout.head:
            tensors.setdefault(f"{layer}.linear.{last}" if layer in adapted else name, tensor)
    update = {"trains": "lora" if lora else "head", "lora": lora}
    settings = described.settings.model_copy(update=update)
    head = list(encoder.layout.head)
    described = described.model_copy(update={"settings": settings, "head": head})
    return described, encoder, tensors


def _read_config(folder: Path) -> PeftConfig:
    if (folder / PICKLED).exists() and not (folder / WEIGHTS).exists():
        raise DataError(
            f"{folder / PICKLED}: pickled weights are never read; save the adapter as safetensors "
            "with PEFT (save_pretrained)"
        )
    for name, most in MOST_BYTES.items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file}: is missing; a PEFT adapter is {CONFIG} and {WEIGHTS}")
        if (size := file.stat().st_size) > most:
            raise DataError(f"{file}: has {size:,} bytes; allowed: at most {most:,}")
    file = folder / CONFIG
    try:
        config = PeftConfig.model_validate_json(file.read_bytes())
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        given = f"{key} is {repr(first['input'])[:80]}; " if key else ""
        raise DataError(f"{file}: {given}{first['msg']}; allowed: LoRA as PEFT saves it") from None
    for key, value in (config.model_extra or {}).items():
        if value and key not in HARMLESS:
            raise DataError(f"{file}: {key} is {json.dumps(value)[:80]}; allowed: none, as in LoRA")
    return config


def _base_of(
    config: PeftConfig, folder: Path, encoder_path: Path | None, max_tokens: int
) -> Encoder:
    """The encoder that an adapter made elsewhere names, or the folder that stands for it."""
    said = config.base_model_name_or_path or "nothing"
    last = said.rstrip("/").rpartition("/")[2]
    known = {pin.hub_name.rpartition("/")[2]: name for name, pin in PINS.items()}
    if encoder_path is None and last not in known:
        raise DataError(
            f"{folder / CONFIG}: base_model_name_or_path is {said[:200]!r}; allowed: "
            f"{', '.join(known)}, or any with its encoder in --encoder-path"
        )
    name, path = ("folder", str(encoder_path)) if encoder_path else (known[last], None)
    model = {"encoder": name, "path": path, "max_tokens": max_tokens}
    encoder = locate_encoder(ModelParams.model_validate(model))
    if last in known and encoder.weights_sha256 != PINS[known[last]].weights:
        raise DataError(
            f"{folder / CONFIG}: the adapter is for {said[:200]}, whose weights have sha256 "
            f"{PINS[known[last]].weights}; {encoder.weights} has {encoder.weights_sha256}"
        )
    return encoder


def _lora_params(
    config: PeftConfig, adapted: set[str], encoder: Encoder, file: Path
) -> LoraParams | None:
    """None where no layer has LoRA, as PEFT's own word for that says."""
    layout, depth = encoder.layout, encoder.config[encoder.layout.depth]
    sites = {target: set(layout.linears(target, depth)) for target in TARGETS}
    targets = [target for target in TARGETS if sites[target] <= adapted]
    unknown = sorted(adapted - {name for target in targets for name in sites[target]})
    if unknown:
        more = " ..." if len(unknown) > 5 else ""
        raise DataError(
            f"{file}: LoRA on {', '.join(unknown[:5])}{more}; allowed: {', '.join(TARGETS)}, "
            "each in all layers"
        )
    if not adapted:
        if (config.model_extra or {}).get("target_modules") != NOTHING:
            raise DataError(f"{file}: holds no LoRA; get the adapter again")
        return None
    alpha = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    dropout = config.lora_dropout
    return LoraParams(rank=config.r, alpha=alpha, targets=tuple(targets), dropout=dropout)
