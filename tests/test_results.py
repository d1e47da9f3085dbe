"""Holds ``training.RESULTS``: tiny runs have the losses and logits of ``results/<RESULTS>.json``.

They are computed in float64 at tame learning rates, so they are the same to 1e-6 on any processor.
Where a change means to move results: raise ``RESULTS``, write the new file by
``python -m tests.test_results``, and say in CHANGELOG what moved.
"""

import json
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import transformers
from safetensors.numpy import save_file

from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.record import Settings
from lora_replication.study import LoraParams, ModelParams
from lora_replication.training import RESULTS
from lora_replication.training.evaluation import predict_logits
from lora_replication.training.layouts import LAYOUTS
from tests.tiny_encoders import CONFIGS
from tests.training_runs import KINDS, PowerCutError, random_tokens, run_training

FILE = Path(__file__).parent / "results" / f"{RESULTS}.json"
PIECES = 60
TOKENS = {
    "train": random_tokens([9, 30, 4, 17, 30, 12, 5, 22, 11, 6, 25, 8, 40, 3, 14, 19], 1),
    "val": random_tokens([12, 7, 28, 33, 9, 16], 2),
    "test": random_tokens([21, 6, 10, 35], 3),
}
PACK = (
    {"rank": 2, "alpha": 4.0, "targets": ("query", "value"), "dropout": 0.1},
    {"rank": 40, "alpha": 1.0, "targets": ("key", "mlp", "head"), "dropout": 0.1},
    {"rank": 3, "alpha": 8.0, "targets": ("projection",), "scaling": "paper", "dropout": 0.1},
)
Numbers = dict[str, list[float]]


def settings(trains: str, **lora: object) -> Settings:
    return Settings(
        encoder="folder", max_tokens=64, epochs=3, batch_size=5, learning_rate=3e-3,
        precision="fp32", device="cpu", trains=trains, lora=LoraParams(**lora) if lora else None,
    )  # fmt: skip


CASES = {
    "head": [settings("head")],
    "lora": [settings("lora", **PACK[0] | {"dropout": 0.0})],
    "all": [settings("all")],
    "pack": [settings("lora", **lora) for lora in PACK],
}


def encoder_in(folder: Path, kind: str) -> Encoder:
    """Weights are drawn by numpy, which draws the same on every machine."""
    draw, tensors = np.random.default_rng(7), {}
    classifier = getattr(transformers, LAYOUTS[kind].classifier)
    model = classifier(classifier.config_class(**CONFIGS[kind], vocab_size=PIECES))
    for name, parameter in model.named_parameters():
        drawn = draw.uniform(-0.3, 0.3, parameter.shape).astype(np.float32)
        if name.startswith(f"{kind}.") and ".pooler." not in name:
            tensors[name] = drawn + np.float32("norm" in name.lower() and name.endswith("weight"))
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIGS[kind] | {"vocab_size": PIECES}))
    (folder / "vocab.txt").write_text("".join(f"piece{number}\n" for number in range(PIECES)))
    return locate_encoder(ModelParams(encoder="folder", path=str(folder), max_tokens=64))


def computed(kind: str, case: str, folder: Path) -> list[Numbers]:
    """For each configuration its losses, and its test logits at the best epoch.

    A case ``... resumed`` is interrupted after its first epoch and started again.
    """
    pack, file = CASES[case.removesuffix(" resumed")], folder / "state.safetensors"
    options = {"encoder": encoder_in(folder, kind), "double": True}
    if case.endswith(" resumed"):
        with pytest.raises(PowerCutError):
            run_training(TOKENS, pack, file, cut_after=1, **options)
        assert file.exists()
    classifier, results = run_training(TOKENS, pack, file, **options)
    return [
        {
            "train_losses": [epoch.train_loss for epoch in result.epochs],
            "val_losses": [epoch.val_loss for epoch in result.epochs],
            "test_logits": logits.ravel().tolist(),
        }
        for result, logits in zip(results, predict_logits(classifier, TOKENS["test"]), strict=True)
    ]


@pytest.mark.parametrize("case", [*CASES, "all resumed", "pack resumed"])
@pytest.mark.parametrize("kind", KINDS)
def test_results_have_not_moved(kind, case, tmp_path):
    if not FILE.exists():
        pytest.fail(f"{FILE} is missing; write it by: python -m tests.test_results")
    expected = json.loads(FILE.read_text())[f"{kind} {case.removesuffix(' resumed')}"]
    for own, numbers in zip(computed(kind, case, tmp_path), expected, strict=True):
        for name, values in numbers.items():
            assert own[name] == pytest.approx(values, abs=1e-6), (
                f"{name} moved; if that is meant, raise training.RESULTS, run "
                "python -m tests.test_results, and say in CHANGELOG what moved"
            )


def write() -> None:
    """Write the file of this version of the results."""
    lines = []
    for kind, case in product(KINDS, CASES):
        with TemporaryDirectory() as folder:
            numbers = computed(kind, case, Path(folder))
        rounded = [
            {name: [round(value, 9) for value in values] for name, values in own.items()}
            for own in numbers
        ]
        lines.append(f'"{kind} {case}": {json.dumps(rounded)}')
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
