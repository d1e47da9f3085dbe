"""Adapters in the form of Hugging Face PEFT, both ways; PEFT itself is not needed.

What a method is in PEFT stands here once. Whatever is ``LowRank`` is LoRA of ``lora_alpha`` s times
its rank; DoRA and IA3 are themselves. The last layers alone are a ``LORA`` that targets nothing and
saves two modules. What moves the encoder's own weights is no adapter.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from lora_replication.adapter import Base, Description, read_description
from lora_replication.allowed import TARGETS, Dropout, Rank
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError, ParameterError, first_problem
from lora_replication.pins import PINS
from lora_replication.predict import Trained
from lora_replication.record import Settings
from lora_replication.report.words import trains_in_words
from lora_replication.study import LoraParams, ModelParams
from lora_replication.training.classifier import Classifier
from lora_replication.training.load import read_encoder, read_tensors
from lora_replication.training.methods import LowRank
from lora_replication.training.methods.dora import LinearWithDoRA
from lora_replication.training.methods.ia3 import ScaledLinear
from lora_replication.training.methods.lora import scale_of

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"

MOST_BYTES = {CONFIG: 2**20, WEIGHTS: 2**30}
"""PEFT's have a few thousand, and a few million."""

NOTHING = "dummy-target-modules"
"""PEFT's word for no layer."""

PREFIX = "base_model.model."
RENAMED = (
    (PREFIX, ""),
    (".lora_A.weight", ".lora.A"),
    (".lora_B.weight", ".lora.B"),
    (".lora_magnitude_vector", ".magnitude"),
    (".ia3_l", ".vector"),
    (".base_layer.", ".linear."),
)
"""Parts of PEFT's names, and here. There A and B are transposed, and a vector is a column, or a row
where it multiplies its layer's input.
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
    # Others move the base; PiSSA does too, always to the same weights.
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "eva", "pissa"] = True


def to_peft(
    settings: Settings, encoder: Encoder, classifier: Classifier
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """``adapter_config.json`` and the tensors of ``adapter_model.safetensors``.

    A head that nothing is added to is among ``modules_to_save``; the frozen weights of an adapted
    one are saved as those of its base layer, which PEFT loads too.

    Raises ``ParameterError`` for what PEFT has no adapter for.
    """
    (model,), head = classifier.models, encoder.layout.head
    added = {name: module for name, module in model.named_modules() if hasattr(module, "merged")}
    forms = {name: _form(module, settings.lora) for name, module in added.items()}
    kinds = [keys for keys, _ in forms.values()] or [{"peft_type": "LORA", "r": 1, "lora_alpha": 1}]
    state = {name.replace(".linear.", "."): t for name, t in model.state_dict().items()}
    base = read_encoder(encoder).items()
    moved = any(not t.equal(state.get(n, t)) for n, t in base if not n.startswith(head))
    if moved or not all(keys and keys == kinds[0] for keys in kinds):
        raise ParameterError(
            f"the run trains {trains_in_words(settings)}, for which PEFT has no adapter; "
            "use --to merged"
        )
    heads = {f"{name}.linear" if name in added else name for name in head}
    every = classifier.adapter()
    tensors = {name: tensor for name, tensor in every.items() if name.rpartition(".")[0] in heads}
    for layer, (_, own) in forms.items():
        tensors |= {f"{layer}.{leaf}": tensor for leaf, tensor in own.items()}
    whole = {PREFIX + n.replace(".linear.", ".base_layer."): t for n, t in tensors.items()}
    pin = PINS.get(encoder.name)
    config = {
        "base_model_name_or_path": pin.hub_name if pin else None,
        "revision": pin.revision if pin and pin.place == "hub" else None,
        "inference_mode": True,
        "target_modules": list(added) or NOTHING,
        "modules_to_save": [name for name in head if name not in added],
    }
    if kinds[0]["peft_type"] == "IA3":
        config["feedforward_modules"] = [name for name, m in added.items() if m.scales_input]
    return config | kinds[0], whole


def _form(module: Any, lora: LoraParams | None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Keys of PEFT's config, none for what it has not, and tensors by their names in a layer."""
    if isinstance(module, ScaledLinear):
        shape = (1, -1) if module.scales_input else (-1, 1)
        return {"peft_type": "IA3"}, {"ia3_l": module.vector.view(shape)}
    scale, dropout = (scale_of(lora), lora.dropout) if lora else (1.0, 0.0)
    own = {}
    if isinstance(module, LowRank):
        A, B = module.low_rank()
        B = B / scale
    elif isinstance(module, LinearWithDoRA) and module.axis == "output":
        A, B = module.lora.A, module.lora.B
        own = {"lora_magnitude_vector": module.magnitude}
    else:
        return {}, {}
    keys = {"peft_type": "LORA", "r": len(B), "lora_alpha": scale * len(B), "use_dora": bool(own)}
    return keys | {"lora_dropout": dropout}, own | {"lora_A.weight": A.T, "lora_B.weight": B.T}


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
        base = Base(name=encoder.name, revision=encoder.revision, sha256=encoder.sha256)
        settings = Settings(
            encoder=encoder.name, max_tokens=max_tokens, epochs=0, batch_size=0, learning_rate=0.0,
            precision="fp32", device="cpu", trains="head", classes=classes,
        )  # fmt: skip
        described = Description(base=base, settings=settings, classes=classes)
    else:
        encoder = Trained(file, described, None).encoder(encoder_path)
    found = read_tensors(file, "get the adapter again")
    if config.peft_type == "VERA":
        found = _without_vera(found, encoder, file)
    if strange := [name for name in found if not name.startswith(PREFIX)]:
        raise DataError(f"{file}: {strange[0]} is no name of PEFT's; allowed: {PREFIX}...")
    tensors = {}
    for name, tensor in found.items():
        own = name
        for theirs, ours in RENAMED:
            own = own.replace(theirs, ours)
        tensors[own] = (tensor.T if own.endswith((".lora.A", ".lora.B")) else tensor).float()
    vectors = {n.removesuffix(".vector"): t for n, t in tensors.items() if n.endswith(".vector")}
    inputs = {layer for layer, vector in vectors.items() if vector.shape[:1] == (1,)}
    tensors |= {f"{layer}.vector": vector.flatten() for layer, vector in vectors.items()}
    adapted = {n.removesuffix(".lora.A") for n in tensors if n.endswith(".lora.A")} | vectors.keys()
    method = _method(config, adapted, inputs, encoder, file)
    for name, tensor in read_encoder(encoder).items():  # BERT's pooler, where it was not trained
        layer, _, last = name.rpartition(".")
        if layer in encoder.layout.head:
            tensors.setdefault(f"{layer}.linear.{last}" if layer in adapted else name, tensor)
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
        key, found, what = first_problem(problem)
        given = f"{key} is {found}; " if key else ""
        raise DataError(f"{file}: {given}{what}; allowed: LoRA, IA3 or VeRA") from None
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


def _without_vera(found: dict[str, Tensor], encoder: Encoder, file: Path) -> dict[str, Tensor]:
    """With LoRA's A and B for VeRA's vectors: each layer has its share of two random matrices."""
    made = {name: tensor for name, tensor in found.items() if ".vera_" not in name}
    base = read_encoder(encoder)
    try:
        A, B = found["base_model.vera_A"], found["base_model.vera_B"]
        for name in [name for name in found if name.endswith(".vera_lambda_b")]:
            layer = name.removesuffix(".vera_lambda_b")
            b, d = found[name], found[f"{layer}.vera_lambda_d"]
            width = base[f"{layer.removeprefix(PREFIX)}.weight"].shape[1]
            made[f"{layer}.lora_A.weight"] = A[:, :width]
            made[f"{layer}.lora_B.weight"] = b[:, None] * B[: len(b)] * d
    except (KeyError, IndexError, RuntimeError) as problem:
        raise DataError(f"{file}: {problem!r}; save VeRA with save_projection=True") from None
    return made


def _method(
    config: PeftConfig, adapted: set[str], inputs: set[str], encoder: Encoder, file: Path
) -> dict[str, Any]:
    """Its settings: the last layers where no layer is adapted, as PEFT's own word for that says;
    IA3 multiplies the ``inputs`` of these of the ``adapted`` layers.
    """
    if not adapted:
        if (config.model_extra or {}).get("target_modules") != NOTHING:
            raise DataError(f"{file}: adapts no layer; get the adapter again")
        return {"trains": "head", "lora": None}
    layout, depth = encoder.layout, encoder.config[encoder.layout.depth]
    sites = {target: set(layout.linears(target, depth)) for target in TARGETS}
    if config.peft_type == "IA3":
        sites["mlp"] = {name for name in sites["mlp"] if layout.role(name) == "mlp_output"}
    targets, turned = (tuple(t for t in TARGETS if sites[t] <= own) for own in (adapted, inputs))
    beyond = adapted.difference(*(sites[target] for target in targets))
    beyond |= inputs.difference(*(sites[target] for target in turned))
    if unknown := sorted(beyond):
        more = " ..." if len(unknown) > 5 else ""
        raise DataError(
            f"{file}: adapts {', '.join(unknown[:5])}{more}; allowed: {', '.join(TARGETS)}, "
            "each in all layers"
        )
    if config.peft_type == "IA3":
        return {"trains": "ia3", "lora": None, "options": {"targets": targets, "inputs": turned}}
    alpha = config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r)
    alpha = 1.0 if config.peft_type == "VERA" else alpha
    lora = LoraParams(rank=config.r, alpha=alpha, targets=targets, dropout=config.lora_dropout)
    kind = "pissa" if config.init_lora_weights == "pissa" else "lora"
    return {"trains": "dora" if config.use_dora else kind, "lora": lora}
