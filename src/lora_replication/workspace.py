"""A study's folders and what all its runs share: data, encoder, records."""

from functools import cached_property
from pathlib import Path
from typing import Self

from lora_replication.data.manifest import Manifest, read_manifest, read_tokens
from lora_replication.data.reviews import PARTS
from lora_replication.data.tokens import Tokens
from lora_replication.encoders import Encoder, locate_encoder
from lora_replication.errors import DataError
from lora_replication.record import Record, Role, Run, Settings, read_record
from lora_replication.study import Study
from lora_replication.training import RESULTS


class Workspace:
    """Where a study's files are. Everything is read when first needed.

    Args:
        study: checked parameters.
        root: the project's folder, with ``data/``, ``runs/`` and ``reports/``; ``runs``: another
            name for the second.

    Attributes:
        data, runs, report: the study's own folders there.
        state: of locks and checkpoints.
    """

    def __init__(self, study: Study, root: Path = Path(), runs: str = "runs") -> None:
        self.study = study
        self.data = root / "data" / study.study
        self.runs = root / runs / study.study
        self.state = root / "build" / "state" / study.study
        self.report = root / "reports" / study.study

    @classmethod
    def published(cls, study: Study, root: Path) -> Self:
        """The one that a published report carries: ``reports/<study>/data`` and ``records``."""
        workspace = cls(study, root)
        workspace.data = workspace.report / "data"
        workspace.runs = workspace.report / "records"
        return workspace

    @cached_property
    def manifest(self) -> Manifest:
        """Of the prepared data. Raises ``DataError`` where it is missing."""
        return read_manifest(self.data)

    def check_data(self) -> None:
        """Raise ``DataError`` unless the data is what the study asks for now."""
        if other := self.manifest.differences(self.study):
            raise DataError(
                f"{self.data}: prepared for other parameters ({'; '.join(other)}); "
                f"run lora-replication run {self.study.study}, which prepares again"
            )

    @cached_property
    def encoder(self) -> Encoder:
        """Found and checked. Raises ``DataError`` unless the data was prepared for it."""
        encoder = locate_encoder(self.study.model)
        if encoder.sha256 != self.manifest.encoder.weights_sha256:
            raise DataError(
                f"{encoder.folder}: its weights or config are not those that the data was prepared "
                f"for; restore them, or run lora-replication run {self.study.study}"
            )
        return encoder

    @cached_property
    def tokens(self) -> dict[str, Tokens]:
        """Of each part, checked against the manifest. Raises ``DataError``."""
        self.check_data()
        return {part: read_tokens(self.data, part, self.manifest) for part in PARTS}

    def run(self, role: Role, name: str, settings: Settings, seed: int, nudge: int = 0) -> Run:
        """A run on this study's prepared data, with its classes."""
        return Run(
            study=self.study.study,
            title=self.study.title,
            role=role,
            name=name,
            settings=settings.model_copy(update={"classes": self.manifest.classes}),
            seed=seed,
            nudge=nudge,
            data=self.manifest.digest,
            weights=self.manifest.encoder.weights_sha256,
            results=RESULTS,
        )

    def folder(self, run: Run) -> Path:
        """Where ``run`` is recorded."""
        return self.runs / run.place

    def done(self, run: Run) -> Record | None:
        """The record of exactly this run, by its key, if it has a result."""
        record = read_record(self.folder(run))
        return record if record and record.is_done and record.asked.key == run.key else None

    def holds(self, folder: Path, record: Record) -> bool:
        """Whether the record in ``folder`` is this study's and where it says; else it is a copy."""
        return folder == self.folder(record.asked) and record.asked.study == self.study.study

    def lock(self, place: Path | str) -> Path:
        """Held by the process that trains the run of this ``Run.place``."""
        return self.state / f"{place}.lock"
