"""Adapters in the form of Hugging Face PEFT, both ways; PEFT itself is not needed.

What a method is in PEFT stands here once. Whatever is ``LowRank`` is LoRA of ``lora_alpha`` s times
its rank; DoRA and IA3 are themselves. The last layers alone are a ``LORA`` that targets nothing and
saves two modules. What moves the encoder's own weights is no adapter.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from lora_replication.adapter import Base, Description, read_description
from lora_replication.allowed import TARGETS, Dropout, Rank, Target
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError, ParameterError
from lora_replication.pins import PINS
from lora_replication.predict import Trained
from lora_replication.record import Settings
from lora_replication.report.words import trains_in_words
from lora_replication.study import LoraParams, ModelParams
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import read_encoder, read_tensors
from lora_replication.training.methods import LowRank
from lora_replication.training.methods.dora import LinearWithDoRA
from lora_replication.training.methods.ia3 import IA3Options, ScaledLinear
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
    (".magnitude", ".lora_magnitude_vector"),
    (".vector", ".ia3_l"),
    (".linear.", ".base_layer."),
)
"""Parts of names here and in PEFT, where A and B are transposed, and IA3's vector is a column, or a
row where it multiplies its layer's input.
"""

HARMLESS = {
    "auto_mapping", "corda_config", "d_initial", "eva_config", "exclude_modules",
    "feedforward_modules", "inference_mode", "init_ia3_weights", "init_weights", "layers_pattern",
    "layers_to_transform", "loftq_config", "megatron_core", "modules_to_save", "peft_version",
    "projection_prng_key", "qalora_group_size", "revision", "runtime_config", "save_projection",
    "target_modules", "task_type", "vera_dropout",
}  # fmt: skip
"""Keys of PEFT that change nothing in a prediction, or that the tensors say too."""


class PeftConfig(BaseModel):
    """What is used of ``adapter_config.json``."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    peft_type: Literal["LORA", "IA3", "VERA"]
    base_model_name_or_path: str | None = None
    r: Rank = 8
    lora_alpha: Annotated[float, Field(ge=1e-6, le=1e6)] = 8
    lora_dropout: Dropout = 0.0
    use_rslora: bool = False
    use_dora: bool = False
    bias: Literal["none"] = "none"
    # Others move the base.
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "eva"] = True


def to_peft(
    settings: Settings, encoder: Encoder, classifier: Classifier
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``adapter_config.json`` and the tensors of ``adapter_model.safetensors``.

    A head that nothing is added to is among ``modules_to_save``; the frozen weights of an adapted
    one are saved as those of its base layer, which PEFT loads too.

    Raises ``ParameterError`` for what PEFT has no adapter for.
    """
    (model,), head, base = classifier.models, encoder.layout.head, read_encoder(encoder)
    added = {name: module for name, module in model.named_modules() if hasattr(module, "merged")}
    own = tuple(f"{name}." for name in added)
    frozen = tuple(f"{name}linear." for name in own)
    tensors = {
        name: tensor
        for name, tensor in classifier.adapter().items()
        if name.startswith(frozen) or not name.startswith(own)
    }
    forms = {name: _form(module, settings.lora) for name, module in added.items()}
    kinds = [form and form[0] for form in forms.values()]
    moved = [
        name
        for name, form in forms.items()
        if form and not name.startswith(head)
        if not added[name].linear.weight.equal(base[f"{name}.weight"])
    ]
    if (
        moved
        or any(kind is None or kind != kinds[0] for kind in kinds)
        or not all(name.startswith(head) for name in tensors)
    ):
        raise ParameterError(
            f"the run trains {trains_in_words(settings)}, for which PEFT has no adapter; "
            "use --to merged"
        )
    for name, form in forms.items():
        tensors |= {f"{name}.{leaf}": tensor for leaf, tensor in form[1].items()}
    keys = kinds[0] if kinds else {"peft_type": "LORA", "r": 1, "lora_alpha": 1}
    pin = PINS.get(encoder.name)
    config = {
        "base_model_name_or_path": pin.hub_name if pin else None,
        "revision": pin.revision if pin and pin.place == "hub" else None,
        "inference_mode": True,
        "target_modules": list(added) or NOTHING,
        "modules_to_save": [name for name in head if name not in added],
    }
    if keys["peft_type"] == "IA3":
        config["feedforward_modules"] = [name for name, m in added.items() if m.scales_input]
    renamed = {PREFIX + _renamed(name): _turned(name, tensor) for name, tensor in tensors.items()}
    return config | keys, renamed


def _form(
    module: nn.Module, lora: LoraParams | None
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """What was added to a layer: keys of PEFT's config, and tensors under their names here."""
    if isinstance(module, ScaledLinear):
        vector = module.vector
        return {"peft_type": "IA3"}, {
            "vector": vector[None] if module.scales_input else vector[:, None]
        }
    scale, dropout = (scale_of(lora), lora.dropout) if lora else (1.0, 0.0)
    more = {}
    if isinstance(module, LinearWithDoRA) and module.axis == "output":
        A, B, more = module.lora.A, module.lora.B, {"magnitude": module.magnitude}
    elif isinstance(module, LowRank):
        A, B = module.low_rank()
        B = B / scale
    else:
        return None
    rank = A.shape[1]
    keys = {"peft_type": "LORA", "r": rank, "lora_alpha": scale * rank, "lora_dropout": dropout}
    return keys | {"use_dora": bool(more)}, {"lora.A": A, "lora.B": B, **more}


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
    found, base_tensors = read_tensors(file, "get the adapter again"), read_encoder(encoder)
    if config.peft_type == "VERA":
        found = _without_vera(found, base_tensors, file)
    if strange := [name for name in found if not name.startswith(PREFIX)]:
        raise DataError(f"{file}: {strange[0]} is no name of PEFT's; allowed: {PREFIX}...")
    names = {name: _renamed(name.removeprefix(PREFIX), back=True) for name in found}
    tensors = {own: _turned(own, found[name].float()) for name, own in names.items()}
    vectors = {n.removesuffix(".vector"): t for n, t in tensors.items() if n.endswith(".vector")}
    inputs = {layer for layer, vector in vectors.items() if vector.shape[:1] == (1,)}
    tensors |= {f"{layer}.vector": vector.flatten() for layer, vector in vectors.items()}
    adapted = {name.removesuffix(".lora.A") for name in tensors if name.endswith(".lora.A")}
    method = _method(config, adapted | vectors.keys(), inputs, encoder, file)
    for name, tensor in base_tensors.items():  # BERT's pooler, where it was not trained
        layer, _, last = name.rpartition(".")
        if layer in encoder.layout.head:
            is_inner = layer in adapted | vectors.keys()
            tensors.setdefault(f"{layer}.linear.{last}" if is_inner else name, tensor)
    if described.settings.trains != method["trains"] or described.settings.file:
        method = {"options": {}, "file": None, "file_sha256": None} | method
    settings = described.settings.model_copy(update=method)
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
        raise DataError(
            f"{file}: {given}{first['msg']}; allowed: LoRA, DoRA, VeRA or IA3 as PEFT saves it"
        ) from None
    for key, value in (config.model_extra or {}).items():
        if value and key not in HARMLESS:
            raise DataError(f"{file}: {key} is {json.dumps(value)[:80]}; allowed: none")
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


def _without_vera(
    found: Mapping[str, Tensor], base: Mapping[str, Tensor], file: Path
) -> dict[str, Tensor]:
    """``found`` with LoRA's factors in the place of VeRA's vectors: each layer has its share of the
    two random matrices.
    """
    made = {name: tensor for name, tensor in found.items() if ".vera_" not in name}
    try:
        A, B = found["base_model.vera_A"], found["base_model.vera_B"]
        for name in [name for name in found if name.endswith(".vera_lambda_b")]:
            layer = name.removesuffix(".vera_lambda_b")
            b, d = found[name], found[f"{layer}.vera_lambda_d"]
            width = base[f"{layer.removeprefix(PREFIX)}.weight"].shape[1]
            made[f"{layer}.lora_A.weight"] = A[:, :width]
            made[f"{layer}.lora_B.weight"] = b[:, None] * B[: len(b)] * d
    except KeyError as missing:
        raise DataError(
            f"{file}: lacks {missing}; VeRA is read as PEFT saves it with save_projection=True"
        ) from None
    except (IndexError, RuntimeError) as problem:
        raise DataError(f"{file}: {problem}; get the adapter again") from None
    return made


def _method(
    config: PeftConfig, adapted: set[str], inputs: set[str], encoder: Encoder, file: Path
) -> dict[str, Any]:
    """What of the settings says which method it is; the last layers where no layer is adapted, as
    PEFT's own word for that says.
    """
    if not adapted:
        if (config.model_extra or {}).get("target_modules") != NOTHING:
            raise DataError(f"{file}: adapts no layer; get the adapter again")
        return {"trains": "head", "lora": None}
    is_ia3 = config.peft_type == "IA3"
    targets = _targets(adapted, encoder, is_ia3, file)
    if is_ia3:
        options = IA3Options(targets=targets, inputs=_targets(inputs, encoder, is_ia3, file))
        plain = options.model_dump(mode="json", exclude_defaults=True)
        return {"trains": "ia3", "lora": None, "options": plain}
    alpha = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    if config.peft_type == "VERA":
        alpha = 1.0
    lora = LoraParams(rank=config.r, alpha=alpha, targets=targets, dropout=config.lora_dropout)
    return {"trains": "dora" if config.use_dora else "lora", "lora": lora}


def _targets(adapted: set[str], encoder: Encoder, is_ia3: bool, file: Path) -> tuple[Target, ...]:
    """Those that the ``adapted`` layers are, which IA3 has but one of in an MLP."""
    layout, depth = encoder.layout, encoder.config[encoder.layout.depth]
    sites = {target: set(layout.linears(target, depth)) for target in TARGETS}
    if is_ia3:
        sites["mlp"] = {name for name in sites["mlp"] if layout.role(name) == "mlp_output"}
    targets = tuple(target for target in TARGETS if sites[target] <= adapted)
    if unknown := sorted(adapted - {name for target in targets for name in sites[target]}):
        more = " ..." if len(unknown) > 5 else ""
        raise DataError(
            f"{file}: adapts {', '.join(unknown[:5])}{more}; allowed: {', '.join(TARGETS)}, "
            "each in all layers"
        )
    return targets
