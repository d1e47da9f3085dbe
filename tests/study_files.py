"""A complete study as small as can be: 96 generated reviews, a tiny encoder, seconds on a CPU."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.tiny_encoders import tiny_model

ROOT = Path(__file__).resolve().parents[1]

SMALL = {
    "study": "tiny",
    "title": "A tiny encoder on generated reviews, not IMDb",
    "data": {"source": "generated", "reviews": {"train": 48, "val": 24, "test": 24}},
    "train": {"epochs": 2, "learning_rate": 1e-2, "precision": "fp32", "device": "cpu"},
    "run": {"methods": ["last_layers", "lora_default", "full"], "seeds": [1]},
    "grid": {
        "alpha": [1, 16], "rank": [1, 2], "key": [False], "projection": [False], "head": [False],
        "winner_seeds": [101], "runners_up": 0,
    },
}  # fmt: skip


def read_params(file: Path = ROOT / "params.yaml") -> dict[str, Any]:
    """What a params file holds, as plain values."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(file.read_text("utf-8"))
    return content


def study_params(**changes: Any) -> dict[str, Any]:
    """A whole study as plain values: the article's, made small, with ``changes`` laid over it;
    mappings are merged, all else is replaced.
    """
    return merged(merged(read_params(), SMALL | {"model": tiny_model()}), changes)


def write_params(folder: Path, **changes: Any) -> Path:
    """Write ``study_params(**changes)`` as ``params.yaml`` into ``folder``."""
    file = folder / "params.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    YAML(typ="safe", pure=True).dump(study_params(**changes), file)
    return file


def link_data(root: Path, prepared: Path) -> Path:
    """``root``, made where it is not there, with the prepared data linked in."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "data").symlink_to(prepared / "data")
    return root


def merged(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``changes`` laid over ``content``: mappings are merged, all else is replaced."""
    return content | {
        key: merged(content[key], value)
        if isinstance(value, dict) and isinstance(content.get(key), dict)
        else value
        for key, value in changes.items()
    }
