"""A run and its record: what was asked, what happened, where.

Records are the truth; reports and MLflow are made from them. A run's folder holds ``record.json``,
``predictions.parquet`` and ``adapter.safetensors``; the record is written last, so where it is the
run is whole.
"""

import json
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    computed_field,
    model_validator,
)

from lora_replication.errors import DataError
from lora_replication.files import digest, write_whole
from lora_replication.study import LoraParams, MethodParams, Study

RECORD = "record.json"
PREDICTIONS = "predictions.parquet"
ADAPTER = "adapter.safetensors"

SCHEMA = 2
"""Of ``record.json``."""

Role = Literal["method", "cell", "winner", "runner_up"]

FOLDERS = {"cell": "grid", "runner_up": "grid_runners_up"}
"""Where the runs of a role that has many names are in a study's folder."""

Status = Literal["ok", "diverged", "failed", "killed", "timeout"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Settings(_Part):
    """Everything asked of one training run but its seed.

    Attributes:
        encoder: name of the encoder, see ``encoders``.
        max_tokens: longer reviews were cut there.
        epochs, batch_size, learning_rate, precision, device: as in ``study.TrainParams``.
        trains: "head" (the two layers after the encoder), "lora" or "all".
        lora: the LoRA configuration where ``trains`` is "lora".
        evaluate_train: whether the chosen epoch is also evaluated on the training reviews.
        stop_one_class: whether training ends after an epoch that predicts a single class.
    """

    encoder: str
    max_tokens: int
    epochs: int
    batch_size: int
    learning_rate: float
    precision: Literal["fp16-mixed", "bf16-mixed", "fp32"]
    device: Literal["cuda", "cpu"]
    trains: Literal["head", "lora", "all"]
    lora: LoraParams | None = None
    evaluate_train: bool = True
    stop_one_class: bool = False

    @classmethod
    def of(cls, study: Study, method: MethodParams, **others: bool) -> Self:
        """The settings of ``method`` with all that it takes from ``study``; ``others`` as given."""
        return cls(
            encoder=study.model.encoder,
            max_tokens=study.model.max_tokens,
            epochs=study.train.epochs,
            batch_size=study.train.batch_size,
            learning_rate=method.learning_rate or study.train.learning_rate,
            precision=study.train.precision,
            device=study.train.device,
            trains=method.trains,
            lora=method.lora,
            **others,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values without those at their defaults, so that a new option changes no old key."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Run(_Part):
    """A run that is asked for: all that decides its result, and where it belongs.

    Attributes:
        study: the study's name; ``title``: as tables and pages show it.
        role: "method" (one of the study's methods), "cell" (a grid configuration), "winner" or
            "runner_up" (the grid's winner, or a configuration next to it, on a fresh seed).
        name: the method's name, the configuration's (``r8-a16-query-value``), or ``grid_winner``.
        settings: the resolved parameters.
        seed: names every random draw, together with its purpose.
        data: sha256 of the data manifest's digests.
        weights: sha256 of the encoder's weights file.
        results: version of the code's results, see ``training.RESULTS``.
        key: sha256 over settings, seed, data, weights and results. Equal keys, equal results, on
            processors of one class.
    """

    study: str
    title: str
    role: Role
    name: str
    settings: Settings
    seed: int
    data: str
    weights: str
    results: int

    @model_validator(mode="wrap")
    @classmethod
    def _check_key(cls, content: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """The key is computed anew, so one that is stored must be the same."""
        stored = content.get("key") if isinstance(content, dict) else None
        if stored is None:
            return validate(content)
        run = validate({name: value for name, value in content.items() if name != "key"})
        if run.key != stored:
            raise ValueError("what was asked does not make its key, so it was altered")
        return run

    @computed_field  # type: ignore[prop-decorator]  # as pydantic documents it
    @cached_property
    def key(self) -> str:
        """See ``Attributes``."""
        return digest(
            {
                "settings": self.settings.as_dict(),
                "seed": self.seed,
                "data": self.data,
                "weights": self.weights,
                "results": self.results,
            }
        )

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.name} seed {self.seed}"

    @property
    def place(self) -> Path:
        """Its folder in its study's: ``<method>/seed-<k>``, ``grid/<configuration>/seed-<k>``."""
        return Path(FOLDERS.get(self.role, "")) / self.name / f"seed-{self.seed}"


class Count(_Part):
    """An accuracy as counted: ``correct`` of ``reviews``; ``ones`` were predicted 1 (positive)."""

    correct: int
    reviews: int
    ones: int

    @property
    def fraction(self) -> float:
        """Accuracy, 0 to 1."""
        return self.correct / self.reviews

    @property
    def one_class(self) -> bool:
        """Whether a single class was predicted."""
        return self.ones in (0, self.reviews)


class Epoch(_Part):
    """One pass over the training reviews. Losses are means of cross-entropy in nats.

    ``train_loss`` and ``train_accuracy`` were taken while training, with dropout on; ``val_*``
    after the epoch, in evaluation mode. Losses that are not finite are None, and so are the
    accuracies of the epoch in which a run diverged.
    """

    epoch: int
    train_loss: float | None
    train_accuracy: float | None
    val_loss: float | None
    val_accuracy: float | None
    seconds: float


class Happened(_Part):
    """The outcome of a run.

    Attributes:
        status: ok, diverged (loss or weights not finite), failed (``error`` says how), killed,
            timeout.
        attempt: how often it was tried in its sweep up to here, from 1.
        error: what went wrong, for failed, killed and timeout.
        first_bad_step: the first training step with a loss that is not finite, counted from 1 over
            all epochs. A run in fp16 can have one and be ok: its scaler skips such steps.
        one_class: the chosen epoch predicts a single class on the test reviews.
        epochs: in order, from 1.
        best_epoch: the first epoch with the highest validation accuracy.
        stopped_after: the epoch after which training ended because of a single predicted class.
        train, val, test: counts at the best epoch; None where not evaluated or not ok.
        trainable_parameters, total_parameters: numbers of scalars.
        notes: such as a rank above a layer's smaller side.
        pack: how many configurations trained together with this one, itself included.
        training_seconds, evaluation_seconds: monotonic wall time, over all parts of an interrupted
            run; in a pack, an equal share.
        tokens_per_second: real tokens (no padding) trained per second of training.
        peak_memory_bytes: of the run, or its pack: resident in the process on CPU, allocated on
            the device on CUDA.
    """

    status: Status
    attempt: int = 1
    error: str | None = None
    first_bad_step: int | None = None
    one_class: bool = False
    epochs: list[Epoch] = []
    best_epoch: int | None = None
    stopped_after: int | None = None
    train: Count | None = None
    val: Count | None = None
    test: Count | None = None
    trainable_parameters: int | None = None
    total_parameters: int | None = None
    notes: list[str] = []
    pack: int = 1
    training_seconds: float | None = None
    evaluation_seconds: float | None = None
    tokens_per_second: float | None = None
    peak_memory_bytes: int | None = None


class Where(_Part):
    """The machine and the software.

    Attributes:
        git_commit: of the project, None outside git; ``git_dirty``: whether tracked files differed.
        versions: of python, torch, transformers and so on.
        cpu, gpu: model names; ``threads``: of torch; ``platform``: operating system.
        started, finished: UTC, ISO 8601.
        data_source, data_revision, encoder_revision: as the manifest names them.
    """

    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, str]
    cpu: str
    cores: int
    memory_bytes: int
    gpu: str | None
    threads: int
    platform: str
    started: str
    finished: str
    data_source: str
    data_revision: str | None
    encoder_revision: str | None


class Record(_Part):
    """One run, whole."""

    schema_version: Literal[2] = 2
    asked: Run
    happened: Happened
    where: Where

    @property
    def is_done(self) -> bool:
        """Whether the run has a result; failed, killed and timed-out runs are tried again."""
        return self.happened.status in ("ok", "diverged")

    def to_json(self) -> bytes:
        """The content of ``record.json``."""
        content = self.model_dump(mode="json")
        content["asked"]["settings"] = self.asked.settings.as_dict()
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes, file: Path) -> Self:
        """Read a record. Raises ``DataError``, which names ``file``."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            if first["loc"] == ("schema_version",):
                raise DataError(
                    f"{file}: a record of schema {first['input']!r}, this version reads {SCHEMA}; "
                    "delete it to train the run again, or use the version that wrote it"
                ) from None
            raise DataError(
                f"{file}: not a record of this project ({where}: {first['msg']}); "
                "delete it to run it again"
            ) from None


def write_record(record: Record, folder: Path) -> None:
    """Write ``record.json`` into ``folder``, whole or not at all."""
    write_whole(folder / RECORD, record.to_json())


def read_record(folder: Path) -> Record | None:
    """The record in ``folder``, None where there is none. Raises ``DataError``."""
    file = folder / RECORD
    try:
        content = file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as problem:
        raise DataError(
            f"{file}: can't be read ({problem.strerror}); mend or remove it to run it again"
        ) from None
    return Record.from_json(content, file)


def read_records(folder: Path) -> list[tuple[Path, Record]]:
    """Every record below ``folder`` with its own folder, in the order of the folders' names."""
    folders = sorted(file.parent for file in folder.rglob(RECORD))
    return [(found, record) for found in folders if (record := read_record(found))]
