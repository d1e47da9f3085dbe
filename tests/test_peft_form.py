"""Adapters that PEFT made are read into runs that predict the same, or refused."""

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from lora_replication.data.tokens import load_tokenizer
from lora_replication.errors import DataError
from lora_replication.export import import_adapter
from lora_replication.predict import find_trained
from lora_replication.record import ADAPTER
from lora_replication.training.layouts import LAYOUTS
from tests.test_export import CLASSES, TEXT, close, logits_here
from tests.training_runs import encoder_of


def save_with_peft(folder: Path, kind: str, config=None, **changes) -> peft.PeftModel:
    """An adapter as PEFT's users make one, of random values."""
    layout = LAYOUTS[kind]
    base = AutoModelForSequenceClassification.from_pretrained(encoder_of(kind).folder)
    names = [layout.query.rpartition(".")[2], layout.value.rpartition(".")[2]]
    options = {"r": 3, "lora_alpha": 8, "target_modules": names, "task_type": "SEQ_CLS"} | changes
    torch.manual_seed(1)
    model = peft.get_peft_model(base, config or peft.LoraConfig(**options)).eval()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and "lora_A" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return model


SEQ_CLS = {"task_type": "SEQ_CLS", "modules_to_save": ["pooler.dense"]}  # the tiny base has none
FROM_PEFT = {
    "lora": ("lora", "distilbert", {}),
    "rslora": ("lora", "distilbert", {"use_rslora": True, "bias": "none"}),
    "dora": ("dora", "bert", {"use_dora": True, "use_rslora": True, "lora_dropout": 0.2} | SEQ_CLS),
    "pissa": ("pissa", "distilbert", {"init_lora_weights": "pissa"}),
    "vera": ("lora", "distilbert", {
        "config": peft.VeraConfig(r=5, target_modules=["q_lin", "lin1", "lin2"], **SEQ_CLS)}),
    "ia3": ("ia3", "distilbert", {
        "config": peft.IA3Config(
            target_modules=["k_lin", "lin2"], feedforward_modules=[], **SEQ_CLS)}),
    "ia3 by default": ("ia3", "bert", {"config": peft.IA3Config(**SEQ_CLS)}),
}  # fmt: skip
"""What it is here, for which encoder, and how it is asked for."""


@pytest.mark.parametrize("name", FROM_PEFT)
def test_an_adapter_made_with_peft_predicts_here_as_there(tmp_path, name):
    trains, kind, asked = FROM_PEFT[name]
    encoder = encoder_of(kind)
    model = save_with_peft(tmp_path / "peft", kind, **asked)
    import_adapter(tmp_path / "peft", tmp_path / "run", encoder.folder, 64, CLASSES)
    ids = load_tokenizer(encoder.vocabulary, 64).encode(TEXT).ids
    with torch.no_grad():
        theirs = model(input_ids=torch.tensor([ids])).logits[0]
    assert close(logits_here(tmp_path / "run", kind), theirs)
    described = find_trained(tmp_path / "run").description
    assert (described.study, described.seed, described.classes) == (None, None, CLASSES)
    assert described.settings.trains == trains


def test_a_pooler_that_peft_left_alone_is_the_bases(tmp_path):
    encoder = shutil.copytree(encoder_of("bert").folder, tmp_path / "base")
    width = encoder_of("bert").config["hidden_size"]
    pooler = {
        "bert.pooler.dense.weight": torch.eye(width),
        "bert.pooler.dense.bias": torch.ones(width),
    }
    save_file(load_file(encoder / "model.safetensors") | pooler, encoder / "model.safetensors")
    save_with_peft(tmp_path / "peft", "bert")
    import_adapter(tmp_path / "peft", tmp_path / "run", encoder, 64, CLASSES)
    tensors = load_file(tmp_path / "run" / ADAPTER)
    assert all(torch.equal(tensors[name], tensor) for name, tensor in pooler.items())


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def rewritten(folder: Path, **changes) -> None:
    content = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(content | changes))


def more_lora(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    name = "base_model.model.distilbert.embeddings.word_embeddings.lora_A.weight"
    save_file(tensors | {name: torch.ones(3, 9)}, folder / WEIGHTS)


def half_on_inputs(folder: Path) -> None:
    rewritten(folder, peft_type="IA3")
    name = "base_model.model.distilbert.transformer.layer.{}.attention.q_lin.ia3_l"
    shapes = {name.format(0): (1, 32), name.format(1): (32, 1)}
    save_file({name: torch.ones(shape) for name, shape in shapes.items()}, folder / WEIGHTS)


def pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")


BAD = {
    "peft_type is 'LOHA'": lambda folder: rewritten(folder, peft_type="LOHA"),
    r"q_lin\.magnitude \(missing\)": lambda folder: rewritten(folder, use_dora=True),
    "base_model.vera_A.*save_projection=True": lambda folder: rewritten(folder, peft_type="VERA"),
    "rank_pattern is": lambda folder: rewritten(folder, rank_pattern={"a": 2}),
    "init_lora_weights.* is 'olora'": lambda folder: rewritten(folder, init_lora_weights="olora"),
    r"\(2, 32\), not \(9, 32\)|\(3, 32\), not \(9, 32\)": lambda folder: rewritten(folder, r=9),
    "r is 1000000": lambda folder: rewritten(folder, r=1_000_000),
    "adapter is for x/distilbert-base-uncased, whose weights": lambda folder: rewritten(
        folder, base_model_name_or_path="x/distilbert-base-uncased"
    ),
    "adapts distilbert.embeddings.word_embeddings; allowed: query": more_lora,
    r"adapts distilbert.transformer.layer.0.attention.q_lin; allowed: query": half_on_inputs,
    r"adapter_model\.bin: pickled weights are never read": pickled,
    "adapter_config.json: is missing": lambda folder: (folder / CONFIG).unlink(),
    r"at most 1,048,576": lambda folder: (folder / CONFIG).write_bytes(b" " * 2_000_000),
    "not a whole safetensors file": lambda folder: (folder / WEIGHTS).write_bytes(b"\x80\x04."),
}  # fmt: skip


@pytest.mark.fault(37, 38)
@pytest.mark.parametrize("message", BAD)
def test_a_foreign_adapter_that_can_not_be_read_is_refused(tmp_path, message):
    save_with_peft(tmp_path / "peft", "distilbert")
    BAD[message](tmp_path / "peft")
    with pytest.raises(DataError, match=message):
        import_adapter(
            tmp_path / "peft", tmp_path / "run", encoder_of("distilbert").folder, 64, CLASSES
        )
    assert not (tmp_path / "run").exists()


def test_a_base_of_an_unknown_name_needs_its_folder(tmp_path):
    save_with_peft(tmp_path / "peft", "distilbert")
    with pytest.raises(DataError, match=r"base_model_name_or_path is .* --encoder-path"):
        import_adapter(tmp_path / "peft", tmp_path / "run", None, 64, CLASSES)
