"""What an adapter says of itself, in the metadata of its safetensors file."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open

from lora_replication.allowed import CLASSES, LINE, Classes, Part
from lora_replication.errors import DataError, first_problem
from lora_replication.record import Run, Settings

METADATA = "lora_replication"
"""The one key of the metadata: safetensors writes several in no fixed order."""

MOST_CHARACTERS = 2**16
"""Of the description; one has 1,200."""

Words = Annotated[str, Field(pattern=LINE, max_length=200)]


class Base(Part):
    """The encoder that an adapter belongs to: name and revision as in ``encoders.Encoder``."""

    name: Words
    revision: Words | None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Description(Part):
    """An adapter in its own words.

    Attributes:
        study, title, name, seed, key: of its run, see ``record.Run``; None where it was imported.
        base: its encoder.
        settings: the run's, without defaults: what trains, rank, alpha, targets, precision ...;
            epochs, batch size and learning rate are 0 where an import doesn't know them.
        head: names of the two layers after the encoder, which are in the file, trained or not.
        classes: names of the classes 0, 1 ..., as many as in the settings.
    """

    model_config = ConfigDict(extra="ignore")

    schema_version: Literal[1] = 1
    study: Words | None = None
    title: Words | None = None
    name: Words | None = None
    seed: int | None = None
    key: Words | None = None
    base: Base
    settings: Settings
    head: list[Words] = Field(default_factory=list)
    classes: Classes = CLASSES

    @model_validator(mode="after")
    def _classes_are_as_many(self) -> Self:
        if len(self.classes) != len(self.settings.classes):
            raise ValueError(f"classes are {len(self.classes)}, not {len(self.settings.classes)}")
        return self

    @classmethod
    def of(cls, run: Run, revision: str | None, head: tuple[str, ...] = ()) -> Self:
        """That of ``run``, whose encoder has the ``revision`` and these two last layers."""
        names = ("study", "title", "name", "seed", "key")
        base = Base(name=run.settings.encoder, revision=revision, sha256=run.weights)
        own: dict[str, Any] = {name: getattr(run, name) for name in names}
        settings = run.settings
        return cls(base=base, settings=settings, head=list(head), classes=settings.classes, **own)

    @property
    def scale(self) -> float | None:
        """The factor of LoRA's term, None for other methods."""
        from lora_replication.training.methods.lora import scale_of

        lora = self.settings.lora
        return scale_of(lora) if lora else None

    def metadata(self) -> dict[str, str]:
        """For ``safetensors``; the scale is written for others."""
        content = self.model_dump(mode="json") | {"settings": self.settings.as_dict()}
        return {METADATA: json.dumps(content | {"scale": self.scale}, ensure_ascii=False)}


def read_description(file: Path) -> Description | None:
    """The description in an adapter ``file``, None where there is none. Raises ``DataError``."""
    if not file.is_file():
        raise DataError(f"{file}: is no file; name a run's folder or an adapter.safetensors")
    try:
        with safe_open(file, "numpy") as opened:
            text = (opened.metadata() or {}).get(METADATA)
    except (SafetensorError, OSError) as problem:
        raise DataError(
            f"{file}: not a whole safetensors file ({problem}); get the adapter again"
        ) from None
    if text is None:
        return None
    try:
        if len(text) > MOST_CHARACTERS:
            raise DataError(
                f"{file}: describes itself in {len(text):,} characters; "
                f"allowed: {MOST_CHARACTERS:,}; get the adapter again"
            )
        return Description.model_validate_json(text)
    except ValidationError as problem:
        where, _, what = first_problem(problem)
        raise DataError(
            f"{file}: its metadata do not describe an adapter of this project "
            f"({where}: {what}); get the adapter again"
        ) from None
